package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
)

// Records collects the records of executors for one model, baseline and plan. Records of closed blocks never change, so it
// reads only those that it does not have, and it keeps those of an executor that restarted without its state.
type Records struct {
	executors       func(context.Context) ([]Executor, error)
	model, baseline string
	plan            outcome.Plan
	// last is the id that each executor reported last, by address.
	last map[string]string
	// known are the records by executor id, in the order of their blocks.
	known map[string][]outcome.Record
}

// NewRecords returns a collector without records. model and baseline are digests.
func NewRecords(executors func(context.Context) ([]Executor, error), model, baseline string, plan outcome.Plan) *Records {
	return &Records{executors, model, baseline, plan, map[string]string{}, map[string][]outcome.Record{}}
}

// All returns the records that are known.
func (r *Records) All() []outcome.Record {
	var all []outcome.Record
	for _, id := range slices.Sorted(maps.Keys(r.known)) {
		all = append(all, r.known[id]...)
	}
	return all
}

// Read reads the records since the last call from all executors, and reports whether there are any. After an error, the
// records of the other executors and the pages that were read are known.
func (r *Records) Read(ctx context.Context) (more bool, err error) {
	executors, err := r.executors(ctx)
	if err != nil {
		return false, err
	}
	answers, errs := Each(executors, func(e Executor) (*Quality, error) { return r.read(ctx, e) })
	Rethrow(errs...)
	at := map[string]string{}
	for i, q := range answers {
		if q == nil || q.Executor == "" {
			continue
		}
		addr := executors[i].Addr
		if other := at[q.Executor]; other != "" {
			return more, errTwins("executors "+other+" and "+addr, q.Executor)
		}
		at[q.Executor], r.last[addr] = addr, q.Executor
		r.known[q.Executor] = append(r.known[q.Executor], q.Records...)
		more = more || len(q.Records) > 0
	}
	return more, errors.Join(errs...)
}

// read reads the records of one executor that are not yet known.
func (r *Records) read(ctx context.Context, e Executor) (*Quality, error) {
	id := r.last[e.Addr]
	q, err := e.qualityFrom(ctx, r.model, r.baseline, r.plan.Digest(), r.next(id))
	if q != nil && q.Executor != "" && q.Executor != id { // it was asked with the next block of another executor
		q, err = e.qualityFrom(ctx, r.model, r.baseline, r.plan.Digest(), r.next(q.Executor))
	}
	if q == nil || len(q.Records) == 0 {
		return q, err
	}
	if q.Model != r.model || q.Baseline != r.baseline || q.Plan != r.plan {
		return nil, contradiction("executor "+e.Addr+", GetQualityReport", errors.New("the records are not for the requested model, baseline and plan"))
	}
	if next := r.next(q.Executor); next != nil && q.Records[0].Block < *next {
		return nil, contradiction("executor "+e.Addr+", GetQualityReport", fmt.Errorf("the record of block %d is before the first requested block", q.Records[0].Block))
	}
	return q, err
}

// next returns the first unknown block of the executor with the id; nil if none of its blocks is known.
func (r *Records) next(id string) *int64 {
	known := r.known[id]
	if len(known) == 0 {
		return nil
	}
	next := known[len(known)-1].Block + 1
	return &next
}
