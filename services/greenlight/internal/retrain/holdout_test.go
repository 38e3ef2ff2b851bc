package retrain

import (
	"math"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// folds returns the folds of the population without models, which drift does not need.
func folds(t *testing.T, p *Population) []train.Fold {
	t.Helper()
	windows, err := train.Folds(p.Days, train.DefaultSplit())
	if err != nil {
		t.Fatal(err)
	}
	out := make([]train.Fold, len(windows))
	for i, w := range windows {
		out[i] = train.Fold{Window: w, OutOfTime: eval.Sample{}}
	}
	return out
}

// TestHoldout compares the medians with a direct computation from the definition: sort, cut, count, add up.
func TestHoldout(t *testing.T) {
	p := population(t, data(t))
	all := folds(t, p)
	calls := 0
	h, err := MeasureHoldout(t.Context(), p, all, func(done, total int) {
		calls++
		if done > total || total != len(all) {
			t.Errorf("progress %d of %d", done, total)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls != len(all)+1 {
		t.Errorf("%d calls of progress, want %d", calls, len(all)+1)
	}
	week, ok := h.Window(7)
	if !ok {
		t.Fatal("no window of 7 days")
	}
	if _, ok := h.Window(28); ok {
		t.Errorf("a window of 28 days on %d days of data", marketDays)
	}
	if got, want := len(week.Sets), 3; got != want {
		t.Fatalf("%d sets, want %d", got, want)
	}
	for _, set := range week.Sets {
		var overall []float64
		byFeature := make([][]float64, len(set.Features))
		for _, fold := range all {
			first := sort.SearchInts(p.Days, fold.TestFrom)
			test := p.Days[first:min(first+7, len(p.Days))]
			sum := 0.0
			for j, f := range set.Features {
				psi := bruteForce(p, f.Feature, fold, test)
				byFeature[j] = append(byFeature[j], psi)
				sum += psi
			}
			overall = append(overall, sum/float64(len(set.Features)))
		}
		if len(overall) != week.Folds || week.Folds < 2 {
			t.Fatalf("%d folds, want %d, at least 2", week.Folds, len(overall))
		}
		same(t, set.Set, set.Overall.PSI, middle(overall))
		for j, f := range set.Features {
			same(t, set.Set+" "+f.Feature, f.PSI, middle(byFeature[j]))
			if !(f.Q99 > 0) {
				t.Errorf("%s: null 99 %% is %v", f.Feature, f.Q99)
			}
		}
		n := 0
		for _, count := range set.Verdicts {
			n += count
		}
		if n != week.Folds || set.Stable < 0 || set.Stable > 1 {
			t.Errorf("%s: verdicts %v and share %v of %d folds", set.Set, set.Verdicts, set.Stable, week.Folds)
		}
	}
	if _, ok := week.Feature("bias"); ok {
		t.Error("the constant is among the features")
	}
}

// same tolerates a few rows at a bin edge: values that differ only by rounding share a bin, but not in the brute-force
// computation.
func same(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-3*math.Abs(want)) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func middle(v []float64) float64 {
	sort.Float64s(v)
	if n := len(v); n%2 == 1 {
		return v[n/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// bruteForce computes the PSI of a feature without frequent single values, as all features here.
func bruteForce(p *Population, name string, fold train.Fold, days []int) float64 {
	column := p.Frame.Column(name)
	var reference, present []float64
	for i, minute := range p.Rows.Minute {
		switch day := p.Rows.Day[i]; {
		case day >= fold.TrainFrom && day < fold.TrainTo:
			reference = append(reference, column[minute])
		case slices.Contains(days, day):
			present = append(present, column[minute])
		}
	}
	reference = reference[:len(reference)-15]
	sorted := slices.Clone(reference)
	sort.Float64s(sorted)
	var edges []float64
	for i := 1; i < 10; i++ {
		at := float64(len(sorted)-1) * float64(i) / 10
		low := sorted[int(at)]
		edges = append(edges, low+(at-math.Floor(at))*(sorted[int(at)+1]-low))
	}
	shares := func(values []float64) []float64 {
		s := make([]float64, 10)
		for _, v := range values {
			bin := 0
			for _, e := range edges {
				if e < v {
					bin++
				}
			}
			s[bin] += 1 / float64(len(values))
		}
		return s
	}
	psi := 0.0
	from, to := shares(reference), shares(present)
	for b := range from {
		a, c := max(drift.Floor, from[b]), max(drift.Floor, to[b])
		psi += (c - a) * math.Log(c/a)
	}
	return psi
}

// TestMarket shows the reason for v1.8.1: on GBPUSD the raw price usually leaves its training range within a week, but the
// relative features do not.
func TestMarket(t *testing.T) {
	dir := need.Data(t)
	d, err := experiment.Read(filepath.Join(dir, "gbpusd-fxcm-1m-bidask"), marketfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := population(t, d)
	if _, err := DefaultLimits().Check(p); err != nil {
		t.Fatal(err)
	}
	h, err := MeasureHoldout(t.Context(), p, folds(t, p), nil)
	if err != nil {
		t.Fatal(err)
	}
	w, ok := h.Window(testDays)
	if !ok || w.Folds != 2 {
		t.Fatalf("%d folds, want 2", w.Folds)
	}
	mid, _ := w.Feature("mid")
	relative := w.Sets[slices.IndexFunc(w.Sets, func(s HoldoutSet) bool { return s.Set == "v1.8.1" })]
	t.Logf("%d folds: raw mid %.2f, v1.8.1 overall %.3f (null 99 %% %.3f), %v", w.Folds, mid.PSI, relative.Overall.PSI, relative.Overall.Q99, relative.Verdicts)
	if !(mid.PSI > 1) {
		t.Errorf("raw mid %v, want more than 1", mid.PSI)
	}
	if !(relative.Overall.PSI < 0.25 && relative.Overall.PSI < mid.PSI/5) {
		t.Errorf("v1.8.1 overall %v, want less than 0.25 and a fifth of raw mid", relative.Overall.PSI)
	}
}
