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

// quality judges the live quality by the records of all executors. It is nil if none has a plan for it. An executor that does
// not answer, or is too old to have records, is then an error: without its records there is no verdict.
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
		return e.Quality(ctx, "", "", "") // of the requests that come in now
	})
	_ = services.Close() // the answers are there
	if !slices.ContainsFunc(all, func(q *fleet.Quality) bool { return q != nil && q.Plan != (outcome.Plan{}) }) {
		return nil, nil //nolint:nilnil // no plan, so no verdict; an executor that does not answer is missing by its counters
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

// promotedAt returns when the model with the digest was promoted, by the evidence folder; zero if it was not, or another one
// was promoted after it.
func promotedAt(folder, digest string) (time.Time, error) {
	p, err := promote.ReadRecord(folder)
	if p == nil || err != nil || p.Digest != digest {
		return time.Time{}, err
	}
	return p.Time, nil
}

// watch remembers the sample's verdict on live quality, and warns of a FAIL or an alarm once, when it is new.
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
		a.Logger.Error("the model is worse than the baseline on what really happened: roll back with greenlight rollback", "quality", q.Line())
	}
	a.live = q
}
