package rollout

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Options of a keeper.
type Options struct {
	// Percent is the share at the first start, in [0,100]: later starts go on from the folder. Salt makes the choice of
	// requests.
	Percent float64
	Salt    string
	// Dir is the state folder, which this process owns. Empty keeps the rollout in memory alone.
	Dir    string
	Logger *slog.Logger
}

// Keeper is the rollout in force. It is safe for concurrent use.
type Keeper struct {
	opts     Options
	instance string
	now      atomic.Pointer[Rollout]
	// writeErrors counts the saves that failed.
	writeErrors atomic.Uint64

	mu      sync.Mutex // for what is in force; requests do not wait for it, and nothing under it waits for the disk
	lapse   *time.Timer
	again   *time.Timer // writes what is in force; nil before the first time
	stopped bool

	// disk has room for one: who puts something into it may write, and knows saved, the rollout in the file. An abort is in
	// force before it waits for that.
	disk    chan struct{}
	saved   *Rollout
	failing atomic.Bool // the last write failed
}

// Open continues with the rollout in the folder, or starts with the percentage of the options. A rollout under a lease is
// 0 % until its holder renews it. One that cannot be read is set aside and means 0 %. The caller stops the keeper.
func Open(opts Options) (*Keeper, error) {
	k := &Keeper{opts: opts, instance: rand.Text(), disk: make(chan struct{}, 1)}
	r, write, err := k.first(time.Now())
	if err != nil {
		return nil, err
	}
	if r.sampler, err = shadow.NewSampler(opts.Salt, r.Percent); err != nil {
		return nil, err
	}
	if !write {
		k.saved = r
	}
	k.mu.Lock()
	k.put(r)
	k.settle(time.Now())
	k.mu.Unlock()
	if write {
		_ = k.flush() // logged and counted
	}
	return k, nil
}

// Stop ends the watch over the lease. What was set stays in the folder.
func (k *Keeper) Stop() {
	k.mu.Lock()
	stopped := k.stopped
	k.stopped = true
	for _, timer := range []*time.Timer{k.lapse, k.again} {
		if timer != nil {
			timer.Stop()
		}
	}
	k.mu.Unlock()
	if stopped || !k.take() {
		return
	}
	defer k.give()
	_ = k.flush() // logged and counted
}

// Instance is a random id of this process.
func (k *Keeper) Instance() string { return k.instance }

// Sampled says whether the request that arrived then gets a shadow.
func (k *Keeper) Sampled(requestID string, arrival time.Time) bool {
	r := k.now.Load()
	return r.Percent > 0 && !r.lapsed(arrival) && r.sampler.Sampled(requestID)
}

// Percent is the share of the requests that get a shadow now, in [0,100].
func (k *Keeper) Percent() float64 { return k.current(time.Now()).Percent }

// Report is the rollout in force, as the contract words it.
func (k *Keeper) Report() *executorv1.Rollout { return k.current(time.Now()).proto() }

