// Package member makes an executor follow the record of its group, and publishes its reports and its blocks of quality records.
// [github.com/greenlight-ml/greenlight/pkg/group] has the rules. Nothing here is on the path of a decision: whatever the carrier
// does, it does not slow decisions down.
package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Executor is what the group controls and reports on. Obey, Report and Blocks do not wait.
type Executor interface {
	// Obey applies the record until then; nil means 0 %, and why explains it. An error means that the record or its gate is
	// refused.
	Obey(r *fleetv1.Record, until time.Time, why string) error
	// Kill kills the gate.
	Kill(by, from, reason string) error
	// Command clears latches of the gate, or raises an alarm.
	Command(c *fleetv1.Admission) error
	// Report returns counts, rollout and gate.
	Report(ctx context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error)
	// Blocks returns the first closed block after the number, its number, and how many there are; nil without one.
	Blocks(after uint64) (page *executorv1.GetQualityReportResponse, number uint64, waiting int, err error)
}

// Options configures a [Member].
type Options struct {
	// Group is the name of the group. Only records signed by one of Keys count.
	Group string
	Keys  dsse.Keys
	// Carrier moves the messages. The caller closes it after Stop.
	Carrier group.Carrier
	// ID is the id of the executor, which outlives restarts, Instance the random id of the process, and Host its name for people.
	ID, Instance, Host string
	// Dir is the state folder, which this process owns.
	Dir      string
	Executor Executor
	Logger   *slog.Logger
}

// Member is an executor in its group. It is safe for concurrent use.
type Member struct {
	opts  Options
	saver *durable.Saver
	file  durable.State[file]
	// written is the content of the file. The saver guards it.
	written file

	mu       sync.Mutex // guards the rest; nobody waits for the disk or the carrier under it
	follower *group.Follower
	sequence uint64
	// sent is the number of the last block that the carrier has acknowledged.
	sent    uint64
	waiting int
	// record and stops are the last messages that were taken, so that polls need not open them again.
	record []byte
	stops  [][]byte
	// renewed is when the newest record was first seen.
	renewed time.Time
	// obeyed is why the executor refuses the record that it should obey, or its gate.
	obeyed error
	// conflict is the refusal of another record with the same revision, until a higher revision.
	conflict error
	// failed is why the last command, at the time commanded, was not obeyed.
	failed    error
	commanded time.Time
	// answers is the nonce that the last obeyed command answered.
	answers string
	// contact is when the carrier last answered, and absent is the error since then.
	contact time.Time
	absent  error

	// killing are the ids of kills that the gate has not confirmed yet. They are not saved: a restart must obey them again.
	killing map[string]bool

	refused map[group.Reason]*atomic.Uint64
	// missed counts the new records that polls have found since the watch last delivered one.
	missed int
	// rewatch ends the watch.
	rewatch context.CancelFunc
	// kills has a message after a kill that does not hold the record yet.
	kills chan struct{}
	end   context.CancelFunc
	loops sync.WaitGroup
}

const (
	// writePeriod is the time between retries of a failed write, writeWait bounds how long a call waits for the disk.
	writePeriod = time.Second
	writeWait   = 2 * time.Second
)

// lastStops bounds the stops that polls do not open again: the newest kill and abort, and some that came in between.
const lastStops = 4

// errNotReached is why the carrier is absent before its first answer.
var errNotReached = errors.New("it has not answered yet")

// Open continues with the state of the folder. The executor is at 0 % until a session admits it. The caller must call Start and
// Stop.
func Open(o Options) (*Member, error) {
	for what, name := range map[string]string{"group": o.Group, "executor": o.ID} {
		if err := group.CheckName(name); err != nil {
			return nil, fmt.Errorf("%s %w", what, err)
		}
	}
	h := &Member{
		opts: o, file: fileIn(o.Dir), refused: map[group.Reason]*atomic.Uint64{}, kills: make(chan struct{}, 1), rewatch: func() {},
		contact: time.Now(), absent: errNotReached, killing: map[string]bool{},
	}
	for _, r := range group.Reasons() {
		h.refused[r] = &atomic.Uint64{}
	}
	if err := h.load(); err != nil {
		return nil, err
	}
	h.saver = durable.StartSaver(durable.SaverOptions{
		Save: h.save, Period: writePeriod, Subject: "the state of the group is", Risk: "a restart may forget an abort", Logger: o.Logger,
	})
	if h.follower.State().Aborted {
		_ = h.saver.Save(writeWait) // logged and retried: until then a state that cannot be read stays, and the next start finds it again
	}
	return h, nil
}

// Start starts the goroutines that use the carrier.
func (h *Member) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	h.end = cancel
	for _, loop := range []func(context.Context){h.watch, h.poll, h.report, h.publish, h.holdKills} {
		h.loops.Go(func() { loop(ctx) })
	}
}

// Stop ends them and writes the state.
func (h *Member) Stop(ctx context.Context) error {
	if h.end != nil {
		h.end()
		h.loops.Wait()
	}
	return h.saver.Stop(ctx)
}

// Hold stops the records of all sessions that have begun: this executor was aborted. It does not wait.
func (h *Member) Hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.follower.Hold(time.Now())
}

// Keep waits until the effect of Hold is on disk.
func (h *Member) Keep(wait time.Duration) error { return h.saver.Save(wait) }

// Killed schedules a hold of the record: the gate was killed. It does not wait.
func (h *Member) Killed() {
	select {
	case h.kills <- struct{}{}:
	default:
	}
}

