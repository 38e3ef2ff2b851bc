package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Decisions counts who decided. Reasons are in the order of the gate's checks.
type Decisions struct {
	// Seconds is the length of the period before the status; 0 means since the start of the executor.
	Seconds float64 `json:"seconds"`
	// N is the number of requests, Model the number that the model decided.
	N     uint64 `json:"n"`
	Model uint64 `json:"model"`
	// Reasons are why the baseline decided the other requests.
	Reasons []DecisionsOf `json:"reasons"`
}

// DecisionsOf counts the baseline's decisions for one reason, which is named as in the metrics.
type DecisionsOf struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
	// Total is the count since the start of the executor.
	Total uint64 `json:"total"`
}

// deciders names the counts of decisions in a reading. Their bucket is the number of the reason; 0 is for the model.
const deciders = "ml_decisions_total"

// countsOf returns the decisions since the start as counts that a window can take.
func countsOf(g *executorv1.GateStatus) Histogram {
	h := Histogram{Counts: make([]uint64, len(executorv1.FallbackReason_name))}
	for _, d := range g.GetDecisions() {
		if r := int(d.GetFallbackReason()); r >= 0 && r < len(h.Counts) {
			h.Counts[r] += d.GetCount()
			h.N += d.GetCount()
		}
	}
	return h
}

func decisionsOf(recent, total Histogram, length time.Duration) *Decisions {
	d := &Decisions{Seconds: length.Seconds(), N: recent.N, Model: recent.Counts[0]}
	for r := 1; r < len(recent.Counts); r++ {
		name := strings.TrimPrefix(executorv1.FallbackReason(r).String(), "FALLBACK_REASON_")
		d.Reasons = append(d.Reasons, DecisionsOf{Reason: strings.ToLower(name), Count: recent.Counts[r], Total: total.Counts[r]})
	}
	return d
}

// fewest is the number of selected requests below which their fallbacks are not judged.
const fewest = 50

// fallback returns the share of requests that the model could have decided but the baseline did; 0 if there are too few.
func (d *Decisions) fallback() float64 {
	refused := uint64(0)
	for _, r := range d.Reasons[executorv1.FallbackReason_FALLBACK_REASON_NOT_SELECTED:] { // earlier reasons are about the gate's state
		refused += r.Count
	}
	if d.Model+refused < fewest {
		return 0
	}
	return float64(refused) / float64(d.Model+refused)
}

// relevant reports whether the page shows anything about a gate: if one is set, or a latch is.
func relevant(rollout *executorv1.Rollout, g *executorv1.GateStatus) bool {
	return rollout.GetGate() != nil || len(g.GetLatches()) > 0
}

// decider answers who decides.
func decider(rollout *executorv1.Rollout, g *executorv1.GateStatus, d *Decisions) Answer {
	a := Answer{Question: "Who decides?", Word: "the baseline", Tone: bad, Why: "no request yet, n = 0"}
	if d.N > 0 {
		a.Why = fmt.Sprintf("the model decided %s, n = %d", percent(d.Model, d.N), d.N)
	}
	switch latches := g.GetLatches(); {
	case len(latches) > 0:
		a.Why = latched(latches) + "; " + a.Why
	case g.GetOpen() && d.fallback() > gate.MaxFallbacks:
		a.Tone = neutral
		a.Word, a.Why = "partly the model", fmt.Sprintf("the baseline decides %.0f %% of what the model may decide; %s", 100*d.fallback(), a.Why)
	case g.GetOpen() && rollout.GetPercent() == 100 && rollout.GetGate().GetAllSymbols():
		a.Word, a.Tone = "the model", good
	case g.GetOpen():
		a.Word, a.Tone = "partly the model", good
		a.Why = fmt.Sprintf("it may decide %.4g %% of the requests; %s", rollout.GetPercent(), a.Why)
	case rollout.GetAwaitingRenewal():
		a.Why = "the executor has restarted and the lease has not been renewed; " + a.Why
	case rollout.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY:
		a.Why = "a latch was cleared and the gate not started again; " + a.Why
	default:
		a.Why = "the lease has lapsed; " + a.Why
	}
	return a
}

// latched describes every latch. The page shows the reasons, which are free text, elsewhere.
func latched(latches []*executorv1.GateLatchState) string {
	all := make([]string, 0, len(latches))
	for _, l := range latches {
		name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(l.GetLatch().String(), "GATE_LATCH_"), "_", " "))
		all = append(all, fmt.Sprintf("%s by %s since %s", name, l.GetSetBy(), l.GetSetTime().AsTime().Format("Jan 2 15:04:05 UTC")))
	}
	return strings.Join(all, "; ")
}
