package canary

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// maxSkew is how far the clocks of the executors may be from this one: a phase is minutes, but evidence is compared with
// the logs of other machines.
const maxSkew = time.Second

// finding is what was observed, and what is wrong with it in particular.
type finding struct {
	gate.Observation

	reasons []string
}

// missing is that nothing could be observed.
func missing(format string, args ...any) finding {
	return finding{Observation: gate.Missing(fmt.Sprintf(format, args...))}
}

// Preflight says whether the pair is fit to be judged: it changes nothing. Drift is not in it, since it blocks no canary.
func Preflight(w *World) gate.Scorecard {
	var card gate.Scorecard
	check := func(r gate.Rule, f finding) {
		result := gate.Check(r, f.Observation)
		if len(f.reasons) > 0 {
			result.Reason = strings.Join(f.reasons, "; ")
		}
		card.Results = append(card.Results, result)
	}
	none := func(name, what string, of int, found []string) {
		rule := gate.Rule{Name: name, What: what, Op: gate.AtMost, Unit: gate.Count}
		if of == 0 {
			check(rule, missing("nobody answered"))
			return
		}
		check(rule, finding{gate.Measured(float64(len(found)), uint64(of)), found})
	}
	answered := 0
	for _, r := range w.Reports {
		if r != nil {
			answered++
		}
	}

	none("services not reached", "executors and ml-engines that did not answer, contradict themselves, or are named twice", len(w.Addrs)+len(w.Models), w.unreached())
	check(gate.Rule{Name: "models served", What: "different models that the ml-engines serve", Op: gate.AtMost, Threshold: 1, Unit: gate.Count},
		different(w.Models))
	check(gate.Rule{Name: "baselines", What: "different baselines that the executors decide by", Op: gate.AtMost, Threshold: 1, Unit: gate.Count},
		different(w.baselines()))
	check(gate.Rule{Name: "offline verdict", What: "whether the model that is served has passed offline: 1 for yes", Op: gate.AtLeast, Threshold: 1, Unit: gate.Count},
		w.offline())
	none("rollouts held", "executors whose rollout somebody holds", answered, w.each(func(_ *executorv1.GetShadowReportResponse, got *executorv1.GetRolloutResponse) string {
		if got.GetRollout().GetHolder() == "" {
			return ""
		}
		return described(got.GetRollout())
	}))
	none("breakers not closed", "executors that do not ask ml-engine", answered, w.each(func(r *executorv1.GetShadowReportResponse, _ *executorv1.GetRolloutResponse) string {
		if s := r.GetBreaker().GetState(); s != executorv1.BreakerState_BREAKER_STATE_CLOSED {
			return "its breaker is " + strings.ToLower(strings.TrimPrefix(s.String(), "BREAKER_STATE_"))
		}
		return ""
	}))
	check(gate.Rule{Name: "clock skew", What: "how far the clock of an executor is from this one", Op: gate.AtMost, Threshold: float64(maxSkew.Milliseconds()), Unit: gate.Millis},
		w.skew())
	check(gate.Rule{Name: "requests seen", What: "requests since the executors started: without traffic nothing is judged", Op: gate.AtLeast, Threshold: 1, Unit: gate.Count},
		w.traffic())
	return card
}

// unreached names the services that did not answer.
func (w *World) unreached() []string {
	var all []string
	for _, err := range append(slices.Clone(w.Errs), w.ModelsErr, w.twice()) {
		if err != nil {
			all = append(all, oneLine(err))
		}
	}
	return all
}

// different counts the models, and names them when there are several.
func different(all []evidence.Model) finding {
	distinct := make(map[string]bool)
	for _, m := range all {
		distinct[m.Digest] = true
	}
	if len(all) == 0 {
		return missing("nobody answered")
	}
	f := finding{Observation: gate.Measured(float64(len(distinct)), uint64(len(all)))}
	if len(distinct) > 1 {
		f.reasons = []string{names(all)}
	}
	return f
}

func (w *World) offline() finding {
	model, ok := same(w.Models)
	switch {
	case w.OfflineErr != nil:
		return missing("%s", oneLine(w.OfflineErr))
	case !ok:
		return missing("no one model is served")
	case model.Digest != w.Offline.Model.Digest:
		return missing("the evidence is of %s, and %s is served", named(w.Offline.Model), named(model))
	case !w.Offline.Result.OK():
		return finding{gate.Measured(0, 1), []string{"greenlight eval said " + string(w.Offline.Result)}}
	}
	return finding{Observation: gate.Measured(1, 1)}
}

// each asks something of every executor that answered, and returns what was said, with the address before it.
func (w *World) each(fn func(*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse) string) []string {
	var all []string
	for i, r := range w.Reports {
		if r == nil {
			continue
		}
		if text := fn(r, w.Rollouts[i]); text != "" {
			all = append(all, fmt.Sprintf("executor %s: %s", w.Addrs[i], text))
		}
	}
	return all
}

func (w *World) skew() finding {
	worst, n := time.Duration(0), uint64(0)
	var reasons []string
	for i, r := range w.Reports {
		if r == nil {
			continue
		}
		n++
		worst = max(worst, w.Skew[i].Abs())
		if s := w.Skew[i]; s.Abs() > maxSkew {
			reasons = append(reasons, fmt.Sprintf("executor %s: its clock is %s ahead of this one", w.Addrs[i], s.Round(time.Millisecond)))
		}
	}
	return finding{gate.Measured(float64(worst)/float64(time.Millisecond), n), reasons}
}

func (w *World) traffic() finding {
	n := uint64(0)
	for _, r := range w.Reports {
		n += r.GetRequestsTotal()
	}
	return finding{Observation: gate.Measured(float64(n), n)}
}
