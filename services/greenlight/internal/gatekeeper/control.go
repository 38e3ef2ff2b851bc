package gatekeeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// Done is the result for one executor, or for its group: then Addr is "group NAME".
type Done struct {
	Addr string
	// Text describes what is in force now, Took is how long that took. Err is the failure, if any.
	Text string
	Took time.Duration
	Err  error
}

// each calls fn for all executors in parallel.
func each(executors []fleet.Executor, do func(fleet.Executor) (string, error)) []Done {
	start := time.Now()
	done, errs := fleet.Each(executors, func(e fleet.Executor) (Done, error) {
		text, err := do(e)
		return Done{e.Addr, text, time.Since(start), err}, nil
	})
	fleet.Rethrow(errs...)
	return done
}

// Stop stops the gates of all executors in parallel, regardless of leases, and reads the result back. Shadows continue at the
// observe percent of the gate; with toOff they stop too. If there is a group, shadows stop in any case, and its record is set
// to 0 % meanwhile, even if executors fail. group may be nil.
func Stop(ctx context.Context, executors []fleet.Executor, g *fleetgroup.Group, toOff bool, reason string) []Done {
	ended := make(chan Done, 1)
	if g != nil {
		toOff = true
		go func() {
			start, err := time.Now(), g.End(ctx, reason)
			ended <- Done{"group " + g.Group(), "has a record that says 0 %", time.Since(start), err}
		}()
	}
	done := each(executors, func(e fleet.Executor) (string, error) {
		got, err := e.Rollout(ctx)
		if err != nil {
			return "", err
		}
		r, percent := got.GetRollout(), 0.0
		switch set := r.GetGate(); {
		case toOff:
		case set == nil:
			return "no gate is set", nil
		case set.ObservePercent == nil: //nolint:protogetter // presence
			percent = 100
		default:
			percent = set.GetObservePercent()
		}
		if err := off(ctx, e, percent, r.GetPlan(), clean(reason)); err != nil {
			return "", err
		}
		return fmt.Sprintf("no model decides, %s %% of the requests get a shadow", plain(percent)), nil
	})
	if g != nil {
		done = append(done, <-ended)
	}
	return done
}

// Kill kills the gates of all executors in parallel. Each kill applies from the next request until a person clears it.
func Kill(ctx context.Context, executors []fleet.Executor, reason string) []Done {
	return each(executors, func(e fleet.Executor) (string, error) {
		got, err := e.Rollouts.KillGate(ctx, &executorv1.KillGateRequest{Reason: clean(reason)})
		if err != nil {
			return "", &fleet.CallError{Service: "executor " + e.Addr, Err: err}
		}
		killed := slices.ContainsFunc(got.GetGate().GetLatches(), func(l *executorv1.GateLatchState) bool {
			return l.GetLatch() == executorv1.GateLatch_GATE_LATCH_KILLED
		})
		if got.GetGate().GetOpen() || !killed {
			return "", fmt.Errorf("executor %s: its answer does not confirm the kill", e.Addr)
		}
		return "killed: the baseline decides, from the next request until a person clears the kill", nil
	})
}

// Clearing is a request to clear latches.
type Clearing struct {
	// Latches are their short names. Reason is what was found and done.
	Latches []string `json:"latches"`
	Reason  string   `json:"reason"`
	// Set holds the latches to clear, by executor.
	Set []SetLatch `json:"set"`
	// Kill is the id of the kill stored by the group, which is removed too; empty if there is none.
	Kill string `json:"stored_kill,omitempty"`
}

// SetLatch is a latch of one executor.
type SetLatch struct {
	Executor string `json:"executor"`
	Latch
}

// ErrOtherLatches means that the phrase was printed for other latches than those set now.
var ErrOtherLatches = errors.New("the latches have changed since the phrase was printed")

// killed is the short name of a kill.
const killed = "killed"

// ParseLatch returns the latch of a short name.
func ParseLatch(name string) (executorv1.GateLatch, error) {
	l := executorv1.GateLatch(executorv1.GateLatch_value["GATE_LATCH_"+strings.ToUpper(name)])
	if l == executorv1.GateLatch_GATE_LATCH_UNSPECIFIED {
		return l, fmt.Errorf("latch %q: want killed, quality_alarm, drift_alarm or budget_spent", name)
	}
	return l, nil
}

