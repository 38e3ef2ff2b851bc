package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// PlanOf returns the plan of an answer; the zero Plan if it has none. It returns an error for an invalid plan or a wrong
// digest.
func PlanOf(q *executorv1.QualityPlan) (outcome.Plan, error) {
	if q != nil && q.GetDigest() == "" {
		return outcome.Plan{}, errors.New("the quality plan has no digest")
	}
	return wire.PlanOf(q)
}

// Quality has an executor's records of the quality of a model, for one baseline and plan.
type Quality struct {
	// Executor is the executor's id in its records.
	Executor        string
	Model, Baseline string
	// Plan is the zero Plan without one.
	Plan   outcome.Plan
	Labels outcome.LabelCounts
	Lost   uint64
	// Records are the records of its closed blocks, in order.
	Records []outcome.Record
}

const (
	// maxRecords bounds the records of an executor: 90 days in blocks of 15 minutes, and some room.
	maxRecords = 10_000
	// qualityPage is the timeout of one call for records.
	qualityPage = 10 * time.Second
)

// Quality reads all records of a model, baseline and plan, given by their digests. If all are empty, it reads the records for
// the current requests. The error is a [*CallError] or an [ErrContradicts].
func (e Executor) Quality(ctx context.Context, model, baseline, plan string) (*Quality, error) {
	q, err := e.qualityFrom(ctx, model, baseline, plan, nil)
	if err != nil {
		return nil, err
	}
	return q, nil
}

// qualityFrom is [Executor.Quality] for the records starting at a block; nil means all. With a [*CallError] it also returns
// the pages that were read.
func (e Executor) qualityFrom(ctx context.Context, model, baseline, plan string, from *int64) (*Quality, error) {
	fail := func(err error) error { return contradiction("executor "+e.Addr+", GetQualityReport", err) }
	req := &executorv1.GetQualityReportRequest{ModelDigest: model, BaselineDigest: baseline, PlanDigest: plan, FromBlock: from}
	q := &Quality{}
	for {
		page, cancel := context.WithTimeout(ctx, qualityPage)
		r, err := e.Shadows.GetQualityReport(page, req)
		cancel()
		if err != nil {
			return q, &CallError{"executor " + e.Addr, err}
		}
		if err := q.add(r); err != nil {
			return nil, fail(err)
		}
		if r.NextBlock == nil { //nolint:protogetter // presence
			return q, nil
		}
		if n := len(q.Records); n == 0 || r.GetNextBlock() <= q.Records[n-1].Block || n > maxRecords {
			return nil, fail(fmt.Errorf("next_block is %d after %d records: want a later block, and at most %d records", r.GetNextBlock(), n, maxRecords))
		}
		// Read the rest of the same records, even if the model or the plan changes meanwhile.
		req.ModelDigest, req.BaselineDigest, req.PlanDigest = r.GetModelDigest(), r.GetBaselineDigest(), r.GetPlan().GetDigest()
		next := r.GetNextBlock()
		req.FromBlock = &next
	}
}

// add adds the next page.
func (q *Quality) add(r *executorv1.GetQualityReportResponse) error {
	plan, err := PlanOf(r.GetPlan())
	if err != nil {
		return err
	}
	first := q.Executor == ""
	if !first && (q.Executor != r.GetExecutorId() || q.Model != r.GetModelDigest() || q.Baseline != r.GetBaselineDigest() || q.Plan != plan) {
		return errors.New("the pages are for different executors, models, baselines or plans")
	}
	if r.GetExecutorId() == "" || len(r.GetExecutorId()) > maxShown {
		return fmt.Errorf("executor_id is %s", shown(r.GetExecutorId()))
	}
	q.Executor, q.Model, q.Baseline, q.Plan = r.GetExecutorId(), r.GetModelDigest(), r.GetBaselineDigest(), plan
	q.Labels, q.Lost = wire.LabelsOf(r.GetLabels()), r.GetLost()
	for _, one := range r.GetRecords() {
		record := wire.RecordOf(one)
		if record.Executor != q.Executor || record.Model != q.Model || record.Baseline != q.Baseline {
			return fmt.Errorf("the record of block %d is for another executor, model or baseline", record.Block)
		}
		if n := len(q.Records); n > 0 && record.Block <= q.Records[n-1].Block {
			return fmt.Errorf("the record of block %d follows that of block %d", record.Block, q.Records[n-1].Block)
		}
		if err := record.Validate(plan); err != nil {
			return err
		}
		q.Records = append(q.Records, record)
	}
	return nil
}

// errTwins returns the error for two answers with the same executor id.
func errTwins(who, id string) error {
	return fmt.Errorf("%s have the id %s: one has a copy of the other's state folder, or they are one executor at two addresses", who, id)
}

// JoinQuality joins the records of all executors, in the order of the executors. It returns an error if they are not for the
// same model, baseline and plan, or if two executors have the same id.
func JoinQuality(all []*Quality) (*Quality, error) {
	sum := &Quality{}
	seen := map[string]bool{}
	for i, q := range all {
		if i == 0 {
			sum.Model, sum.Baseline, sum.Plan = q.Model, q.Baseline, q.Plan
		}
		if q.Model != sum.Model || q.Baseline != sum.Baseline || q.Plan != sum.Plan {
			return nil, fmt.Errorf("the executors do not have the same model, baseline and plan: %.12s, %.12s, %.12s and %.12s, %.12s, %.12s",
				sum.Model, sum.Baseline, sum.Plan.Digest(), q.Model, q.Baseline, q.Plan.Digest())
		}
		if seen[q.Executor] {
			return nil, errTwins("two executors", q.Executor)
		}
		seen[q.Executor] = true
		for l, n := range q.Labels {
			sum.Labels[l] += n
		}
		sum.Lost += q.Lost
		sum.Records = append(sum.Records, q.Records...)
	}
	return sum, nil
}