// current is the rollout in force at the time.
func (k *Keeper) current(now time.Time) *Rollout {
	if r := k.now.Load(); !r.lapsed(now) {
		return r
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settle(now)
	return k.now.Load()
}

// settle notes a lapse. It holds the lock.
func (k *Keeper) settle(now time.Time) {
	r := k.now.Load()
	if !r.lapsed(now) {
		return
	}
	next := r.after()
	k.opts.Logger.Warn("a lease has lapsed: no request gets a shadow", "holder", r.Holder, "percent", r.wanted().Percent, "revision", next.Revision)
	k.put(next)
	k.later(0) // without it the lease is found lapsed at the next start as well
}

const (
	// writePeriod is how often a write is tried again that failed.
	writePeriod = time.Second
	// writeWait bounds how long a call waits for the disk.
	writeWait = 2 * time.Second
)

// errSlow is the error of a disk that hangs.
var errSlow = fmt.Errorf("the disk has not answered for %s", writeWait)

// take waits for the right to write, for a bounded time, and reports whether it has it. [Keeper.give] returns it.
func (k *Keeper) take() bool {
	timer := time.NewTimer(writeWait)
	defer timer.Stop()
	select {
	case k.disk <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (k *Keeper) give() { <-k.disk }

// flush writes what is in force until the file has it. It has the right to write. After a failure it is tried again later.
func (k *Keeper) flush() error {
	for {
		r := k.now.Load()
		if r == k.saved {
			if k.failing.Swap(false) {
				k.opts.Logger.Info("the rollout is written again", "revision", r.Revision)
			}
			return nil
		}
		if err := k.save(r); err != nil {
			if !k.failing.Swap(true) {
				k.opts.Logger.Error("the rollout was not written: a restart may bring back the one before", "error", err)
			}
			k.mu.Lock()
			k.later(writePeriod)
			k.mu.Unlock()
			return err
		}
		k.saved = r
	}
}

// later writes what is in force after the time. It holds the lock.
func (k *Keeper) later(after time.Duration) {
	switch {
	case k.stopped:
	case k.again == nil:
		k.again = time.AfterFunc(after, k.retry)
	default:
		k.again.Reset(after)
	}
}

func (k *Keeper) retry() {
	if k.take() {
		defer k.give()
		_ = k.flush() // logged and counted
		return
	}
	k.mu.Lock()
	k.later(writePeriod)
	k.mu.Unlock()
}

// write is flush for a call, which waits for a bounded time. What is not written then is written later.
func (k *Keeper) write() error {
	written := make(chan error, 1)
	go func() {
		if !k.take() {
			k.failing.Store(true)
			k.mu.Lock()
			k.later(writePeriod)
			k.mu.Unlock()
			written <- errSlow
			return
		}
		defer k.give()
		written <- k.flush()
	}()
	timer := time.NewTimer(writeWait)
	defer timer.Stop()
	select {
	case err := <-written:
		return err
	case <-timer.C:
		k.failing.Store(true)
		k.mu.Lock()
		k.later(writePeriod)
		k.mu.Unlock()
		return errSlow
	}
}

// Trouble says what is wrong with the folder at the moment. It is empty when the rollout in force is written, or nowhere.
func (k *Keeper) Trouble() string {
	if k.failing.Load() {
		return "the rollout is not written"
	}
	return ""
}

// put makes the rollout that in force, and watches over its lease. It holds the lock.
func (k *Keeper) put(r *Rollout) {
	k.now.Store(r)
	if k.lapse != nil {
		k.lapse.Stop()
	}
	if !r.Expires.IsZero() && !k.stopped {
		k.lapse = time.AfterFunc(time.Until(r.Expires), k.watch)
	}
}

func (k *Keeper) watch() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stopped {
		k.settle(time.Now())
	}
}

// change is what somebody wants.
type change struct {
	percent          float64
	mode             executorv1.RolloutMode
	lease            time.Duration // 0 is for good
	holder           string
	by, from, reason string
	expected         uint64 // 0 is any
}

const (
	minLease = time.Second
	maxLease = time.Hour
	// maxHolder and maxReason are in bytes.
	maxHolder = 128
	maxReason = 512
)

// validate says what is out of its range.
func (c *change) validate() error {
	off := c.mode == executorv1.RolloutMode_ROLLOUT_MODE_OFF
	switch {
	case math.IsNaN(c.percent) || c.percent < 0 || c.percent > 100:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PERCENT_INVALID, "percent is %v: want a number from 0 to 100", c.percent)
	case !off && c.mode != executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_MODE_INVALID, "mode is %d: want OFF or OBSERVE_ONLY", c.mode)
	case off && c.percent != 0:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PERCENT_INVALID, "percent is %v with mode OFF: want 0, or mode OBSERVE_ONLY", c.percent)
	case c.lease != 0 && (c.lease < minLease || c.lease > maxLease):
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_LEASE_INVALID, "lease is %s: want %s to %s, or none", c.lease, minLease, maxLease)
	case c.lease != 0 && c.holder == "":
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder is empty: say whose lease it is")
	case c.lease == 0 && c.holder != "":
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder is %q without a lease: give both or none", c.holder)
	case len(c.holder) > maxHolder:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder has %d bytes: want at most %d", len(c.holder), maxHolder)
	}
	return validReason(c.reason)
}

func validReason(reason string) error {
	if len(reason) > maxReason {
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "reason has %d bytes: want at most %d", len(reason), maxReason)
	}
	return nil
}

// refusedBy says why the change is not made to the rollout in force; nil when it is.
func (c *change) refusedBy(r *Rollout) error {
	switch {
	case c.expected != 0 && c.expected != r.Revision:
		return rpc.ExecutorError(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_REVISION_CHANGED,
			"the rollout is at revision %d, not %d: %s has set it to %g %% (%q); read it with GetRollout and decide again", r.Revision, c.expected, r.By, r.Percent, r.Reason)
	case r.Holder != "" && r.Holder != c.holder:
		return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_LEASE_HELD,
			"%s holds the rollout until %s: wait for it, or end it with AbortRollout", r.Holder, r.Expires.UTC().Format(time.RFC3339))
	case c.expected == 0 && c.holder != "" && r.Ended == c.holder:
		return rpc.ExecutorError(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_REVISION_CHANGED,
			"the lease of %s was ended by an abort (%q): to set it again, give expected_revision %d", c.holder, r.Reason, r.Revision)
	}
	return nil
}

