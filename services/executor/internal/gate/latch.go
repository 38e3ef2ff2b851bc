package gate

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	killed  = executorv1.GateLatch_GATE_LATCH_KILLED
	quality = executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM
	drift   = executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM
	spent   = executorv1.GateLatch_GATE_LATCH_BUDGET_SPENT
)

// Values of who set a latch, if no call did.
const (
	byExecutor = "executor"
	byFile     = "file"
	// BySignal sets the latch of a signal.
	BySignal = "signal"
)

// latch describes why the gate is shut.
type latch struct {
	Latch  string    `json:"latch"`
	By     string    `json:"set_by"`
	From   string    `json:"set_from,omitempty"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"set_time"`
	// Last is when it was last set; zero if it was set once.
	Last time.Time `json:"last_set_time,omitzero"`
}

// last returns when it was last set.
func (l *latch) last() time.Time { return cmp.Or(l.Last, l.Time) }

// latches are the set latches, by their number in the contract. They are immutable.
type latches [spent + 1]*latch

func (l *latches) any() bool { return *l != latches{} }

// word returns the name of a latch, for example "budget_spent".
func word(l executorv1.GateLatch) string {
	return strings.ToLower(strings.TrimPrefix(l.String(), "GATE_LATCH_"))
}

// list returns the latches that are set, in order.
func (l *latches) list() (set []executorv1.GateLatch) {
	for i, latch := range l {
		if latch != nil {
			set = append(set, executorv1.GateLatch(i))
		}
	}
	return set
}

// records returns the set latches for the file.
func (l *latches) records() []latch {
	all := []latch{}
	for _, which := range l.list() {
		all = append(all, *l[which])
	}
	return all
}

// String names the latches that are set, who set them, and why.
func (l *latches) String() string {
	var all []string
	for _, which := range l.list() {
		all = append(all, fmt.Sprintf("%s by %s at %s (%q)", word(which), l[which].By, l[which].Time.UTC().Format(time.RFC3339), l[which].Reason))
	}
	return strings.Join(all, ", ")
}

// shut sets a latch, unless it is set already, and demotes the gate.
func (k *Keeper) shut(which executorv1.GateLatch, by, from, reason string) {
	l := k.set(which, by, from, reason)
	if which == killed {
		k.tellKill()
	}
	k.demote(l)
}

// set sets a latch and returns it. If it was already set, the first setter, reason and time stay. It is in force for the next
// request.
func (k *Keeper) set(which executorv1.GateLatch, by, from, reason string) *latch {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := *k.latched.Load()
	l := latch{Latch: word(which), By: by, From: from, Reason: reason, Time: time.Now()}
	if was := next[which]; was != nil {
		again := l.Time
		if !again.After(was.last()) { // the clock was set back
			again = was.last().Add(1)
		}
		l = *was // a copy, so that a concurrent Clear keeps it
		l.Last = again
	}
	next[which] = &l
	k.latched.Store(&next)
	if k.sets != nil {
		k.sets.Add()
	}
	return &l
}

// demote demotes the gate in force because of the latch.
func (k *Keeper) demote(l *latch) {
	if k.rollout != nil {
		k.rollout.Demote(l.By, l.From, strings.TrimSuffix(l.Latch+": "+l.Reason, ": "))
	}
	k.opts.Logger.Warn("the gate is shut: no model decides until a person clears it", "latch", l.Latch, "by", l.By, "from", l.From, "reason", l.Reason)
}

// Kill stops the model from deciding, from the next request on. An error means that a restart may forget the kill.
func (k *Keeper) Kill(by, from, reason string) error {
	k.shut(killed, by, from, reason)
	if err := k.saver.Save(writeWait); err != nil {
		return rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
			"no model decides, but this could not be written: a restart may forget it until it is, which is retried every %s; create %s as well: %v", writePeriod, k.killPath(), err)
	}
	return nil
}