// take handles a message of the carrier. It reports whether the message is new, rather than one that was just handled.
func (h *Member) take(k group.Kind, data []byte) bool {
	var err error
	var stopped, killed *fleetv1.Stop
	var command *fleetv1.Admission
	h.mu.Lock()
	switch k {
	case group.RecordMessage:
		if bytes.Equal(data, h.record) {
			h.mu.Unlock()
			return false
		}
		h.record = bytes.Clone(data)
		before := h.follower.State()
		if err = h.follower.Record(data); err == nil {
			h.renewed = time.Now()
			if h.follower.State().Revision > before.Revision {
				h.conflict = nil
			}
		}
	case group.AdmissionMessage:
		if command, err = h.follower.Admission(data, time.Now()); command.GetReset_() {
			h.record, h.conflict, h.answers = nil, nil, command.GetNonce()
		}
	case group.StopMessage:
		if slices.ContainsFunc(h.stops, func(s []byte) bool { return bytes.Equal(data, s) }) {
			h.mu.Unlock()
			return false
		}
		h.stops = append(h.stops, bytes.Clone(data))
		h.stops = h.stops[max(0, len(h.stops)-lastStops):]
		if stopped, err = h.follower.Stop(data, time.Now()); err == nil && stopped.GetKind() == fleetv1.StopKind_STOP_KIND_KILL {
			killed = stopped
			h.killing[killed.GetId()] = true
		}
	}
	reason, refused := group.IsRefused(err)
	if refused {
		h.refused[reason].Add(1)
	}
	if reason == group.Conflict {
		h.conflict = err
	}
	h.apply()
	h.mu.Unlock()
	if killed != nil && h.opts.Executor.Kill("group:"+h.opts.Group, "", killed.GetReason()) == nil { // an error is logged and retried
		h.mu.Lock()
		delete(h.killing, killed.GetId())
		h.mu.Unlock()
	}
	if command != nil && !command.GetReset_() {
		h.command(command)
	}
	switch {
	case stopped != nil:
		h.opts.Logger.Warn("the group is stopped", "group", h.opts.Group, "kind", stopped.GetKind().String(), "revision", stopped.GetRevision(),
			"issuer", stopped.GetIssuer(), "reason", stopped.GetReason())
	case reason == group.Conflict:
		h.opts.Logger.Error("another record with the same revision is refused", "group", h.opts.Group, "error", err)
	case refused && reason != group.Old:
		h.opts.Logger.Warn("a message of the group is refused", "group", h.opts.Group, "reason", reason, "error", err)
	}
	return true
}

// command makes the gate obey a command. The gate logs what it has done.
func (h *Member) command(c *fleetv1.Admission) {
	err := h.opts.Executor.Command(c)
	if err != nil {
		err = fmt.Errorf("a command of %s was not obeyed: %w", c.GetIssuer(), err)
		h.opts.Logger.Error("a command of the group was not obeyed", "group", h.opts.Group, "issuer", c.GetIssuer(), "clear", c.GetClear(),
			"alarm", c.GetAlarm().String(), "reason", c.GetReason(), "error", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed, h.commanded = err, time.Now(); err == nil {
		h.answers = c.GetNonce()
	}
}

// apply does what the follower orders. The caller holds the lock.
func (h *Member) apply() {
	o := h.follower.Orders(time.Now())
	h.obeyed = h.opts.Executor.Obey(o.Record, o.Until, o.Why)
}

// holdKills holds the record after every kill.
func (h *Member) holdKills(ctx context.Context) {
	hold := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.follower.Hold(time.Now())
		h.apply()
	}
	for {
		select {
		case <-ctx.Done():
			select {
			case <-h.kills:
				hold() // the stop writes it
			default:
			}
			return
		case <-h.kills:
			hold()
			_ = h.Keep(writeWait) // logged and retried
		}
	}
}

// answered remembers whether the carrier has answered.
func (h *Member) answered(err error) {
	h.mu.Lock()
	before := h.absent
	if h.absent = err; err == nil {
		h.contact = time.Now()
	}
	h.mu.Unlock()
	switch {
	case err == nil && before != nil:
		h.opts.Logger.Info("the group can be reached", "group", h.opts.Group)
	case err != nil && (before == nil || before == errNotReached): //nolint:errorlint // it is never wrapped
		h.opts.Logger.Warn("the group cannot be reached: decisions continue, and the share ends with its lease", "group", h.opts.Group, "error", err)
	}
}

// why explains why the executor is at 0 %, or what it refuses; the failure of a command for as long as a report counts. It is empty if it obeys the record. The caller holds the lock.
func (h *Member) why() string {
	switch o := h.follower.Orders(time.Now()); {
	case h.failed != nil && time.Since(h.commanded) < group.Presence:
		return h.failed.Error()
	case h.conflict != nil:
		return h.conflict.Error()
	case h.obeyed != nil:
		return h.obeyed.Error()
	default:
		return o.Why
	}
}

// Trouble describes what keeps the executor from following its group; empty if nothing does.
func (h *Member) Trouble() string {
	if h == nil { // executor has no group
		return ""
	}
	h.mu.Lock()
	why, absent, since := h.why(), h.absent, h.contact
	h.mu.Unlock()
	switch {
	case absent != nil:
		return fmt.Sprintf("group %s cannot be reached for %v: %v", h.opts.Group, time.Since(since).Round(time.Second), absent)
	case why != "":
		return fmt.Sprintf("group %s: %s", h.opts.Group, why)
	default:
		return h.saver.Trouble()
	}
}
