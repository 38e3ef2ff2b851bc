package page

import (
	"errors"
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Answer is a question with its answer in a word.
type Answer struct {
	Question string `json:"question"`
	// Word is the answer: "yes", "no", "partly", "as far as seen", "not worse", "no, worse", "off", "too early", "not reported",
	// "not known", "the baseline", "the model" or "partly the model".
	Word string `json:"word"`
	// Tone colours the word; it adds no information.
	Tone Tone `json:"tone"`
	// Why has the figures behind the word, each with its n.
	Why string `json:"why"`
	// Period is the period of the figures, for example "last 5 min" or "since start".
	Period string `json:"period"`
}

// over returns the answer with its period.
func (a Answer) over(period string) Answer {
	a.Period = period
	return a
}

// Tone is an answer's meaning for an operator.
type Tone string

// The tones.
const (
	good    Tone = "good"
	bad     Tone = "bad"
	neutral Tone = "neutral"
)

// affected judges the latencies of the baseline. Its scores need no check: the shadow cannot change them.
func affected(h Histogram) Answer {
	rule := gate.Baseline()
	r := gate.Check(rule, gate.Rate(h.within(gate.BaselineMS), h.N))
	a := Answer{Question: "Is the baseline affected?", Why: fmt.Sprintf("no answer yet, n = %d", h.N)}
	if h.N > 0 {
		a.Why = fmt.Sprintf("%s of its answers took at most %d ms, want %s, n = %d",
			percent(h.within(gate.BaselineMS), h.N), gate.BaselineMS, rule.Target(), h.N)
	}
	a.Word, a.Tone = word(r.Verdict, "no", "yes")
	return a
}

// seen judges how much of the sample was compared. Failures, shed shadows and an open breaker all reduce it.
func seen(report *executorv1.GetShadowReportResponse) Answer {
	w, breaker := report.GetWindow(), report.GetBreaker().GetState()
	a := Answer{Question: "Is the shadow seen?"}
	rule, sampled, verdict := coverage(w)
	a.Word, a.Tone = word(verdict, "yes", "partly")
	a.Why = fmt.Sprintf("no shadow was sampled, n = %d", sampled)
	if sampled > 0 {
		a.Why = fmt.Sprintf("%s of the sampled shadows were compared, want %s, n = %d", percent(w.GetComparisons(), sampled), rule.Target(), sampled)
	}
	switch {
	case report.GetSamplePercent() == 0:
		a.Word, a.Tone, a.Why = "off", neutral, "the rollout is at 0 %; "+a.Why
	case breaker == executorv1.BreakerState_BREAKER_STATE_OPEN:
		a.Word, a.Tone, a.Why = "no", bad, "the breaker is open"+opened(report)+"; "+a.Why
	case sampled > 0 && w.GetComparisons() == 0:
		a.Word, a.Tone = "no", bad
	}
	return a
}

// opened describes when and why the breaker opened.
func opened(report *executorv1.GetShadowReportResponse) string {
	t := report.GetBreaker().GetTrip()
	if t == nil {
		return ""
	}
	return fmt.Sprintf(" since %s: %s, %d of %s failed, %d in a row", t.GetOpenTime().AsTime().Format("15:04:05 UTC"), t.GetReason(),
		t.GetFailures(), text.Count(t.GetFailures()+t.GetSuccesses(), "prediction"), t.GetConsecutiveFailures())
}

// coverage judges how many of the sampled shadows in the window were compared.
func coverage(w *executorv1.ShadowWindow) (rule gate.Rule, sampled uint64, verdict gate.Verdict) {
	for _, o := range w.GetOutcomes() {
		if o.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_NOT_SAMPLED {
			sampled += o.GetCount()
		}
	}
	rule = ruleOf(gate.DefaultPolicy().PhaseRules(), gate.PhaseCoverage)
	return rule, sampled, gate.Check(rule, gate.Rate(w.GetComparisons(), sampled)).Verdict
}

// agrees judges the match rate like a canary. The compared shadows may not represent the others, so a good rate with low
// coverage is not a plain yes.
func agrees(w *executorv1.ShadowWindow) Answer {
	a := Answer{Question: "Does it agree?"}
	rule := matchRule()
	matches := uint64(0)
	for _, o := range w.GetOutcomes() {
		if o.GetOutcome() == executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH {
			matches = o.GetCount()
		}
	}
	n := w.GetComparisons()
	r := gate.Check(rule, gate.Rate(matches, n))
	a.Word, a.Tone = word(r.Verdict, "yes", "no")
	if n == 0 {
		a.Why = "nothing was compared, n = 0"
		return a
	}
	a.Why = fmt.Sprintf("%s of the comparisons match (95 %% bounds %.1f to %.1f %%), want %s, n = %d",
		percent(matches, n), 100*w.GetMatchRateLow(), 100*w.GetMatchRateHigh(), rule.Target(), n)
	a.Why += decisions(w)
	if _, sampled, verdict := coverage(w); r.Verdict == gate.Pass && verdict == gate.Fail {
		a.Word, a.Tone = "as far as seen", neutral
		a.Why += fmt.Sprintf("; %s if every missing shadow were a mismatch", percent(matches, sampled))
	}
	return a
}

// decisions describes the agreement of decisions; it is empty without a decision threshold.
func decisions(w *executorv1.ShadowWindow) string {
	d := w.GetDecisions()
	if d == nil {
		return ""
	}
	line := fmt.Sprintf("; %s lead to the same decision", percent(d.GetBothAbove()+d.GetBothBelow(), w.GetComparisons()))
	if d.Kappa != nil {
		line += fmt.Sprintf(", Cohen's kappa %.3f", d.GetKappa())
	}
	return line
}

// better repeats the verdict on the quality of the model.
func better(v *executorv1.QualityJudgment) Answer {
	a := Answer{Question: "Is it better?", Word: "not known", Tone: neutral, Why: "no quality plan is in force, or the fleet is judged elsewhere"}
	if v == nil {
		return a
	}
	a.Why = fmt.Sprintf("mean difference of the Brier losses %+.4f, between %+.4f and %+.4f, n = %s", v.GetDifference(), v.GetLower(), v.GetUpper(), text.Count(v.GetCountedBlocks(), "block"))
	switch v.GetVerdict() {
	case executorv1.QualityVerdict_QUALITY_VERDICT_BETTER:
		a.Word, a.Tone = "yes", good
	case executorv1.QualityVerdict_QUALITY_VERDICT_PASS:
		a.Word, a.Tone = "not worse", good
	case executorv1.QualityVerdict_QUALITY_VERDICT_FAIL:
		a.Word, a.Tone = "no, worse", bad
	case executorv1.QualityVerdict_QUALITY_VERDICT_INCONCLUSIVE:
		a.Word = "too early"
		if days := v.DaysNeeded; days != nil {
			a.Why += fmt.Sprintf("; %.1f more days at this difference", *days)
		} else {
			a.Why += "; at this difference it never passes"
		}
	case executorv1.QualityVerdict_QUALITY_VERDICT_ERROR, executorv1.QualityVerdict_QUALITY_VERDICT_UNSPECIFIED:
		if len(v.GetReasons()) > 0 {
			a.Why = v.GetReasons()[0]
		}
	}
	return a
}

// drifted repeats ml-engine's verdict on the overall index.
func drifted(d *mlenginev1.GetDriftResponse, failed error) Answer {
	a := Answer{Question: "Has the input drifted?", Word: "not known", Tone: neutral}
	overall := d.GetOverall()
	switch {
	case errors.Is(failed, errNotReported):
		a.Word, a.Why = "not reported", failed.Error()
		return a
	case failed != nil:
		a.Why = failed.Error()
		return a
	case overall == nil:
		a.Why = fmt.Sprintf("no vector in the window, n = %d", d.GetRows())
		return a
	}
	a.Why = fmt.Sprintf("overall PSI %.3f, want below %.3g, n = %s of %s",
		overall.GetPsi(), overall.GetThreshold(), text.Count(d.GetRows(), "row"), text.Count(d.GetDays(), "day"))
	switch overall.GetVerdict() {
	case mlenginev1.DriftVerdict_DRIFT_VERDICT_PASS:
		a.Word, a.Tone = "no", good
	case mlenginev1.DriftVerdict_DRIFT_VERDICT_FAIL:
		a.Word, a.Tone = "yes", bad
	case mlenginev1.DriftVerdict_DRIFT_VERDICT_INCONCLUSIVE:
		a.Word = "too early"
	case mlenginev1.DriftVerdict_DRIFT_VERDICT_ERROR, mlenginev1.DriftVerdict_DRIFT_VERDICT_UNSPECIFIED:
	}
	if reason := overall.GetReason(); reason != "" {
		a.Why += ": " + reason
	}
	return a
}

// word returns the answer and its tone for a verdict.
func word(v gate.Verdict, pass, fail string) (string, Tone) {
	switch v {
	case gate.Pass:
		return pass, good
	case gate.Fail:
		return fail, bad
	case gate.Inconclusive:
		return "too early", neutral
	case gate.Error:
	}
	return "not known", neutral
}

func matchRule() gate.Rule { return ruleOf(gate.Shadow(), gate.ShadowMatch) }

// ruleOf returns the rule with that name.
func ruleOf(rules []gate.Rule, name string) gate.Rule {
	i := slices.IndexFunc(rules, func(r gate.Rule) bool { return r.Name == name })
	return rules[i]
}

func percent(k, n uint64) string { return fmt.Sprintf("%.2f %%", 100*float64(k)/float64(n)) }