// set makes the change, or returns why not. It is in force, and on disk, when it returns.
func (k *Keeper) set(c change) (*Rollout, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	sampler, err := shadow.NewSampler(k.opts.Salt, c.percent)
	if err != nil {
		return nil, err
	}
	if !k.take() {
		return nil, k.notWritten(k.now.Load(), errSlow)
	}
	defer k.give()
	before, next, err := k.next(c, sampler)
	if err != nil {
		return nil, err
	}
	if err := k.save(next); err != nil {
		if durable.Unsure(err) {
			k.saved = nil // nobody knows
		}
		return nil, k.notWritten(before, err)
	}
	k.saved = next
	k.mu.Lock()
	k.settle(time.Now())
	if now := k.now.Load(); now != before { // by an abort or a lapse, which did not wait for the disk
		k.mu.Unlock()
		if err := k.flush(); err != nil {
			return nil, unknown(now, err)
		}
		c.expected = max(1, before.Revision)
		return nil, c.refusedBy(now)
	}
	k.put(next)
	k.mu.Unlock()
	if k.failing.Swap(false) {
		k.opts.Logger.Info("the rollout is written again", "revision", next.Revision)
	}
	switch {
	case next.Revision == before.Revision && before.Awaited != nil:
		k.opts.Logger.Info("the lease was renewed after a restart: the rollout is in force again", "percent", next.Percent,
			"revision", next.Revision, "holder", next.Holder)
	case next.Revision != before.Revision:
		k.opts.Logger.Info("rollout", "percent", next.Percent, "mode", modeWord(next.Mode), "revision", next.Revision,
			"holder", next.Holder, "by", next.By, "from", next.From, "reason", next.Reason)
	}
	return next, nil
}

// next is what the change makes of the rollout in force, or why it is refused.
func (k *Keeper) next(c change, sampler *shadow.Sampler) (before, next *Rollout, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.settle(now)
	before = k.now.Load()
	if err := c.refusedBy(before); err != nil {
		return nil, nil, err
	}
	next = &Rollout{
		Percent: c.percent, Mode: c.mode, Revision: before.Revision + 1, Holder: c.holder, Lease: c.lease,
		By: c.by, From: c.from, Reason: c.reason, Time: now, sampler: sampler,
	}
	if c.lease > 0 {
		next.Expires = now.Add(c.lease)
	}
	if renews(before, next) {
		next.Revision, next.By, next.From, next.Time = before.Revision, before.By, before.From, before.Time
	}
	return before, next, nil
}

// notWritten is the answer to a change that failed to be saved, and that is not in force. If the file may have it all the
// same, what is in force is written back.
func (k *Keeper) notWritten(before *Rollout, err error) error {
	if durable.Unsure(err) {
		if back := k.flush(); back != nil {
			return unknown(before, err)
		}
	}
	return rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
		"the rollout could not be written, and nothing was changed: %v", err)
}

// unknown is the answer to a change that is not in force, and that the file may have.
func unknown(inForce *Rollout, err error) error {
	return rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
		"revision %d stays in force, but what a restart would find is unknown until it is written back, which is tried every %s: %v",
		inForce.Revision, writePeriod, err)
}

// renews reports whether nothing changes but when the lease lapses.
func renews(before, next *Rollout) bool {
	before = before.wanted()
	return before.Holder != "" && before.Holder == next.Holder && before.Percent == next.Percent && before.Mode == next.Mode && before.Reason == next.Reason
}

// abort sets 0 % at once, whether or not the folder can be written.
func (k *Keeper) abort(by, from, reason string) (*Rollout, error) {
	if err := validReason(reason); err != nil {
		return nil, err
	}
	k.mu.Lock()
	now := time.Now()
	k.settle(now)
	before := k.now.Load()
	next := &Rollout{
		Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Revision: before.Revision + 1, By: by, From: from, Reason: reason, Time: now,
		Ended: before.Holder,
	}
	if next.Ended == "" {
		next.Ended = before.Ended
	}
	k.put(next)
	k.mu.Unlock()
	k.opts.Logger.Warn("rollout aborted: no request gets a shadow", "revision", next.Revision, "was", before.wanted().Percent, "holder", before.Holder,
		"by", by, "from", from, "reason", reason)
	if err := k.write(); err != nil {
		return nil, rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
			"no request gets a shadow, but that could not be written, and is tried every %s: a restart until then may bring back %g %%: %v", writePeriod, before.wanted().Percent, err)
	}
	return next, nil
}
