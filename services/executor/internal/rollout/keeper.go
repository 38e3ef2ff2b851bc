package rollout

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
)

// Options configures a keeper.
type Options struct {
	// Percent is the percentage at the first start, in [0,100]; later starts continue from the folder. Salt determines which
	// requests are sampled.
	Percent float64
	Salt    string
	// Dir is the state folder, which this process owns. If empty, the rollout is only in memory.
	Dir string
	// Gate keeps the state of the gate. nil means that a gate is never allowed.
	Gate *gate.Keeper
	// Group is the group whose record controls the rollout, which then starts at 0 %. Empty means none.
	Group  string
	Logger *slog.Logger
}

// Keeper holds the rollout in force. It is safe for concurrent use.
type Keeper struct {
	opts     Options
	instance string
	now      atomic.Pointer[Rollout]
	// writeErrors counts the saves that failed.
	writeErrors atomic.Uint64

	mu      sync.Mutex // guards changes of now; requests do not take it, and it is never held during disk access
	lapse   *time.Timer
	stopped bool

	// hold invalidates the record of the group, and keep saves that. They are set before the first request, and do nothing
	// without a group.
	hold func()
	keep func(wait time.Duration) error

	file  durable.State[file]
	saver *durable.Saver
	// saved is the rollout in the file. The saver guards it. An abort takes effect before it waits for the saver.
	saved *Rollout
}

// Open continues with the rollout in the folder, or starts with the percentage of the options. A rollout under a lease is
// 0 % until its holder renews it. An unreadable file is set aside and means 0 %. The caller must call Stop.
func Open(opts Options) (*Keeper, error) {
	if opts.Gate == nil {
		var err error
		if opts.Gate, err = gate.Open(gate.Options{Logger: opts.Logger}); err != nil {
			return nil, err
		}
	}
	k := &Keeper{
		opts: opts, instance: rand.Text(), file: durable.State[file]{Path: filepath.Join(opts.Dir, fileName), Schema: fileSchema},
		hold: func() {}, keep: func(time.Duration) error { return nil },
	}
	r, write, err := k.first(time.Now())
	if err != nil {
		return nil, err
	}
	if err := r.sample(opts.Salt); err != nil {
		return nil, err
	}
	if !write {
		k.saved = r
	}
	k.mu.Lock()
	k.put(r)
	k.settle(time.Now())
	k.mu.Unlock()
	k.saver = durable.StartSaver(durable.SaverOptions{
		Save: k.flush, Period: writePeriod, Subject: "the rollout is", Risk: "a restart may bring back the previous one", Logger: opts.Logger,
	})
	opts.Gate.Govern(k)
	if write {
		_ = k.saver.Save(writeWait) // logged and counted
	}
	return k, nil
}

// Stop stops the timers and writes unwritten state.
func (k *Keeper) Stop() {
	k.mu.Lock()
	k.stopped = true
	if k.lapse != nil {
		k.lapse.Stop()
	}
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), writeWait)
	defer cancel()
	_ = k.saver.Stop(ctx) // logged and counted
}

// Instance returns a random id of this process.
func (k *Keeper) Instance() string { return k.instance }

// Sampled reports whether a request with that arrival time gets a shadow.
func (k *Keeper) Sampled(requestID string, arrival time.Time) bool {
	r := k.now.Load()
	return r.Percent > 0 && !r.lapsed(arrival) && r.sampler.Sampled(requestID)
}

// Percent returns the current percentage of requests that get a shadow, in [0,100].
func (k *Keeper) Percent() float64 { return k.current(time.Now()).Percent }

// Gate implements [gate.Rollout].
func (k *Keeper) Gate(at time.Time) gate.Standing {
	r := k.current(at)
	if r.Gate == nil {
		return gate.Standing{}
	}
	s := gate.Standing{Terms: r.Gate, Revision: r.Revision, Shares: r.decides, Phase: gate.Lapsed}
	switch r.Mode {
	case gated:
		s.Phase = gate.InForce
	case observe:
		s.Phase = gate.Demoted
	default:
	}
	return s
}

// Demote implements [gate.Rollout]. The saver writes it within a second. After a crash before that, the latch keeps the gate shut.
func (k *Keeper) Demote(by, from, reason string) {
	k.mu.Lock()
	now := time.Now()
	k.settle(now)
	before := k.now.Load()
	wanted := before.wanted()
	if wanted.Mode != gated {
		k.mu.Unlock()
		return
	}
	next := &Rollout{
		Percent: wanted.Gate.Observe, Mode: observe, Revision: before.Revision + 1, By: by, From: from, Time: now, Ended: before.Holder,
		Reason: text.Cut("the gate was demoted: "+reason, maxReason), Plan: wanted.Plan, Gate: wanted.Gate,
	}
	if before.Record != 0 { // the lease also ends the shadows
		next.Ended, next.Holder, next.Lease, next.Expires = "", before.Holder, before.Lease, before.Expires
		next.Record, next.Demoted = before.Record, before.Record
	}
	_ = next.sample(k.opts.Salt) // it fails only for percentages out of range
	k.put(next)
	k.mu.Unlock()
	k.opts.Logger.Warn("the gate was demoted: no model decides, but shadows continue", "percent", next.Percent, "revision", next.Revision,
		"holder", before.Holder, "by", by, "from", from, "reason", reason)
}

