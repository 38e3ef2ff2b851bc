// Package outcometest makes block records from synthetic scores and labels, for tests of quality verdicts.
package outcometest

import (
	"strconv"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	symbol = "TEST"
	minute = int64(time.Minute / time.Millisecond)
)

// Plan returns a plan under which two equal scorers reach a PASS after 100 blocks, which is 25 hours.
func Plan() outcome.Plan {
	return outcome.Plan{DisagreementCap: 0.05, Margin: 0.02, Alpha: 0.05, LabelSource: outcome.Quotes, HorizonMS: 15 * minute}
}

// Score returns a model's score for a row with the baseline's score q and the label y.
type Score func(q float64, y bool) float64

// Equal returns the baseline's score.
func Equal(q float64, _ bool) float64 { return q }

// Toward moves the baseline's score toward the label by the distance, or away from it if the distance is negative. Within the
// match tolerance, the match rate does not show the difference.
func Toward(distance float64) Score {
	return func(q float64, y bool) float64 {
		if y {
			return q + distance
		}
		return q - distance
	}
}

// Records returns the records of that many blocks of live requests, one request a minute. The last block is the latest whose
// labels are all known at end. The key has no block and no plan.
func Records(p outcome.Plan, key outcome.Key, end time.Time, blocks int, score Score) []outcome.Record {
	j := outcome.NewJoin(key, p)
	width, horizon := p.Width().Milliseconds(), p.HorizonMS
	last := p.Block(end.UnixMilli()-horizon-outcome.Grace.Milliseconds()) - 1
	from, to := (last-int64(blocks)+1)*width, (last+1)*width
	for t := from; t <= to+horizon+outcome.Grace.Milliseconds(); t += minute {
		answer := outcome.Negative
		if positive(t - horizon) {
			answer = outcome.Positive
		}
		j.Minute(symbol, t, answer)
		if t < to {
			q := 0.25 + 0.025*float64(t/minute%5)
			j.Add(&outcome.Row{
				ID: strconv.FormatInt(t, 10), Symbol: symbol, Time: t, Arrival: t, Source: outcome.Live, Baseline: q, Shadow: score(q, positive(t)), Revision: 1,
			})
		}
	}
	return j.Closed()
}

// positive reports whether the label of the minute that ends at t is 1. Three in ten are.
func positive(t int64) bool { return t/minute*7%10 < 3 }

// Page answers a request for records of one model, baseline and plan: the matching records from the block on.
func Page(req *executorv1.GetQualityReportRequest, executor string, plan *executorv1.QualityPlan, records []outcome.Record) *executorv1.GetQualityReportResponse {
	const most = 50
	r := &executorv1.GetQualityReportResponse{
		ExecutorId: executor, ModelDigest: req.GetModelDigest(), BaselineDigest: req.GetBaselineDigest(), Plan: plan, Labels: &executorv1.LabelCounts{},
	}
	for i := range records {
		one := &records[i]
		switch {
		case one.Model != req.GetModelDigest() || one.Baseline != req.GetBaselineDigest() || one.Plan != req.GetPlanDigest():
		case req.FromBlock != nil && one.Block < req.GetFromBlock(): //nolint:protogetter // presence
		case len(r.GetRecords()) == most:
			r.NextBlock = &one.Block
			return r
		default:
			r.Records = append(r.Records, wire.Record(one))
		}
	}
	return r
}
