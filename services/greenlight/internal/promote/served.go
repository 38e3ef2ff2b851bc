package promote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// maxVersion bounds a version that a service reports.
const maxVersion = 80

// finding is what one service said.
type finding struct {
	verdict gate.Verdict
	what    string
	// name is how the service was asked for, process its identity; empty when that is not known.
	name, process string
}

// ask asks every one of them at once, and makes a row of those that say something else than the model.
func ask[T any](name string, all []T, one func(T) finding) Row {
	findings := make([]finding, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { findings[i] = one(s) })
	}
	wg.Wait()
	bad := 0
	var names, processes []string
	for i := range findings {
		f := &findings[i]
		names, processes = append(names, f.name), append(processes, f.process)
		if err := fleet.CheckDistinct("executor", names, processes); err != nil && f.verdict.OK() {
			f.verdict, f.what = gate.Error, err.Error()
		}
		if !f.verdict.OK() {
			bad++
		}
	}
	rule := gate.Rule{Name: name, Op: gate.AtMost, Threshold: 0, Unit: gate.Count}
	row := newRow(gate.Check(rule, gate.Measured(float64(bad), uint64(len(all)))))
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
	return ask(EngineServes, engines, func(e fleet.Engine) finding {
		info, err := e.Scoring.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{})
		if err == nil {
			err = fleet.CheckModel(info)
		}
		return j.serves("ml-engine "+e.Addr, "serves", info.GetVersion(), info.GetDigest(), err)
	})
}

// executors judges whether the model is what answered every executor last.
func (j *judgment) executors(ctx context.Context, executors []fleet.Executor) Row {
	return ask(ExecutorAsks, executors, func(e fleet.Executor) finding {
		report, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
		if err == nil {
			err = fleet.CheckReport(report, time.Now())
		}
		if err == nil && report.GetShadowDigest() == "" {
			return finding{verdict: gate.Inconclusive, what: "no model has answered executor " + e.Addr + " yet"}
		}
		f := j.serves("executor "+e.Addr, "was answered by", report.GetShadowVersion(), report.GetShadowDigest(), err)
		f.name, f.process = e.Addr, report.GetInstanceId()
		return f
	})
}

func (j *judgment) serves(who, verb, version, digest string, err error) finding {
	switch {
	case err != nil:
		return finding{verdict: gate.Error, what: fmt.Sprintf("%s: %v", who, fleet.Plain(err))}
	case digest != j.digest:
		return finding{verdict: gate.Fail, what: fmt.Sprintf("%s %s %s with digest %s", who, verb, text.Clean(version, maxVersion), short(digest))}
	default:
		return finding{verdict: gate.Pass}
	}
}
