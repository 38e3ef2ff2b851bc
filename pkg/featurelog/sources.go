package featurelog

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// unknown is the word for rows without a source.
const unknown = "unknown"

// Sources counts rows by source: "live", "replay", "simulated", or "unknown" for rows without one.
type Sources map[string]int

// Add counts a row.
func (s Sources) Add(r *Row) {
	source := r.Source
	if !evidence.Source(source).Valid() {
		source = unknown
	}
	s[source]++
}

// String names the source of the rows, for example "live" or "mixed (10 live, 3 unknown)".
func (s Sources) String() string {
	var names, counts []string
	for _, name := range []string{string(evidence.Live), string(evidence.Replay), string(evidence.Simulated), unknown} {
		if n := s[name]; n > 0 {
			names, counts = append(names, name), append(counts, fmt.Sprintf("%d %s", n, name))
		}
	}
	switch len(names) {
	case 0:
		return unknown
	case 1:
		return names[0]
	}
	return "mixed (" + strings.Join(counts, ", ") + ")"
}

// Evidence returns the source for evidence based on the rows: live only if every row is live, simulated if any row is,
// and otherwise replay, also for rows without a source.
func (s Sources) Evidence() evidence.Source {
	switch {
	case s[string(evidence.Simulated)] > 0:
		return evidence.Simulated
	case s[string(evidence.Live)] > 0 && len(s) == 1:
		return evidence.Live
	}
	return evidence.Replay
}
