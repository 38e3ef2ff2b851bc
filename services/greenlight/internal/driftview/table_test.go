package driftview

import (
	"errors"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

func TestTable(t *testing.T) {
	r := report(t, 7, true, [4]float64{0.3, 0, 0.3, 3})
	for name, bins := range map[string]Bins{"numbers.txt": Numbers, "blocks.txt": Blocks, "no_bins.txt": NoBins} {
		var w strings.Builder
		if err := r.Table(&w, bins); err != nil {
			t.Fatal(err)
		}
		golden(t, name, w.String())
	}
}

// A reference of one day gives no noise.
func TestTableWithoutNoise(t *testing.T) {
	columns, of := sample(1, 1, [4]float64{})
	p, err := drift.NewProfile(columns, of)
	if err != nil {
		t.Fatal(err)
	}
	c := drift.NewCounts(p)
	c.Observe(20_000, []float64{0, 0, 0})
	s, err := p.Snapshot(c, drift.NewNulls(p, 10, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	r := New(s, Window{}, drift.DefaultLimits())
	var w strings.Builder
	if err := r.Table(&w, Blocks); err != nil {
		t.Fatal(err)
	}
	golden(t, "no_noise.txt", w.String())
	if !strings.Contains(r.Line(), "noise not known") {
		t.Errorf("line %q", r.Line())
	}
}

type failing struct{}

var errDisk = errors.New("disk full")

func (failing) Write([]byte) (int, error) { return 0, errDisk }

func TestTableReturnsTheWritersError(t *testing.T) {
	if err := report(t, 7, true, [4]float64{}).Table(failing{}, NoBins); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want %v", err, errDisk)
	}
}

func TestBlock(t *testing.T) {
	tests := []struct {
		share, highest float64
		want           string
	}{
		{0, 1, "·"}, {1e-6, 1, "▁"}, {0.125, 1, "▁"}, {0.5, 1, "▄"}, {0.99, 1, "█"}, {1, 1, "█"}, {0.1, 0.1, "█"},
	}
	for _, tt := range tests {
		if got := block(tt.share, tt.highest); got != tt.want {
			t.Errorf("%v of %v: got %s, want %s", tt.share, tt.highest, got, tt.want)
		}
	}
}
