package driftview

import (
	"fmt"
	"math"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// eighths are bars of increasing height.
var eighths = []rune("▁▂▃▄▅▆▇█")

// bars returns the lines below a feature: the shares of reference and current rows in its bins. It skips bins that are
// empty on both sides.
func bars(bins []drift.BinReading, how Bins) string {
	highest := 0.0
	var seen []drift.BinReading
	for _, b := range bins {
		if b.Reference > 0 || b.Current > 0 {
			seen = append(seen, b)
			highest = max(highest, b.Reference, b.Current)
		}
	}
	var out strings.Builder
	switch {
	case len(seen) == 0 || how == NoBins:
	case how == Blocks:
		reference, current := make([]string, len(seen)), make([]string, len(seen))
		for i, b := range seen {
			reference[i], current[i] = block(b.Reference, highest), block(b.Current, highest)
		}
		fmt.Fprintf(&out, "    reference  %s\n    current    %s\n", strings.Join(reference, " "), strings.Join(current, " "))
	default:
		out.WriteString("    reference>current, % of rows:")
		for _, b := range seen {
			fmt.Fprintf(&out, "  %s %.1f>%.1f", b.Bin, 100*b.Reference, 100*b.Current)
		}
		out.WriteString("\n")
	}
	return out.String()
}

// block returns the bar of a share. The highest share gets the full bar, a nonzero share at least the lowest, and zero
// gets a dot.
func block(share, highest float64) string {
	if share == 0 {
		return "·"
	}
	n := len(eighths)
	return string(eighths[min(max(int(math.Round(share/highest*float64(n))), 1), n)-1])
}
