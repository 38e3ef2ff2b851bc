package quality

import (
	"context"
	"errors"
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Live is a report on the current requests of executors, which know their labels.
type Live struct {
	*Report

	// Labels and Lost count the sampled requests of all executors so far.
	Labels outcome.LabelCounts
	Lost   uint64
	// Digest identifies the model. Source is the least live source of the requests.
	Digest string
	Source evidence.Source
}

// FromExecutors combines the records of all executors and judges them. Every executor must answer, for one model, baseline and
// plan.
func FromExecutors(ctx context.Context, executors []fleet.Executor) (*Live, error) {
	all, errs := fleet.Each(executors, func(e fleet.Executor) (*fleet.Quality, error) { return e.Quality(ctx, "", "", "") })
	fleet.Rethrow(errs...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	sum, err := fleet.JoinQuality(all)
	if err != nil {
		return nil, err
	}
	l := &Live{
		Report: &Report{Scores: Executors, Model: sum.Model, Baseline: sum.Baseline, Records: sum.Records},
		Labels: sum.Labels, Lost: sum.Lost, Digest: sum.Model, Source: SourceOf(sum.Records),
	}
	if report, err := executors[0].Report(ctx); err == nil {
		if report.GetShadowDigest() == sum.Model {
			l.Model = report.GetShadowVersion()
		}
		l.Baseline = report.GetBaselineVersion()
	}
	var plan *outcome.Plan
	if sum.Plan != (outcome.Plan{}) {
		plan = &sum.Plan
	}
	err = l.Judge(plan)
	return l, err
}

// SourceOf returns the least live source of the requests in the records. Without requests it is live: nothing was simulated.
func SourceOf(records []outcome.Record) evidence.Source {
	sources := evidence.Sources{}
	for i := range records {
		sources[evidence.Simulated] += records[i].Sources[outcome.Simulated]
		sources[evidence.Replay] += records[i].Sources[outcome.Replay]
	}
	return sources.Least(evidence.Live)
}

// Now describes the labels of all sampled requests, including pending ones.
func (l *Live) Now() string {
	return fmt.Sprintf("%s; %d requests in all", counts(&outcome.Record{Labels: l.Labels, Lost: l.Lost}), l.Labels.Total()+l.Lost)
}
