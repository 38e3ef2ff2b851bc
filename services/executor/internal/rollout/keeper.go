package rollout

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"
	"strings"
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

	mu      sync.Mutex // one change at a time; requests do not wait for it
	lapse   *time.Timer
	again   *time.Timer // not nil while what is in force is not written
	failing atomic.Bool // the same, for those who do not wait for the lock
	stopped bool
}

// Open continues with the rollout in the folder, or starts with the percentage of the options. A rollout under a lease is
// 0 % until its holder renews it. One that cannot be read is set aside and means 0 %. The caller stops the keeper.
func Open(opts Options) (*Keeper, error) {
	k := &Keeper{opts: opts, instance: rand.Text()}
	r, write, err := k.first(time.Now())
	if err != nil {
		return nil, err
	}
	if r.sampler, err = shadow.NewSampler(opts.Salt, r.Percent); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.put(r)
	k.settle(time.Now())
	if write {
		_ = k.keep(r) // logged and counted
	}
	return k, nil
}

// Stop ends the watch over the lease. What was set stays in the folder.
func (k *Keeper) Stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.again != nil {
		_ = k.keep(k.now.Load()) // logged and counted
	}
	k.stopped = true
	for _, timer := range []*time.Timer{k.lapse, k.again} {
		if timer != nil {
			timer.Stop()
		}
	}
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
	_ = k.keep(next) // without it the lease is found lapsed at the next start as well
}

// writePeriod is how often a rollout is tried to be written that is in force and could not be.
const writePeriod = time.Second

// keep writes what is in force already; when that fails, it is tried until it works. It holds the lock.
func (k *Keeper) keep(r *Rollout) error {
	err := k.save(r)
	switch {
	case err == nil && k.again != nil:
		k.opts.Logger.Info("the rollout is written again", "revision", r.Revision)
		k.written()
	case err != nil && k.again == nil:
		k.opts.Logger.Error("the rollout was not written: a restart may bring back the one before", "error", err)
		k.again = time.AfterFunc(writePeriod, k.retry)
		k.failing.Store(true)
	case err != nil:
		k.again.Reset(writePeriod)
	}
	return err
}

// written ends the tries. It holds the lock.
func (k *Keeper) written() {
	if k.again != nil {
		k.again.Stop()
		k.again = nil
		k.failing.Store(false)
	}
}

// Trouble says what is wrong with the folder at the moment; nothing when the rollout in force is written, or nowhere.
func (k *Keeper) Trouble() string {
	if k.failing.Load() {
		return "the rollout is not written"
	}
	return ""
}

func (k *Keeper) retry() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stopped && k.again != nil {
		_ = k.keep(k.now.Load()) // logged and counted
	}
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
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PERCENT_INVALID, "percent is %v: want a number from 0 to 100", c.percent)
	case !off && c.mode != executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY:
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_MODE_INVALID, "mode is %d: want OFF or OBSERVE_ONLY", c.mode)
	case off && c.percent != 0:
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PERCENT_INVALID, "percent is %v with mode OFF: want 0, or mode OBSERVE_ONLY", c.percent)
	case c.lease != 0 && (c.lease < minLease || c.lease > maxLease):
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_LEASE_INVALID, "lease is %s: want %s to %s, or none", c.lease, minLease, maxLease)
	case c.lease != 0 && c.holder == "":
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder is empty: say whose lease it is")
	case c.lease == 0 && c.holder != "":
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder is %q without a lease: give both or none", c.holder)
	case len(c.holder) > maxHolder:
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder has %d bytes: want at most %d", len(c.holder), maxHolder)
	}
	return validReason(c.reason)
}

func validReason(reason string) error {
	if len(reason) > maxReason {
		return invalid(executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "reason has %d bytes: want at most %d", len(reason), maxReason)
	}
	return nil
}

// refusedBy says why the change is not made to the rollout in force; nil when it is.
func (c *change) refusedBy(r *Rollout) error {
	switch {
	case c.expected != 0 && c.expected != r.Revision:
		return fail(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_REVISION_CHANGED,
			"the rollout is at revision %d, not %d: %s has set it to %g %% (%q); read it with GetRollout and decide again", r.Revision, c.expected, r.By, r.Percent, r.Reason)
	case r.Holder != "" && r.Holder != c.holder:
		return fail(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_LEASE_HELD,
			"%s holds the rollout until %s: wait for it, or end it with AbortRollout", r.Holder, r.Expires.UTC().Format(time.RFC3339))
	case c.expected == 0 && c.holder != "" && r.Ended == c.holder:
		return fail(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_REVISION_CHANGED,
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
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.settle(now)
	before := k.now.Load()
	if err := c.refusedBy(before); err != nil {
		return nil, err
	}
	next := &Rollout{
		Percent: c.percent, Mode: c.mode, Revision: before.Revision + 1, Holder: c.holder, Lease: c.lease,
		By: c.by, From: c.from, Reason: c.reason, Time: now, sampler: sampler,
	}
	if c.lease > 0 {
		next.Expires = now.Add(c.lease)
	}
	if renews(before, next) {
		next.Revision, next.By, next.From, next.Time = before.Revision, before.By, before.From, before.Time
	}
	if err := k.save(next); err != nil {
		return nil, k.notWritten(before, err)
	}
	k.written()
	k.put(next)
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

// notWritten is the answer to a change that failed to be saved, and that is not in force. If the file has it all the same,
// what is in force is written back.
func (k *Keeper) notWritten(before *Rollout, err error) error {
	if durable.Unsure(err) {
		if back := k.keep(before); back != nil {
			return fail(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
				"revision %d stays in force, but what a restart would find is unknown until it is written back, which is tried every %s: %v",
				before.Revision, writePeriod, err)
		}
	}
	return fail(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
		"the rollout could not be written, and nothing was changed: %v", err)
}

// renews reports whether nothing changes but when the lease lapses.
func renews(before, next *Rollout) bool {
	before = before.wanted()
	return before.Holder != "" && before.Holder == next.Holder && before.Percent == next.Percent && before.Mode == next.Mode && before.Reason == next.Reason
}

// abort sets 0 % at once, whatever becomes of the folder.
func (k *Keeper) abort(by, from, reason string) (*Rollout, error) {
	if err := validReason(reason); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
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
	k.opts.Logger.Warn("rollout aborted: no request gets a shadow", "revision", next.Revision, "was", before.wanted().Percent, "holder", before.Holder,
		"by", by, "from", from, "reason", reason)
	if err := k.keep(next); err != nil {
		return nil, fail(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
			"no request gets a shadow, but that could not be written, and is tried every %s: a restart until then may bring back %g %%: %v", writePeriod, before.wanted().Percent, err)
	}
	return next, nil
}

// fail is a refused call with its reason.
func fail(code codes.Code, reason executorv1.RolloutErrorReason, format string, args ...any) error {
	return &rpc.Error{
		Code: code, Domain: "executor.greenlight", Reason: strings.TrimPrefix(reason.String(), "ROLLOUT_ERROR_REASON_"),
		Message: fmt.Sprintf(format, args...),
	}
}

func invalid(reason executorv1.RolloutErrorReason, format string, args ...any) error {
	return fail(codes.InvalidArgument, reason, format, args...)
}