// NewClearing reads the latches of all executors. Each named latch must be set on at least one of them. Without names it takes
// all. A kill may also be stored by the group, which may be nil.
func NewClearing(ctx context.Context, executors []fleet.Executor, g *fleetgroup.Group, latches []string, reason string) (*Clearing, error) {
	c := &Clearing{Latches: latches, Reason: clean(reason)}
	if g != nil && slices.Contains(latches, killed) {
		kill, err := g.StoredKill(ctx)
		if err != nil {
			return nil, err
		}
		c.Kill = kill.GetId()
	}
	answers, errs := fleet.Each(executors, func(e fleet.Executor) (*executorv1.GetRolloutResponse, error) { return e.Rollout(ctx) })
	fleet.Rethrow(errs...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i, a := range answers {
		for _, l := range a.GetGate().GetLatches() {
			if set := latchOf(l); slices.Contains(latches, set.Name) {
				c.Set = append(c.Set, SetLatch{executors[i].Addr, set})
			}
		}
	}
	for _, name := range latches {
		if (name != killed || c.Kill == "") && !slices.ContainsFunc(c.Set, func(s SetLatch) bool { return s.Name == name }) {
			return nil, fmt.Errorf("%s is not set on any executor", name)
		}
	}
	return c, nil
}

// Phrase returns what a person repeats to clear the latches. It names them and covers who set each, when and why.
func (c *Clearing) Phrase(nonce string) string {
	raw, _ := json.Marshal(c) // texts and times
	executors := map[string]bool{}
	for _, s := range c.Set {
		executors[s.Executor] = true
	}
	return fmt.Sprintf("ONAY: Gate CLEAR %s executors=%d state=%.12s nonce=%s", strings.Join(c.Latches, ","), len(executors), evidence.Sum(raw), nonce)
}

// AskClear returns the phrase that clears the latches.
func (s State) AskClear(c *Clearing, validity time.Duration) (*confirmation.Ticket, error) {
	return s.ledger().Issue(validity, func(nonce string, _ time.Time) (string, any, error) {
		phrase := c.Phrase(nonce)
		return phrase, c, nil
	})
}

// Clear clears the latches if the phrase was printed for exactly these, and uses the phrase up. Then it removes the group's
// stored kill, unless an executor failed: it would be killed again. Clear does not open the gate.
func (s State) Clear(ctx context.Context, executors []fleet.Executor, g *fleetgroup.Group, c *Clearing, phrase string) ([]Done, error) {
	t, err := s.ledger().Find(phrase)
	if err != nil {
		return nil, err
	}
	if !confirmation.Equal(t.Phrase, c.Phrase(t.Nonce)) {
		return nil, fmt.Errorf("%w: %s", ErrOtherLatches, c.Phrase("..."))
	}
	if err := s.ledger().Use(t); err != nil {
		return nil, err
	}
	done := each(executors, func(e fleet.Executor) (string, error) {
		req := &executorv1.ClearGateLatchesRequest{Reason: c.Reason}
		for _, set := range c.Set {
			if l, err := ParseLatch(set.Name); err == nil && set.Executor == e.Addr {
				req.Latches = append(req.Latches, l)
				req.LastSetTimes = append(req.LastSetTimes, timestamppb.New(cmp.Or(set.Last, set.Time)))
			}
		}
		if len(req.GetLatches()) == 0 {
			return "has none of them", nil
		}
		got, err := e.Rollouts.ClearGateLatches(ctx, req)
		if err != nil {
			return "", &fleet.CallError{Service: "executor " + e.Addr, Err: err}
		}
		left := make([]string, 0, len(got.GetGate().GetLatches()))
		for _, l := range got.GetGate().GetLatches() {
			left = append(left, fleet.Latch(l.GetLatch()))
		}
		return "cleared; left: " + cmp.Or(strings.Join(left, ", "), "none"), nil
	})
	if c.Kill != "" && !slices.ContainsFunc(done, func(d Done) bool { return d.Err != nil }) {
		start, err := time.Now(), g.DropKill(ctx, c.Kill)
		done = append(done, Done{"group " + g.Group(), "no longer stores a kill: executors that join are not killed", time.Since(start), err})
	}
	return done, nil
}
