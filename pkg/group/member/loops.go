package member

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

const (
	// firstRetry and lastRetry are the shortest and the longest wait before a watch is created again.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	// longestPoll bounds the time between polls, whatever the lease.
	longestPoll = 10 * time.Second
	// pollWait and blocksWait bound a call.
	pollWait   = 5 * time.Second
	blocksWait = 10 * time.Second
	// blocksPeriod is how often closed blocks are published.
	blocksPeriod = 2 * time.Second
	// maxMissed is how many new records polls may find that the watch has missed. Then the watch is created again.
	maxMissed = 2
	// maxTrouble bounds the trouble of a report, in bytes.
	maxTrouble = 512
)

// pause waits for a random time between half of d and d. It reports whether ctx is still active.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// watch takes messages, and creates the watch again whenever it ends.
func (h *Member) watch(ctx context.Context) {
	wait := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		watching, end := context.WithCancel(ctx)
		h.mu.Lock()
		h.rewatch, h.missed = end, 0
		h.mu.Unlock()
		_ = h.opts.Carrier.Watch(watching, h.opts.ID, func(k group.Kind, data []byte) {
			if k == group.RecordMessage {
				h.mu.Lock()
				h.missed = 0
				h.mu.Unlock()
			}
			h.take(k, data)
		}) // polls report that the carrier is unreachable
		end()
		if time.Since(began) > lastRetry {
			wait = firstRetry
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// poll reads record and stops, at least as often as records are renewed.
func (h *Member) poll(ctx context.Context) {
	for {
		every := h.pollPeriod()
		h.readStored(ctx, min(pollWait, max(every, time.Second)))
		if !pause(ctx, every) {
			return
		}
	}
}

func (h *Member) pollPeriod() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	every := longestPoll
	if lease := h.follower.Lease(); lease > 0 {
		every = min(every, lease/group.PollsPerLease)
	}
	return every
}

func (h *Member) readStored(ctx context.Context, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	record, _, err := h.opts.Carrier.Record(ctx)
	h.answered(err)
	if err == nil && record != nil {
		if h.take(group.RecordMessage, record) {
			h.miss()
		}
	}
	stops, _ := h.opts.Carrier.Stops(ctx) // the next poll reads what could not be read
	for _, stop := range stops {
		h.take(group.StopMessage, stop)
	}
}

// miss counts a new record that a poll has found, even if it is refused, and ends a watch that has stalled: only the watch
// delivers commands.
func (h *Member) miss() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.missed++; h.missed >= maxMissed {
		h.missed = 0
		h.rewatch()
	}
}

// report publishes a report every [group.ReportPeriod]. The first report comes after a random delay, since executors may
// start together.
func (h *Member) report(ctx context.Context) {
	if !pause(ctx, group.ReportPeriod) {
		return
	}
	tick := time.NewTicker(group.ReportPeriod)
	defer tick.Stop()
	for {
		h.reportNow(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (h *Member) reportNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, group.ReportPeriod)
	defer cancel()
	h.mu.Lock()
	made, answers := time.Now(), h.answers // before the report is: it has what was there by then
	h.mu.Unlock()
	shadow, rollout, err := h.opts.Executor.Report(ctx)
	if err != nil {
		h.opts.Logger.Error("no report for the group can be made", "error", err)
		return
	}
	h.mu.Lock()
	h.apply() // what was refused may be possible now
	s, now := h.follower.State(), time.Now()
	h.sequence++
	r := &fleetv1.Report{
		Group: h.opts.Group, ExecutorId: h.opts.ID, InstanceId: h.opts.Instance, Sequence: h.sequence, Host: h.opts.Host,
		Revision: s.Revision, Renewal: s.Renewal, Session: h.follower.Session(now), Trouble: text.Cut(h.why(), maxTrouble),
		Nonce: h.follower.Nonce(made), Shadow: shadow, Rollout: rollout, CommandNonce: answers,
	}
	h.mu.Unlock()
	raw, err := proto.Marshal(r)
	switch {
	case err != nil:
	case len(raw) > group.MaxReport:
		err = fmt.Errorf("it has %d bytes: want at most %d", len(raw), group.MaxReport)
	default:
		_ = h.opts.Carrier.PublishReport(ctx, h.opts.ID, raw) // polls report that the carrier is unreachable
	}
	if err != nil {
		h.opts.Logger.Error("no report for the group can be made", "error", err)
	}
}

// publish publishes closed blocks, in order, until each was acknowledged.
func (h *Member) publish(ctx context.Context) {
	for {
		more, err := h.publishNext(ctx)
		if err != nil && ctx.Err() == nil {
			h.opts.Logger.Debug("a block was not published", "error", err)
		}
		if !more && !pause(ctx, blocksPeriod) {
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// publishNext publishes the next block, and reports whether there are more.
func (h *Member) publishNext(ctx context.Context) (more bool, err error) {
	h.mu.Lock()
	after := h.sent
	h.mu.Unlock()
	page, number, waiting, err := h.opts.Executor.Blocks(after)
	h.mu.Lock()
	h.waiting = waiting
	h.mu.Unlock()
	if err != nil || page == nil {
		return false, err
	}
	raw, err := proto.Marshal(&fleetv1.Blocks{Group: h.opts.Group, Quality: page})
	if err != nil {
		return false, err
	}
	if len(raw) <= group.MaxBlocks {
		ctx, cancel := context.WithTimeout(ctx, blocksWait)
		defer cancel()
		if err := h.opts.Carrier.PublishBlocks(ctx, h.opts.ID, blockKey(page), raw); err != nil {
			return false, err
		}
	} else { // no record is as large
		h.opts.Logger.Error("a block is too large for the group", "bytes", len(raw), "number", number)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent, h.waiting = number, waiting-1
	return waiting > 1, nil
}

// blockKey identifies a block of all executors.
func blockKey(page *executorv1.GetQualityReportResponse) string {
	r := page.GetRecords()[0]
	return fmt.Sprintf("%s.%s.%s.%s.%d", r.GetExecutorId(), r.GetModelDigest(), r.GetBaselineDigest(), r.GetPlanDigest(), r.GetBlock())
}
