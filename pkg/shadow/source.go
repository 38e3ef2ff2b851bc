package shadow

import executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"

// Source is where a request comes from. The zero value is [Live].
type Source uint8

// The sources, with the names that evidence uses.
const (
	Live Source = iota
	Replay
	Simulated

	sourceEnd
)

var sourceWords = [sourceEnd]string{Live: "live", Replay: "replay", Simulated: "simulated"}

// SourceOf returns the source that a request names. A request without one is [Live]. An unknown one is [Simulated], so that
// it is never reported as live.
func SourceOf(s executorv1.Source) Source {
	switch s {
	case executorv1.Source_SOURCE_UNSPECIFIED, executorv1.Source_SOURCE_LIVE:
		return Live
	case executorv1.Source_SOURCE_REPLAY:
		return Replay
	case executorv1.Source_SOURCE_SIMULATED:
	}
	return Simulated
}

// Sources returns all sources, live first.
func Sources() []Source { return []Source{Live, Replay, Simulated} }

// proto returns the source in executor's contract; ml-engine's contract has the same values.
func (s Source) proto() executorv1.Source {
	return executorv1.Source_SOURCE_LIVE + executorv1.Source(s)
}

// String returns the name of the source in metrics, logs and evidence.
func (s Source) String() string { return sourceWords[s] }