// Plan returns the plan of the rollout in force, or the zero Plan, and the rollout's revision.
func (k *Keeper) Plan() (outcome.Plan, uint64) {
	r := k.now.Load()
	return r.Plan, r.Revision
}

// Report returns the rollout in force.
func (k *Keeper) Report() *executorv1.Rollout { return k.current(time.Now()).proto() }

// change is a requested change of the rollout.
type change struct {
	percent          float64
	mode             executorv1.RolloutMode
	lease            time.Duration // 0 means no lease
	holder           string
	by, from, reason string
	expected         uint64 // 0 means any
	plan             outcome.Plan
	gate             *gate.Terms // nil unless the mode is GATED
}

// shadows returns the percentage of requests that get a shadow.
func (c *change) shadows() float64 {
	if c.mode == gated {
		return c.gate.Observe
	}
	return c.percent
}

// decides returns the percentage of requests that the model may decide.
func (c *change) decides() float64 {
	if c.mode == gated {
		return c.percent
	}
	return 0
}

const (
	// maxHolder and maxReason limit texts, in bytes.
	maxHolder = 128
	maxReason = 512
)

// validate returns an error for the first value that is out of range.
func (c *change) validate() error {
	switch {
	case math.IsNaN(c.percent) || c.percent < 0 || c.percent > 100:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PERCENT_INVALID, "percent is %v: want a number from 0 to 100", c.percent)
	case c.mode != off && c.mode != observe && c.mode != gated:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_MODE_INVALID, "mode is %d: want OFF, OBSERVE_ONLY or GATED", c.mode)
	case c.mode == off && c.percent != 0:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PERCENT_INVALID, "percent is %v with mode OFF: want 0, or mode OBSERVE_ONLY", c.percent)
	case c.lease != 0 && (c.lease < minLease || c.lease > maxLease):
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_LEASE_INVALID, "lease is %s: want %s to %s, or none", c.lease, minLease, maxLease)
	case c.lease != 0 && c.holder == "":
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder is empty: a lease needs one")
	case c.lease == 0 && c.holder != "":
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder is %q without a lease: give both or none", c.holder)
	case len(c.holder) > maxHolder:
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "holder has %d bytes: want at most %d", len(c.holder), maxHolder)
	case c.mode == gated && (c.gate == nil || c.lease == 0):
		return gateInvalid(errors.New("mode GATED needs a gate and a lease"))
	}
	return validReason(c.reason)
}

func gateInvalid(err error) error {
	return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_INVALID, "%v", err)
}

func validReason(reason string) error {
	if len(reason) > maxReason {
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "reason has %d bytes: want at most %d", len(reason), maxReason)
	}
	return nil
}

// refusedBy returns an error if the rollout in force does not allow the change.
func (c *change) refusedBy(r *Rollout) error {
	switch {
	case c.expected != 0 && c.expected != r.Revision:
		return rpc.ExecutorError(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_REVISION_CHANGED,
			"the rollout is at revision %d, not %d: %s has set it to %g %% (%q); read it with GetRollout and decide again", r.Revision, c.expected, r.By, r.percent(), r.Reason)
	case r.Holder != "" && r.Holder != c.holder:
		return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_LEASE_HELD,
			"%s holds the rollout until %s: wait for it, or end it with AbortRollout", r.Holder, r.Expires.UTC().Format(time.RFC3339))
	case c.expected == 0 && c.holder != "" && r.Ended == c.holder:
		return rpc.ExecutorError(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_REVISION_CHANGED,
			"the lease of %s was ended (%q): to set it again, give expected_revision %d", c.holder, r.Reason, r.Revision)
	}
	return nil
}

