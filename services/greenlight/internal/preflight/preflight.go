package preflight

import (
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// maxSkew bounds the difference between the clock of an executor and this machine's. Phases take minutes, but evidence is
// compared with logs from other machines.
const maxSkew = time.Second

// finding is an observation and the reasons why it fails.
type finding struct {
	gate.Observation

	reasons []string
}

// missing returns the finding for something that could not be observed.
func missing(format string, args ...any) finding {
	return finding{Observation: gate.Missing(fmt.Sprintf(format, args...))}
}

// Judge reports what blocks a canary on the services. It changes nothing. Drift is not included, because it never blocks a
// canary.
func Judge(in *Inspection) gate.Scorecard {
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
	for _, e := range in.Executors {
		if e.Report != nil {
			answered++
		}
	}

	none("services not reached", "executors and ml-engines that did not answer, contradict themselves, or are named twice", len(in.Executors)+len(in.Models()), in.unreached())
	check(gate.Rule{Name: "models served", What: "different models that the ml-engines serve", Op: gate.AtMost, Threshold: 1, Unit: gate.Count},
		different(in.Models()))
	check(gate.Rule{Name: "baselines", What: "different baselines that the executors decide by", Op: gate.AtMost, Threshold: 1, Unit: gate.Count},
		different(in.Baselines()))
	check(gate.Rule{Name: "offline verdict", What: "whether the served model has passed offline: 1 for yes", Op: gate.AtLeast, Threshold: 1, Unit: gate.Count},
		in.offline())
	none("rollouts held", "executors whose rollout somebody holds", answered, in.each(func(e fleet.ExecutorReading) string {
		if e.Rollout.GetRollout().GetHolder() == "" {
			return ""
		}
		return fleet.DescribeRollout(e.Rollout.GetRollout())
	}))
	none("breakers not closed", "executors that do not ask ml-engine", answered, in.each(func(e fleet.ExecutorReading) string {
		if s := e.Report.GetBreaker().GetState(); s != executorv1.BreakerState_BREAKER_STATE_CLOSED {
			return "its breaker is " + strings.ToLower(fleet.Breaker(s))
		}
		return ""
	}))
	check(gate.Rule{Name: "clock skew", What: "largest clock difference between an executor and this machine", Op: gate.AtMost, Threshold: float64(maxSkew.Milliseconds()), Unit: gate.Millis},
		in.skew())
	check(gate.Rule{Name: "requests seen", What: "requests since the executors started: nothing is judged without traffic", Op: gate.AtLeast, Threshold: 1, Unit: gate.Count},
		in.traffic())
	return card
}

// unreached lists all failures.
func (in *Inspection) unreached() []string {
	var all []string
	for _, err := range in.failures() {
		all = append(all, fleet.OneLine(err))
	}
	return all
}

// different counts the models, and names them if there are several.
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

func (in *Inspection) offline() finding {
	model, ok := same(in.Models())
	switch {
	case in.OfflineErr != nil:
		return missing("%s", fleet.OneLine(in.OfflineErr))
	case !ok:
		return missing("the ml-engines serve no single model")
	case model.Digest != in.Offline.Model.Digest:
		return missing("the evidence is about %s, but %s is served", in.Offline.Model, model)
	case !in.Offline.Result.OK():
		return finding{gate.Measured(0, 1), []string{"greenlight eval said " + string(in.Offline.Result)}}
	}
	return finding{Observation: gate.Measured(1, 1)}
}

// each calls fn for every executor that answered, and returns the non-empty results with the addresses.
func (in *Inspection) each(fn func(fleet.ExecutorReading) string) []string {
	var all []string
	for _, e := range in.Executors {
		if e.Err() != nil {
			continue
		}
		if text := fn(e); text != "" {
			all = append(all, fmt.Sprintf("executor %s: %s", e.Addr, text))
		}
	}
	return all
}

func (in *Inspection) skew() finding {
	worst, n := time.Duration(0), uint64(0)
	for _, e := range in.Executors {
		if e.Report != nil {
			n++
			worst = max(worst, e.Ahead.Abs())
		}
	}
	reasons := in.each(func(e fleet.ExecutorReading) string {
		if e.Ahead.Abs() <= maxSkew {
			return ""
		}
		return fmt.Sprintf("its clock is %s ahead of this one", e.Ahead.Round(time.Millisecond))
	})
	return finding{gate.Measured(float64(worst)/float64(time.Millisecond), n), reasons}
}

func (in *Inspection) traffic() finding {
	n := uint64(0)
	for _, e := range in.Executors {
		n += e.Report.GetRequestsTotal()
	}
	return finding{Observation: gate.Measured(float64(n), n)}
}

const (
	// File is the name of the report in the evidence.
	File = "canary_preflight.json"
	// Schema is the evidence schema of the report.
	Schema = "greenlight/canary_preflight/v1"
)

// Report is the body of canary_preflight.json.
type Report struct {
	Result    gate.Verdict  `json:"result"`
	Checks    []gate.Result `json:"checks"`
	Executors []string      `json:"executors"`
	Engines   []string      `json:"engines"`
	// PSI is the overall index of the last 7 days, which is not judged. It is null if it is unknown: see PSIReason.
	PSI       *float64 `json:"psi"`
	PSIReason string   `json:"psi_reason"`
}

// Write judges the inspection of the services at the addresses, and writes the report. git is the revision of the
// program.
func Write(store *evidence.Store, in *Inspection, executors, engines []string, git string) (*Report, error) {
	card := Judge(in)
	report := &Report{Result: card.Verdict(), Checks: card.Results, Executors: executors, Engines: engines, PSI: in.PSI}
	if in.PSIErr != nil {
		report.PSIReason = in.PSIErr.Error()
	}
	header := evidence.Header{Schema: Schema, Source: evidence.Live, Inputs: in.Offline.Inputs, Git: git}
	if served := in.Models(); len(served) > 0 {
		header.Model = &served[0]
	}
	return report, store.WriteJSON(File, header, report)
}
