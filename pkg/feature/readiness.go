package feature

import (
	"fmt"
	"slices"
	"strings"
)

// Readiness describes whether the features of s are defined at the latest minute: "ready", or what is missing, for example
//
//	not ready: rsi14_z needs 720 minutes of rsi14, has 300; sigma_ref needs one completed UTC day with 300 returns (today has 299 so far)
func (b *Builder) Readiness(s *Schema) string {
	var needs []string
	for _, c := range s.columns {
		if c < 0 {
			continue // the caller sends it
		}
		for _, in := range definitions[c].needs {
			lacks := in.lacks(b)
			if need := in.name + " " + lacks; lacks != "" && !slices.Contains(needs, need) {
				needs = append(needs, need)
			}
		}
	}
	switch {
	case needs == nil:
		return "ready"
	case b.minutes == 0:
		return "not ready: no minute is complete"
	}
	return "not ready: " + strings.Join(needs, "; ")
}

// Readiness is [Builder.Readiness], followed by the number of observations in a row that were left out, and why the last one was.
func (l *Live) Readiness(s *Schema) string {
	r := l.features.Readiness(s)
	switch l.refused {
	case 0:
		return r
	case 1:
		return fmt.Sprintf("%s; the last observation was left out (%s)", r, l.note)
	}
	return fmt.Sprintf("%s; the last %d observations were left out (%s)", r, l.refused, l.note)
}
