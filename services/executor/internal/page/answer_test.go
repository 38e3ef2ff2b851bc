package page

import (
	"errors"
	"strings"
	"testing"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func check(t *testing.T, name string, got Answer, word string, tone Tone, why string) {
	t.Helper()
	if got.Word != word || got.Tone != tone || !strings.Contains(got.Why, why) || got.Question == "" {
		t.Errorf("%s: got %+v, want %q, %s, with %q", name, got, word, tone, why)
	}
}

func TestHarmed(t *testing.T) {
	edges := []float64{.1, 1, 10}
	for name, tt := range map[string]struct {
		counts []uint64
		word   string
		tone   Tone
		why    string
	}{
		"nothing":          {[]uint64{0, 0, 0, 0}, "too early", neutral, "n = 0"},
		"too few":          {[]uint64{499, 0, 0, 0}, "too early", neutral, "n = 499"},
		"all fast":         {[]uint64{400, 100, 0, 0}, "no", good, "100.00 % of its answers took at most 1 ms, want >= 99 %, n = 500"},
		"just fast enough": {[]uint64{900, 90, 9, 1}, "no", good, "99.00 %"},
		"one too slow":     {[]uint64{900, 89, 10, 1}, "yes", bad, "98.90 %"},
	} {
		n := uint64(0)
		for _, c := range tt.counts {
			n += c
		}
		check(t, name, affected(Histogram{Edges: edges, Counts: tt.counts, N: n}), tt.word, tt.tone, tt.why)
	}
}

func TestSeen(t *testing.T) {
	const (
		match, deadline = executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH, executorv1.ShadowOutcome_SHADOW_OUTCOME_DEADLINE
		shed, skipped   = executorv1.ShadowOutcome_SHADOW_OUTCOME_SHED, executorv1.ShadowOutcome_SHADOW_OUTCOME_NOT_SAMPLED
	)
	type counts = map[executorv1.ShadowOutcome]uint64
	for name, tt := range map[string]struct {
		counts  counts
		breaker executorv1.BreakerState
		off     bool
		word    string
		tone    Tone
		why     string
	}{
		"nothing":              {nil, 1, false, "too early", neutral, "n = 0"},
		"none in the sample":   {counts{skipped: 5000}, 1, false, "too early", neutral, "n = 0"},
		"too few":              {counts{match: 499}, 1, false, "too early", neutral, "n = 499"},
		"all":                  {counts{match: 500, skipped: 5000}, 1, false, "yes", good, "100.00 % of the sampled shadows were compared, want >= 95 %, n = 500"},
		"enough":               {counts{match: 950, deadline: 25, shed: 25}, 1, false, "yes", good, "95.00 %"},
		"not enough":           {counts{match: 949, deadline: 25, shed: 26}, 1, false, "partly", bad, "94.90 %"},
		"none":                 {counts{deadline: 20}, 1, false, "no", bad, "n = 20"},
		"half open":            {counts{match: 1000}, 2, false, "yes", good, "n = 1000"},
		"open":                 {counts{match: 1000}, 3, false, "no", bad, "the breaker is open"},
		"switched off":         {counts{match: 1000}, 1, true, "off", neutral, "the rollout is at 0 %"},
		"switched off, broken": {counts{deadline: 1000}, 3, true, "off", neutral, "the rollout is at 0 %"},
	} {
		report := &executorv1.GetShadowReportResponse{
			Window:  &executorv1.ShadowWindow{Outcomes: outcomes(tt.counts), Comparisons: tt.counts[match]},
			Breaker: &executorv1.BreakerStatus{State: tt.breaker},
		}
		if !tt.off {
			report.SamplePercent = 100
		}
		check(t, name, seen(report), tt.word, tt.tone, tt.why)
	}
}

func TestAgrees(t *testing.T) {
	for name, tt := range map[string]struct {
		matches, n, missing uint64
		word                string
		tone                Tone
		why                 string
	}{
		"nothing":             {0, 0, 0, "too early", neutral, "n = 0"},
		"nothing seen":        {0, 0, 900, "too early", neutral, "n = 0"},
		"too few":             {499, 499, 0, "too early", neutral, "n = 499"},
		"enough":              {475, 500, 0, "yes", good, "95.00 % of the comparisons match (95 % bounds 92.7 to 96.6 %), want >= 95 %, n = 500"},
		"not enough":          {474, 500, 0, "no", bad, "94.80 %"},
		"nearly all seen":     {500, 500, 26, "yes", good, "n = 500"},
		"too much is missing": {500, 500, 27, "as far as seen", neutral, "94.88 % if every missing shadow were a mismatch"},
		"bad, as far as seen": {474, 500, 500, "no", bad, "94.80 %"},
	} {
		low, high := .9271, .9663
		w := &executorv1.ShadowWindow{Comparisons: tt.n, MatchRateLow: &low, MatchRateHigh: &high, Outcomes: outcomes(
			map[executorv1.ShadowOutcome]uint64{
				executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH: tt.matches, executorv1.ShadowOutcome_SHADOW_OUTCOME_MISMATCH: tt.n - tt.matches,
				executorv1.ShadowOutcome_SHADOW_OUTCOME_BREAKER_OPEN: tt.missing,
			},
		)}
		check(t, name, agrees(w), tt.word, tt.tone, tt.why)
	}
}

func TestDrifted(t *testing.T) {
	const pass, fail, open = mlenginev1.DriftVerdict_DRIFT_VERDICT_PASS, mlenginev1.DriftVerdict_DRIFT_VERDICT_FAIL, mlenginev1.DriftVerdict_DRIFT_VERDICT_INCONCLUSIVE
	for name, tt := range map[string]struct {
		overall *mlenginev1.DriftReading
		err     error
		word    string
		tone    Tone
		why     string
	}{
		"no engine":   {nil, errors.New("connection refused"), "not known", neutral, "connection refused"},
		"no report":   {nil, errNotReported, "not reported", neutral, "a model server of the Open Inference Protocol reports no drift"},
		"no rows":     {nil, nil, "not known", neutral, "n = 900"},
		"pass":        {psi(.05, .1, pass, ""), nil, "no", good, "overall PSI 0.050, want below 0.2, n = 900 rows of 6 days"},
		"fail":        {psi(.5, .1, fail, "above both"), nil, "yes", bad, "0.500, want below 0.2, n = 900 rows of 6 days: above both"},
		"too early":   {psi(.5, .7, open, "noise"), nil, "too early", neutral, "noise"},
		"not reached": {psi(.5, .7, mlenginev1.DriftVerdict_DRIFT_VERDICT_ERROR, "bins lost"), nil, "not known", neutral, "bins lost"},
	} {
		d := &mlenginev1.GetDriftResponse{Rows: 900, Days: 6, Overall: tt.overall}
		if tt.err != nil {
			d = nil
		}
		check(t, name, drifted(d, tt.err), tt.word, tt.tone, tt.why)
	}
}

func TestBetter(t *testing.T) {
	days := 2.5
	for name, tt := range map[string]struct {
		v    *executorv1.QualityJudgment
		word string
		tone Tone
		why  string
	}{
		"no plan":    {nil, "not known", neutral, "no quality plan"},
		"better":     {&executorv1.QualityJudgment{Verdict: executorv1.QualityVerdict_QUALITY_VERDICT_BETTER, Difference: 0.0123, Lower: 0.001, Upper: 0.02, CountedBlocks: 300}, "yes", good, "+0.0123, between +0.0010 and +0.0200, n = 300 blocks"},
		"not worse":  {&executorv1.QualityJudgment{Verdict: executorv1.QualityVerdict_QUALITY_VERDICT_PASS}, "not worse", good, ""},
		"worse":      {&executorv1.QualityJudgment{Verdict: executorv1.QualityVerdict_QUALITY_VERDICT_FAIL}, "no, worse", bad, ""},
		"days left":  {&executorv1.QualityJudgment{Verdict: executorv1.QualityVerdict_QUALITY_VERDICT_INCONCLUSIVE, DaysNeeded: &days}, "too early", neutral, "2.5 more days"},
		"never":      {&executorv1.QualityJudgment{Verdict: executorv1.QualityVerdict_QUALITY_VERDICT_INCONCLUSIVE}, "too early", neutral, "it never passes"},
		"no verdict": {&executorv1.QualityJudgment{Verdict: executorv1.QualityVerdict_QUALITY_VERDICT_ERROR, Reasons: []string{"labels are missing"}}, "not known", neutral, "labels are missing"},
	} {
		if a := better(tt.v); a.Word != tt.word || a.Tone != tt.tone || !strings.Contains(a.Why, tt.why) {
			t.Errorf("%s: got %+v", name, a)
		}
	}
}
