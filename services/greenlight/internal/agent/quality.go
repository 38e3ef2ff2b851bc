package agent

import (
	"context"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// quality judges the live quality from the records of all executors. The result is nil if no executor has a quality plan. If
// one has, it is an error if any executor does not answer or is too old to keep records: its records are part of the verdict.
func (s Services) quality(ctx context.Context, now time.Time) (*report.Quality, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	services, err := s.executors()
	if err != nil {
		return nil, err
	}
	recorders, err := services.Recorders(ctx)
	if err != nil {
		return nil, err
	}
	all, errs := fleet.Each(recorders, func(e fleet.Executor) (*fleet.Quality, error) {
		return e.Quality(ctx, "", "", "") // for the current model, baseline and plan
	})
	_ = services.Close() // all answers have been read
	if !slices.ContainsFunc(all, func(q *fleet.Quality) bool { return q != nil && q.Plan != (outcome.Plan{}) }) {
		return nil, nil //nolint:nilnil // no plan, so no verdict; Services.counters reports the executors that do not answer
	}
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return nil, fleet.Plain(errs[i])
	}
	sum, err := fleet.JoinQuality(all)
	if err != nil {
		return nil, err
	}
	promoted, err := promotedAt(s.Evidence, sum.Model)
	if err != nil {
		return nil, err
	}
	return report.QualityOf(sum, now, promoted)
}

// promotedAt returns when the model with the digest was promoted, according to the evidence folder. It is zero if the model
// was not promoted, or if another one was promoted after it.
func promotedAt(folder, digest string) (time.Time, error) {
	p, err := promote.ReadRecord(folder)
	if p == nil || err != nil || p.Digest != digest {
		return time.Time{}, err
	}
	return p.Time, nil
}

// watch remembers the sample's verdict on live quality, and logs each new FAIL or alarm once.
func (a *Agent) watch(sample *report.Sample) {
	q := sample.Quality
	q.Latch(a.live)
	a.Metrics.quality(q)
	if q == nil {
		return
	}
	switch was := a.live; {
	case q.Alarmed() && !was.Alarmed():
		a.Logger.Error("the promoted model has become worse than its margin allows: roll back with greenlight rollback", "quality", q.Line())
	case q.Verdict == outcome.Fail && (was == nil || was.Verdict != outcome.Fail):
		a.Logger.Error("the model is worse than the baseline, judged by real outcomes: roll back with greenlight rollback", "quality", q.Line())
	}
	a.live = q
}
