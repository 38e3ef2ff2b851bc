package evidence_test

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// Nothing makes figures more live than they are claimed to be, and one request makes them less.
func TestLeastLiveSource(t *testing.T) {
	for _, tt := range []struct {
		claimed evidence.Source
		seen    evidence.Sources
		want    evidence.Source
	}{
		{evidence.Live, nil, evidence.Live},
		{evidence.Live, evidence.Sources{evidence.Live: 5, evidence.Replay: 0, evidence.Simulated: 0}, evidence.Live},
		{evidence.Live, evidence.Sources{evidence.Live: 1e6, evidence.Replay: 1}, evidence.Replay},
		{evidence.Live, evidence.Sources{evidence.Replay: 9, evidence.Simulated: 1}, evidence.Simulated},
		{evidence.Replay, evidence.Sources{evidence.Live: 9}, evidence.Replay},
		{evidence.Replay, evidence.Sources{evidence.Simulated: 1}, evidence.Simulated},
		{evidence.Simulated, evidence.Sources{evidence.Live: 9}, evidence.Simulated},
	} {
		if got := tt.seen.Least(tt.claimed); got != tt.want {
			t.Errorf("claimed %s, seen %v: got %s, want %s", tt.claimed, tt.seen, got, tt.want)
		}
	}
}
