package fleetgroup

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

const (
	// blocksAge is how long blocks are reused after a read. A block closes every 15 minutes.
	blocksAge = time.Minute
	// maxBlocks bounds the blocks that are read: 90 days of 1,000 executors under one plan, and some room.
	maxBlocks = 10_000_000
	// maxDigest bounds a digest, in bytes.
	maxDigest = 64
)

// blockKey identifies the records of an executor for one model, baseline and plan, by their digests.
type blockKey struct{ executor, model, baseline, plan string }

// blocks are the stored records of closed blocks. They are read at most once within [blocksAge].
type blocks struct {
	mu sync.Mutex
	// reading is closed when the read in progress ends; nil if there is none.
	reading chan struct{}
	at      time.Time
	err     error
	all     map[blockKey]*blockSet
	// left is the number of messages that were left out.
	left int
}

// blockSet are the records of one key.
type blockSet struct {
	plan    *executorv1.QualityPlan
	labels  *executorv1.LabelCounts
	lost    uint64
	records map[int64]*executorv1.QualityRecord
	// differs is set if two records of one block differ, although records of closed blocks never change.
	differs bool
}

// load returns the stored blocks. If ctx ends, the read continues for the next call.
func (g *Group) load(ctx context.Context) (map[blockKey]*blockSet, error) {
	b := &g.blocks
	b.mu.Lock()
	if b.reading == nil && (b.at.IsZero() || b.err != nil || time.Since(b.at) > blocksAge) {
		b.reading = make(chan struct{})
		g.done.Go(func() { g.readBlocks(context.WithoutCancel(ctx)) })
	}
	reading := b.reading
	b.mu.Unlock()
	if reading != nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-reading:
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all, b.err
}

// readTimeout bounds a read of all blocks.
const readTimeout = 5 * time.Minute

func (g *Group) readBlocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stop := context.AfterFunc(g.ctx, cancel)
	defer stop()
	all, n, left := map[blockKey]*blockSet{}, 0, 0
	var first error // why the first message was left out
	err := g.Carrier.Blocks(ctx, func(raw []byte) {
		q, err := g.page(raw)
		if err == nil && n+len(q.GetRecords()) > maxBlocks {
			err = fmt.Errorf("there are more than %d records", maxBlocks)
		}
		if err != nil {
			left++
			first = cmp.Or(first, err)
			return
		}
		n += len(q.GetRecords())
		add(all, q)
	})
	g.blocks.mu.Lock()
	if left > g.blocks.left && g.Logger != nil {
		g.Logger.Warn("stored blocks of quality records are left out", "group", g.Group(), "messages", left, "first", first)
	}
	g.blocks.all, g.blocks.err, g.blocks.at, g.blocks.left = all, err, time.Now(), left
	close(g.blocks.reading)
	g.blocks.reading = nil
	g.blocks.mu.Unlock()
}

// page returns the page of a message. Package fleet validates the records when they are used.
func (g *Group) page(raw []byte) (*executorv1.GetQualityReportResponse, error) {
	b := &fleetv1.Blocks{}
	err := proto.Unmarshal(raw, b)
	q := b.GetQuality()
	switch {
	case raw == nil || len(raw) > group.MaxBlocks:
		return nil, fmt.Errorf("it is longer than %d bytes, or its executor is not the one in its subject", group.MaxBlocks)
	case err != nil:
		return nil, fmt.Errorf("it cannot be read: %w", err)
	case b.GetGroup() != g.Group():
		return nil, fmt.Errorf("it is of group %.80q", b.GetGroup())
	case max(len(q.GetModelDigest()), len(q.GetBaselineDigest()), len(q.GetPlan().GetDigest())) > maxDigest:
		return nil, fmt.Errorf("a digest is longer than %d bytes", maxDigest)
	}
	return q, group.CheckName(q.GetExecutorId())
}

// add adds a page of an executor.
func add(all map[blockKey]*blockSet, q *executorv1.GetQualityReportResponse) {
	key := blockKey{q.GetExecutorId(), q.GetModelDigest(), q.GetBaselineDigest(), q.GetPlan().GetDigest()}
	s := all[key]
	if s == nil {
		s = &blockSet{plan: q.GetPlan(), records: map[int64]*executorv1.QualityRecord{}}
		all[key] = s
	}
	s.labels, s.lost = q.GetLabels(), q.GetLost()
	for _, r := range q.GetRecords() {
		if known := s.records[r.GetBlock()]; known != nil && !proto.Equal(known, r) {
			s.differs = true
			continue
		}
		s.records[r.GetBlock()] = r
	}
}

