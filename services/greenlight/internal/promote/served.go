package promote

import (
	"context"
	"errors"
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// maxVersion bounds a version that a service reports.
const maxVersion = 80

// finding is the verdict on one service. what is the reason; empty with PASS.
type finding struct {
	verdict gate.Verdict
	what    string
}

// served returns a row that passes if all findings do.
func served(name string, findings []finding) Row {
	bad := 0
	for _, f := range findings {
		if !f.verdict.OK() {
			bad++
		}
	}
	rule := gate.Rule{Name: name, Op: gate.AtMost, Threshold: 0, Unit: gate.Count}
	row := newRow(gate.Check(rule, gate.Measured(float64(bad), uint64(len(findings)))))
	if bad == 0 {
		return row
	}
	row.Verdict, row.Reason = gate.Pass, ""
	for _, f := range findings {
		if !f.verdict.OK() {
			row.worsen(f.verdict, "%s", f.what)
		}
	}
	return row
}

// engines judges whether every ml-engine serves the model.
func (j *judgment) engines(ctx context.Context, engines []fleet.Engine) Row {
	models, errs := fleet.Each(engines, func(e fleet.Engine) (evidence.Model, error) { return e.Model(ctx) })
	fleet.Rethrow(errs...)
	var findings []finding
	for i, e := range engines {
		findings = append(findings, j.is("ml-engine "+e.Addr, "serves", models[i], errs[i]))
	}
	return served(EngineServes, findings)
}

// executors judges whether every executor was last answered by the model, and whether they compare as the policy requires.
func (j *judgment) executors(ctx context.Context, executors []fleet.Executor) Row {
	counters, errs := fleet.ReadCounters(ctx, executors)
	fleet.Rethrow(errs...)
	var findings []finding
	for i, e := range executors {
		var answered evidence.Model
		if errs[i] == nil {
			if err := j.policy.Compares(counters[0].Tolerance, counters[0].Threshold); err != nil {
				findings = append(findings, finding{gate.Error, fmt.Sprintf("executor %s: %v", e.Addr, err)})
			}
			answered, counters = counters[0].Model, counters[1:]
		}
		if errs[i] == nil && answered.Digest == "" {
			findings = append(findings, finding{gate.Inconclusive, "no model has answered executor " + e.Addr + " yet"})
			continue
		}
		findings = append(findings, j.is("executor "+e.Addr, "was answered by", answered, errs[i]))
	}
	return served(ExecutorAsks, findings)
}

// is judges whether a service has the model. Errors of package fleet name the service.
func (j *judgment) is(service, verb string, m evidence.Model, err error) finding {
	var server *fleet.ModelServerError
	switch {
	case errors.As(err, &server):
		return finding{gate.Fail, err.Error()}
	case err != nil:
		return finding{gate.Error, err.Error()}
	case oip.Unpinned(m.Digest):
		return finding{gate.Fail, fmt.Sprintf("%s %s %s of a model server: %s", service, verb, text.Clean(m.Version, maxVersion), oip.Unpromotable)}
	case m.Digest != j.digest:
		return finding{gate.Fail, fmt.Sprintf("%s %s %s with digest %s", service, verb, text.Clean(m.Version, maxVersion), short(m.Digest))}
	}
	return finding{verdict: gate.Pass}
}
