package shadow

import (
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Request is one decision that may get a shadow.
type Request struct {
	// ID and Symbol identify it for OnSettled and for watchers; nothing else uses them.
	ID, Symbol string
	Source     Source
	// EventTime is the time of the market state, zero if unknown. ml-engine may count drift by it; the score does not
	// depend on it.
	EventTime time.Time
	// Arrival is when the request came in; its shadow's time runs from here.
	Arrival time.Time
	// Baseline is the baseline's score, in [0,1], and BaselineLatency the time it took.
	Baseline        float64
	BaselineLatency time.Duration
	// Gated is set if a gate decides on the request.
	Gated Gated
	// Span is the decision's span, nil unless its trace is sampled.
	Span trace.Span
	// State is what to score. Fault is why it cannot be scored; it makes the shadow [Rejected].
	State State
	Fault error
}

// Gated is a request that a gate decides on.
type Gated interface {
	// Advise gets the result of the request's shadow, exactly once and before it is counted. It must not block.
	Advise(Result)
	// Decision returns the decision, and the revision of the rollout that it was made under. Call it after Advise.
	Decision() (decide.Decision, uint64)
}

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

// SourceOf returns the source that a request names. A request without one is [Live]. An unknown one is [Simulated], so that it
// is never reported as live.
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

// Sampler decides which requests get a shadow, by a hash of the request id. Replicas with the same salt choose the same
// requests, and a larger percentage includes all requests of a smaller one.
type Sampler struct {
	salt  string
	limit uint64 // hashes below it are sampled
	all   bool
}

// NewSampler returns a sampler of percent, in [0,100], of the requests.
func NewSampler(salt string, percent float64) (*Sampler, error) {
	if math.IsNaN(percent) || percent < 0 || percent > 100 {
		return nil, fmt.Errorf("sample percent %v: want a number in [0,100]", percent)
	}
	return &Sampler{salt: salt, limit: uint64(percent / 100 * math.MaxUint64), all: percent == 100}, nil
}

// Sampled reports whether the request gets a shadow.
func (s *Sampler) Sampled(requestID string) bool {
	if s.all {
		return true
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(s.salt)
	_, _ = d.Write([]byte{0}) // so that salt "a" id "bc" is not salt "ab" id "c"
	_, _ = d.WriteString(requestID)
	return d.Sum64() < s.limit
}