// quality answers a request for the records of an executor. The error is a gRPC status.
func (g *Group) quality(ctx context.Context, id string, req *executorv1.GetQualityReportRequest) (*executorv1.GetQualityReportResponse, error) {
	all, err := g.load(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "the stored blocks cannot be read: %v", err)
	}
	key := blockKey{id, req.GetModelDigest(), req.GetBaselineDigest(), req.GetPlanDigest()}
	var plan *executorv1.QualityPlan
	if key == (blockKey{executor: id}) {
		if key, plan, err = g.current(id); err != nil {
			return nil, err
		}
	}
	r := &executorv1.GetQualityReportResponse{
		ExecutorId: id, ModelDigest: key.model, BaselineDigest: key.baseline, Plan: plan, Labels: &executorv1.LabelCounts{},
	}
	s := all[key]
	if s == nil {
		return r, g.planOf(all, key, r)
	}
	if s.differs {
		return nil, status.Errorf(codes.DataLoss, "two different records of one block are stored for executor %s", id)
	}
	r.Plan, r.Labels, r.Lost = s.plan, s.labels, s.lost
	for _, block := range slices.Sorted(maps.Keys(s.records)) {
		if req.FromBlock == nil || block >= req.GetFromBlock() { //nolint:protogetter // presence
			r.Records = append(r.Records, s.records[block])
		}
	}
	return r, nil
}

// planOf completes the answer for an executor without records: it adds the plan that others have under the digest.
func (g *Group) planOf(all map[blockKey]*blockSet, key blockKey, r *executorv1.GetQualityReportResponse) error {
	if key.plan == "" || r.GetPlan() != nil {
		return nil
	}
	for other, s := range all {
		if other.plan == key.plan {
			r.Plan = s.plan
			return nil
		}
	}
	for _, m := range g.Members(time.Now()) {
		if p := m.Report.GetRollout().GetRollout().GetPlan(); p.GetDigest() == key.plan {
			r.Plan = p
			return nil
		}
	}
	return status.Errorf(codes.NotFound, "nobody in the group knows the quality plan %.12s", key.plan)
}

// current returns the key of the current requests: from the report of the executor or, if it is gone, from the reports of all
// others, which must agree.
func (g *Group) current(id string) (blockKey, *executorv1.QualityPlan, error) {
	now := time.Now()
	of := func(m Member) (blockKey, *executorv1.QualityPlan) {
		s, plan := m.Report.GetShadow(), m.Report.GetRollout().GetRollout().GetPlan()
		return blockKey{id, s.GetShadowDigest(), s.GetBaselineDigest(), plan.GetDigest()}, plan
	}
	if m, ok := g.Member(id, now); ok {
		key, plan := of(m)
		return key, plan, nil
	}
	var key blockKey
	var plan *executorv1.QualityPlan
	for _, m := range g.Members(now) {
		k, p := of(m)
		if key != (blockKey{}) && k != key {
			return key, nil, status.Errorf(codes.FailedPrecondition, "executor %s is gone, and the others do not have the same model, baseline and plan", id)
		}
		key, plan = k, p
	}
	if key == (blockKey{}) {
		return key, nil, status.Error(codes.Unavailable, "no executor of the group reports")
	}
	return key, plan, nil
}

// Recorders returns the executors that are present. It also returns those that are gone and have stored blocks for the current
// model, baseline and plan, since their records count too.
func (g *Group) Recorders(ctx context.Context) ([]fleet.Executor, error) {
	all, err := g.load(ctx)
	if err != nil {
		return nil, err
	}
	present := g.Executors()
	now, wanted := map[string]bool{}, map[blockKey]bool{}
	for _, e := range present {
		now[e.Addr] = true
		if key, _, err := g.current(e.Addr); err == nil {
			key.executor = ""
			wanted[key] = true
		}
	}
	var gone []string
	for key := range all {
		id := key.executor
		if key.executor = ""; wanted[key] && !now[id] {
			now[id] = true
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	for _, id := range gone {
		present = append(present, g.executor(id))
	}
	return present, nil
}