// set makes the change. When it returns without an error, the change is in force and on disk.
func (k *Keeper) set(c change) (*Rollout, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.mode == gated {
		k.opts.Gate.CheckKillFile()
	}
	if err := k.saver.Hold(writeWait); err != nil {
		return nil, k.notWritten(k.now.Load(), err)
	}
	defer k.saver.Release()
	before, next, err := k.next(c)
	if err != nil {
		return nil, err
	}
	if err := k.save(next); err != nil {
		if durable.Unsure(err) {
			k.saved = nil // unknown
		}
		return nil, k.notWritten(before, err)
	}
	k.saved = next
	k.mu.Lock()
	k.settle(time.Now())
	now, refused := k.now.Load(), k.gateRefuses(next)
	if now != before || refused != nil { // changed meanwhile by an abort, a lapse or a latch, which do not wait for the disk
		k.mu.Unlock()
		if err := k.saver.SaveHeld(); err != nil {
			return nil, unknown(now, err)
		}
		if now != before {
			c.expected = max(1, before.Revision)
			return nil, c.refusedBy(now)
		}
		return nil, refused
	}
	k.put(next)
	k.mu.Unlock()
	_ = k.saver.SaveHeld() // nothing is left to write, which ends any trouble
	switch {
	case next.Revision == before.Revision && before.Awaited != nil:
		k.opts.Logger.Info("the lease was renewed after a restart: the rollout is in force again", "percent", next.percent(),
			"revision", next.Revision, "holder", next.Holder)
	case next.Revision != before.Revision:
		k.opts.Logger.Info("rollout", "percent", next.percent(), "mode", modeWord(next.Mode), "revision", next.Revision,
			"holder", next.Holder, "by", next.By, "from", next.From, "reason", next.Reason, "plan", next.Plan.Digest())
	}
	return next, nil
}

// next returns the rollout in force and the one after the change, or an error if the change is refused.
func (k *Keeper) next(c change) (before, next *Rollout, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.settle(now)
	before = k.now.Load()
	if err := c.refusedBy(before); err != nil {
		return nil, nil, err
	}
	next = &Rollout{
		Percent: c.shadows(), Decides: c.decides(), Mode: c.mode, Revision: before.Revision + 1, Holder: c.holder, Lease: c.lease,
		By: c.by, From: c.from, Reason: c.reason, Time: now, Plan: c.plan, Gate: c.gate,
	}
	if err := next.sample(k.opts.Salt); err != nil {
		return nil, nil, err
	}
	if err := k.gateRefuses(next); err != nil {
		return nil, nil, err
	}
	if c.lease > 0 {
		next.Expires = now.Add(c.lease)
	}
	if renews(before, next) {
		next.Revision, next.By, next.From, next.Time = before.Revision, before.By, before.From, before.Time
	} else if next.Gate != nil { // a renewal is allowed while ml-engine has another model, which then decides nothing
		err = k.opts.Gate.Unfit(next.Gate)
	}
	return before, next, err
}

// gateRefuses returns an error if the rollout is gated but no gate may be in force.
func (k *Keeper) gateRefuses(r *Rollout) error {
	if r.Mode != gated {
		return nil
	}
	return k.opts.Gate.Refused()
}

// notWritten returns the error of a change that was not saved and is not in force. In case the file has it anyway, the rollout in
// force is written back.
func (k *Keeper) notWritten(before *Rollout, err error) error {
	if durable.Unsure(err) {
		if back := k.saver.SaveHeld(); back != nil {
			return unknown(before, err)
		}
	}
	return rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
		"the rollout could not be written, so nothing was changed: %v", err)
}

// unknown returns the error of a change that is not in force but may be in the file.
func unknown(inForce *Rollout, err error) error {
	return rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
		"revision %d stays in force, but what a restart would load is unknown until that revision is written back, which is retried every %s: %v",
		inForce.Revision, writePeriod, err)
}

// abort sets 0 % immediately, even if the folder cannot be written.
func (k *Keeper) abort(by, from, reason string) (*Rollout, error) {
	reason = text.Cut(reason, maxReason) // never refuse an abort because of its reason
	before, next := k.zero(by, from, reason)
	k.hold()
	if k.now.Load().Record != 0 { // the group's record was renewed before hold
		_, next = k.zero(by, from, reason)
	}
	k.opts.Logger.Warn("rollout aborted: no request gets a shadow", "revision", next.Revision, "was", before.wanted().Percent, "holder", before.Holder,
		"by", by, "from", from, "reason", reason)
	if err := errors.Join(k.saver.Save(writeWait), k.keep(writeWait)); err != nil {
		return nil, rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
			"no request gets a shadow, but this could not be written: a restart may bring back %[2]g %% until it is; the write is retried every %[1]s: %[3]v", writePeriod, before.wanted().Percent, err)
	}
	return next, nil
}

// zero puts the 0 % of an abort in force.
func (k *Keeper) zero(by, from, reason string) (before, next *Rollout) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.settle(now)
	before = k.now.Load()
	next = &Rollout{
		Mode: off, Revision: before.Revision + 1, By: by, From: from, Reason: reason, Time: now,
		Ended: before.Holder, Plan: before.wanted().Plan, Demoted: before.Demoted,
	}
	if next.Ended == "" {
		next.Ended = before.Ended
	}
	k.put(next)
	return before, next
}