// Alarm sets the latch of an alarm if a gate is set for the model.
func (k *Keeper) Alarm(which executorv1.GateLatch, model, by, from, reason string) error {
	if which != quality && which != drift {
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_INVALID, "alarm is %d: want QUALITY_ALARM or DRIFT_ALARM", which)
	}
	switch t := k.standing(time.Now()).Terms; {
	case t == nil:
		return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_NOT_SET, "no gate is set, so there is nothing to demote")
	case t.Model != model:
		return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_NOT_SET, "the gate is set for the model %s, not for %.80q: nothing was changed", t.Model, model)
	}
	k.shut(which, by, from, reason)
	if err := k.saver.Save(writeWait); err != nil {
		return rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN,
			"the gate is demoted, but the alarm could not be written: a restart may forget it until it is, which is retried every %s: %v", writePeriod, err)
	}
	return nil
}

// Clear clears latches. If one is invalid or the disk fails, it clears none. A latch that is set again meanwhile stays set, and
// Clear returns an error.
func (k *Keeper) Clear(which []executorv1.GateLatch, by, from, reason string) error {
	return k.ClearSeen(which, nil, by, from, reason)
}

// ClearSeen is [Keeper.Clear] by a person who has seen when each latch was last set. If any was set again since, it clears none.
// Without seen it is Clear.
func (k *Keeper) ClearSeen(which []executorv1.GateLatch, seen []*timestamppb.Timestamp, by, from, reason string) error {
	switch {
	case len(which) == 0 || reason == "":
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "want at least one latch, and a reason: what was found and done")
	case len(seen) > 0 && len(seen) != len(which):
		return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FIELD_INVALID, "want none or one of last_set_times for each of the %d latches, not %d", len(which), len(seen))
	}
	if k.saver != nil {
		if err := k.saver.Hold(writeWait); err != nil {
			return notCleared(err)
		}
		defer k.saver.Release()
	}
	before, sets := k.snapshot()
	for i, w := range which {
		switch {
		case w <= 0 || int(w) >= len(before):
			return rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_INVALID, "unknown latch %d", w)
		case before[w] == nil:
			return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_NOT_SET, "the latch %s is not set: nothing was cleared", word(w))
		case len(seen) > 0 && !before[w].last().Equal(seen[i].AsTime()):
			return setAgain(w)
		case w == killed && k.killFile() != "":
			return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_LATCHED, "%s: remove it first; nothing was cleared", k.killFile())
		}
	}
	cleared := func(from latches) *latches {
		for _, w := range which {
			if from[w] == before[w] { // not set again meanwhile
				from[w] = nil
			}
		}
		return &from
	}
	if err := k.save(cleared(*before), sets); err != nil {
		return notCleared(err)
	}
	k.mu.Lock()
	left := cleared(*k.latched.Load())
	k.latched.Store(left)
	k.mu.Unlock()
	var again error
	for _, w := range which {
		if left[w] != nil {
			again = setAgain(w)
			continue
		}
		k.opts.Logger.Warn("a latch of the gate was cleared: the gate stays shut until it is started again", "latch", word(w), "by", by, "from", from, "reason", reason)
	}
	return again
}

func setAgain(w executorv1.GateLatch) error {
	return rpc.ExecutorError(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_LATCHED,
		"the latch %s was set again meanwhile, so it stays: find out why, and clear it again", word(w))
}

func notCleared(err error) error {
	return rpc.ExecutorError(codes.Internal, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_STATE_NOT_WRITTEN, "the latches could not be cleared, since the state folder cannot be written: %v", err)
}

// proto returns the latches as messages.
func (l *latches) proto() (all []*executorv1.GateLatchState) {
	for _, which := range l.list() {
		state := &executorv1.GateLatchState{Latch: which, SetBy: l[which].By, Reason: l[which].Reason, SetTime: timestamppb.New(l[which].Time)}
		if !l[which].Last.IsZero() {
			state.LastSetTime = timestamppb.New(l[which].Last)
		}
		all = append(all, state)
	}
	return all
}
