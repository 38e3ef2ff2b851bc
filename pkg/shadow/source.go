package shadow

import executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"

// Source is where a request comes from, in order from the most to the least live. The zero value is [Live].
type Source uint8

// The sources. Their words are those of evidence.
const (
	Live Source = iota
	Replay
	Simulated

	sourceEnd
)

var sourceWords = [sourceEnd]string{Live: "live", Replay: "replay", Simulated: "simulated"}

// SourceOf returns the source that a request names. None is [Live]; one that is not known is [Simulated], so that it is
// never reported as live.
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

// Sources returns all sources, the most live first.
func Sources() []Source { return []Source{Live, Replay, Simulated} }

// proto returns the source as executor's contract words it; ml-engine's has the same values.
func (s Source) proto() executorv1.Source {
	return executorv1.Source_SOURCE_LIVE + executorv1.Source(s)
}

// String returns the word of the source in metrics, logs and evidence.
func (s Source) String() string { return sourceWords[s] }
