package driftview

import (
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// roundingError is the allowed relative difference between two sums of the same figures.
const roundingError = 1e-9

// Recheck returns everything in the report that does not follow from its bins, noise, rows and days: a PSI, its status, or
// a verdict. It cannot check the noise, which is drawn from the reference in the model's artifact. statusOf applies the bands
// of the report's schema.
func (r *Report) Recheck(statusOf func(psi float64) drift.Status) []string {
	var found []string
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	limits := drift.DefaultLimits()
	if r.Overall == nil {
		add(r.Verdict != gate.Inconclusive, "the verdict is %s without a PSI", r.Verdict)
		return found
	}
	s := r.Snapshot
	s.Overall = *r.Overall
	check := func(name string, r drift.Reading, days int, threshold float64) {
		verdict, reason := s.Judge(r, days, limits)
		add(verdict != r.Verdict, "%s is %s, but its figures give %s: %s", name, r.Verdict, verdict, reason)
		add(r.Threshold != threshold, "%s was judged by the threshold %v, not %v", name, r.Threshold, threshold)
		want := statusOf(r.PSI)
		add(r.Status != want, "%s has the status %s, but a PSI of %v is %s", name, r.Status, r.PSI, want)
	}
	sum, n, weighted := 0.0, 0, 0.0
	for _, f := range s.Features {
		reference, current := make([]float64, len(f.Bins)), make([]float64, len(f.Bins))
		for i, b := range f.Bins {
			reference[i], current[i] = b.Reference, b.Current
			add(!Agree(b.PSI, drift.PSI(reference[i:i+1], current[i:i+1])), "%s: the PSI of bin %s is not %v", f.Feature, b.Bin, b.PSI)
		}
		add(!Agree(f.PSI, drift.PSI(reference, current)), "%s: the PSI is %v, but its bins give %v", f.Feature, f.PSI, drift.PSI(reference, current))
		check(f.Feature, f.Reading, f.Days, limits.Feature)
		if f.Role == drift.ModelFeature {
			sum, n = sum+f.PSI, n+1
			weighted += f.Weight * f.PSI
		}
	}
	add(n > 0 && !Agree(s.Overall.PSI, sum/float64(n)), "the overall PSI is %v, but the mean over the features is %v", s.Overall.PSI, sum/float64(n))
	check("overall", s.Overall, s.Days, limits.Overall)
	if w := s.Weighted; w != nil {
		add(!Agree(w.PSI, weighted), "the weighted PSI is %v, but the weighted mean over the features is %v", w.PSI, weighted)
		check("overall, weighted", *w, s.Days, limits.Overall)
	}
	if again := New(&s, r.Window, limits); len(found) == 0 {
		add(again.Verdict != r.Verdict, "the verdict is %s, but the PSI values give %s: %s", r.Verdict, again.Verdict, again.Reason)
	}
	for _, p := range r.History {
		if p.Q99 == nil || p.Verdict != gate.Pass && p.Verdict != gate.Fail {
			continue
		}
		verdict, _ := drift.Judge(p.Overall, limits.Overall, *p.Q99)
		add(verdict != p.Verdict, "the window that ends at %s is %s, but its PSI gives %s", p.End.Format("2006-01-02 15:04"), p.Verdict, verdict)
	}
	return found
}

// Agree reports whether two sums of the same figures agree.
func Agree(a, b float64) bool {
	return math.Abs(a-b) <= roundingError*max(1, math.Abs(a), math.Abs(b))
}
