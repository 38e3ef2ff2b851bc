package shadow

import (
	"testing"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// A request without a source is live. One with an unknown source is never live.
func TestSourceOf(t *testing.T) {
	for value, want := range map[executorv1.Source]Source{
		executorv1.Source_SOURCE_UNSPECIFIED: Live, executorv1.Source_SOURCE_LIVE: Live,
		executorv1.Source_SOURCE_REPLAY: Replay, executorv1.Source_SOURCE_SIMULATED: Simulated,
		4: Simulated, 257: Simulated, -1: Simulated,
	} {
		if got := SourceOf(value); got != want {
			t.Errorf("%d: got %v, want %v", value, got, want)
		}
	}
}

// Every source of the contracts has a name, and the two contracts agree on the values.
func TestSourcesOfTheContracts(t *testing.T) {
	if got, want := len(Sources()), len(executorv1.Source_name)-1; got != want {
		t.Errorf("got %d sources, want %d", got, want)
	}
	for _, s := range Sources() {
		if s.String() == "" || SourceOf(s.proto()) != s {
			t.Errorf("%d: name %q, back from the contract %v", s, s, SourceOf(s.proto()))
		}
		if a, b := s.proto().String(), mlenginev1.Source(s.proto()).String(); a != b {
			t.Errorf("executor calls it %s, ml-engine %s", a, b)
		}
	}
}
