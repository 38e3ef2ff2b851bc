// Package wire converts the plans and block records of package outcome to messages of executor's contract, and back.
package wire

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// labelSources are the label sources in the contract.
var labelSources = map[outcome.LabelSource]executorv1.LabelSource{
	outcome.Quotes:   executorv1.LabelSource_LABEL_SOURCE_QUOTES,
	outcome.Reported: executorv1.LabelSource_LABEL_SOURCE_REPORTED,
}

// Plan returns a plan as a message; nil for the zero Plan.
func Plan(p outcome.Plan) *executorv1.QualityPlan {
	if p == (outcome.Plan{}) {
		return nil
	}
	return &executorv1.QualityPlan{
		Digest: p.Digest(), DisagreementCap: p.DisagreementCap, Margin: p.Margin, Alpha: p.Alpha,
		LabelSource: labelSources[p.LabelSource], Horizon: durationpb.New(p.Horizon()),
	}
}

// PlanOf returns a valid plan; the zero Plan for nil. A digest in the message must match the plan's values.
func PlanOf(q *executorv1.QualityPlan) (outcome.Plan, error) {
	if q == nil {
		return outcome.Plan{}, nil
	}
	p := outcome.Plan{DisagreementCap: q.GetDisagreementCap(), Margin: q.GetMargin(), Alpha: q.GetAlpha()}
	for source, named := range labelSources {
		if named == q.GetLabelSource() {
			p.LabelSource = source
		}
	}
	horizon, err := q.GetHorizon().AsDuration(), q.GetHorizon().CheckValid()
	p.HorizonMS = horizon.Milliseconds()
	switch {
	case err != nil:
		err = fmt.Errorf("quality plan: horizon: %w", err)
	case horizon%time.Millisecond != 0:
		err = fmt.Errorf("quality plan: horizon %v: want whole milliseconds", horizon)
	default:
		err = p.Validate()
	}
	if err == nil && q.GetDigest() != "" && q.GetDigest() != p.Digest() {
		err = fmt.Errorf("quality plan: digest %.64q: its values have %s", q.GetDigest(), p.Digest())
	}
	if err != nil {
		return outcome.Plan{}, err
	}
	return p, nil
}

// Record returns a record as a message.
func Record(r *outcome.Record) *executorv1.QualityRecord {
	f, s := &r.Fallbacks, &r.Sources
	return &executorv1.QualityRecord{
		ExecutorId: r.Executor, Block: r.Block, ModelDigest: r.Model, BaselineDigest: r.Baseline, PlanDigest: r.Plan,
		RolloutRevision: r.Revision, Labels: Labels(&r.Labels), Lost: r.Lost, RequestsThrough: r.Through, Rows: r.Rows,
		Fallbacks: &executorv1.FallbackCounts{
			None: f[outcome.None], Disagreement: f[outcome.Disagreement], Deadline: f[outcome.Deadline], BreakerOpen: f[outcome.BreakerOpen],
			Shed: f[outcome.Shed], Unavailable: f[outcome.Unavailable], InvalidScore: f[outcome.InvalidScore],
			Rejected: f[outcome.Rejected], Internal: f[outcome.Internal], Canceled: f[outcome.Canceled],
		},
		Sources: &executorv1.SourceCounts{Live: s[outcome.Live], Replay: s[outcome.Replay], Simulated: s[outcome.Simulated]},
		SumD:    int64(r.SumD), SumD2: int64(r.SumD2), SumBaselineLoss: int64(r.SumLoss), SumBaselineScore: int64(r.SumBaseline),
		SumPolicyScore: int64(r.SumPolicy), BaselineScores: scoresProto(r.BaselineScores), PolicyScores: scoresProto(r.PolicyScores),
	}
}

// RecordOf returns a record. The caller must validate it.
func RecordOf(r *executorv1.QualityRecord) outcome.Record {
	f, s := r.GetFallbacks(), r.GetSources()
	return outcome.Record{
		Key: outcome.Key{
			Executor: r.GetExecutorId(), Block: r.GetBlock(), Model: r.GetModelDigest(), Baseline: r.GetBaselineDigest(), Plan: r.GetPlanDigest(),
		},
		Revision: r.GetRolloutRevision(), Labels: LabelsOf(r.GetLabels()), Lost: r.GetLost(), Through: r.GetRequestsThrough(), Rows: r.GetRows(),
		Fallbacks: outcome.FallbackCounts{
			outcome.None: f.GetNone(), outcome.Disagreement: f.GetDisagreement(), outcome.Deadline: f.GetDeadline(), outcome.BreakerOpen: f.GetBreakerOpen(),
			outcome.Shed: f.GetShed(), outcome.Unavailable: f.GetUnavailable(), outcome.InvalidScore: f.GetInvalidScore(),
			outcome.Rejected: f.GetRejected(), outcome.Internal: f.GetInternal(), outcome.Canceled: f.GetCanceled(),
		},
		Sources: outcome.SourceCounts{outcome.Live: s.GetLive(), outcome.Replay: s.GetReplay(), outcome.Simulated: s.GetSimulated()},
		SumD:    outcome.Fixed(r.GetSumD()), SumD2: outcome.Fixed(r.GetSumD2()), SumLoss: outcome.Fixed(r.GetSumBaselineLoss()),
		SumBaseline: outcome.Fixed(r.GetSumBaselineScore()), SumPolicy: outcome.Fixed(r.GetSumPolicyScore()),
		BaselineScores: histogramOf(r.GetBaselineScores()), PolicyScores: histogramOf(r.GetPolicyScores()),
	}
}

// Labels returns counts of labels as a message.
func Labels(l *outcome.LabelCounts) *executorv1.LabelCounts {
	return &executorv1.LabelCounts{
		Matured: l[outcome.Matured], Pending: l[outcome.Pending], NoLabel: l[outcome.NoLabel], NotReady: l[outcome.NotReady],
		Expired: l[outcome.Expired], Duplicate: l[outcome.Duplicate], NotKept: l[outcome.NotKept],
	}
}

// LabelsOf returns counts of labels.
func LabelsOf(l *executorv1.LabelCounts) outcome.LabelCounts {
	return outcome.LabelCounts{
		outcome.Matured: l.GetMatured(), outcome.Pending: l.GetPending(), outcome.NoLabel: l.GetNoLabel(), outcome.NotReady: l.GetNotReady(),
		outcome.Expired: l.GetExpired(), outcome.Duplicate: l.GetDuplicate(), outcome.NotKept: l.GetNotKept(),
	}
}

func scoresProto(h outcome.Histogram) *executorv1.ScoreCounts {
	c := &executorv1.ScoreCounts{}
	for _, b := range h {
		c.Bins, c.Negatives, c.Positives = append(c.Bins, uint32(b[0])), append(c.Negatives, b[1]), append(c.Positives, b[2])
	}
	return c
}

// histogramOf returns a histogram. It stops where bins do not ascend or a list ends early: the record then does not validate,
// since its row count differs from the histogram's.
func histogramOf(c *executorv1.ScoreCounts) (h outcome.Histogram) {
	for i, bin := range c.GetBins() {
		if i >= len(c.GetNegatives()) || i >= len(c.GetPositives()) || bin >= outcome.Bins || i > 0 && bin <= c.GetBins()[i-1] {
			return h
		}
		h = append(h, [3]uint64{uint64(bin), c.GetNegatives()[i], c.GetPositives()[i]})
	}
	return h
}
