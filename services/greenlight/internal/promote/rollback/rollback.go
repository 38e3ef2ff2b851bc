// Package rollback is the emergency brake: every ml-engine returns to the model before, and every executor stops its
// shadows. All are told at once, nothing is asked, and what they do afterwards is read back.
package rollback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/pair"
)

// Schema names the kind of evidence of rollback_<time>.json.
const Schema = "greenlight/rollback/v1"

// maxReason is how long a reason may be for an executor, in bytes.
const maxReason = 512

// Result is what was done: the body of rollback_<time>.json.
type Result struct {
	Reason    string    `json:"reason"`
	StartTime time.Time `json:"start_time"`
	// TookMS is from the beginning until all had been read back, in milliseconds.
	TookMS float64 `json:"took_ms"`
	// Complete says that every service was told and has obeyed.
	Complete  bool       `json:"complete"`
	Engines   []Engine   `json:"engines"`
	Executors []Executor `json:"executors"`
}

// Engine is what became of one ml-engine.
type Engine struct {
	Address string `json:"address"`
	// From is what it served before, To what it serves now, as far as it said; null otherwise.
	From *evidence.Model `json:"from"`
	To   *evidence.Model `json:"to"`
	// Already says that it had returned to the model before, and was left there.
	Already bool `json:"already"`
	Done    bool `json:"done"`
	// Error is why it is not done, or what else was wrong; empty when nothing was. Hint is what to do about it.
	Error  string  `json:"error"`
	Hint   string  `json:"-"`
	TookMS float64 `json:"took_ms"`
}

// Executor is what became of one executor.
type Executor struct {
	Address string `json:"address"`
	// Percent and Mode are what was read back; null and empty when it was not.
	Percent *float64 `json:"percent"`
	Mode    string   `json:"mode"`
	Done    bool     `json:"done"`
	// Error is why it is not done, or what else was wrong; empty when nothing was. Hint is what to do about it.
	Error  string  `json:"error"`
	Hint   string  `json:"-"`
	TookMS float64 `json:"took_ms"`
}

// Run rolls the pair back. It waits for all, at most until ctx ends.
func Run(ctx context.Context, p *pair.Pair, reason string) *Result {
	start := time.Now()
	r := &Result{
		Reason: reason, StartTime: start.UTC().Truncate(time.Millisecond),
		Engines: make([]Engine, len(p.Engines)), Executors: make([]Executor, len(p.Executors)),
	}
	var wg sync.WaitGroup
	for i, e := range p.Executors {
		wg.Go(func() {
			r.Executors[i] = stop(ctx, e, reason)
			r.Executors[i].TookMS = since(start)
		})
	}
	for i, e := range p.Engines {
		wg.Go(func() {
			r.Engines[i] = back(ctx, e)
			r.Engines[i].TookMS = since(start)
		})
	}
	wg.Wait()
	r.TookMS = since(start)
	r.Complete = r.Err() == nil
	return r
}

func since(start time.Time) float64 { return float64(time.Since(start)) / float64(time.Millisecond) }

// Err names what was not done, and what was; nil when everything was.
func (r *Result) Err() error {
	var done, not []string
	add := func(ok bool, who, why string) {
		if ok {
			done = append(done, who)
		} else {
			not = append(not, who+" ("+why+")")
		}
	}
	for _, e := range r.Engines {
		add(e.Done, "ml-engine "+e.Address, e.Error)
	}
	for _, e := range r.Executors {
		add(e.Done, "executor "+e.Address, e.Error)
	}
	switch {
	case len(not) == 0 && len(done) == 0:
		return errors.New("nothing to roll back: no ml-engine and no executor was named")
	case len(not) == 0:
		return nil
	case len(done) == 0:
		return fmt.Errorf("nothing was rolled back: %s", strings.Join(not, "; "))
	default:
		return fmt.Errorf("not rolled back: %s; rolled back: %s", strings.Join(not, "; "), strings.Join(done, ", "))
	}
}

const (
	noModelBefore = "greenlight model activate makes another model the active one"
	pullAgain     = "give the command again for those: it leaves alone what has obeyed"
)

// Hint is what to do about what was not done: each thing once.
func (r *Result) Hint() string {
	var hints []string
	add := func(done bool, hint string) {
		switch hint {
		case noModelBefore:
		case "":
			hint = pullAgain
		default:
			hint += ", then " + pullAgain
		}
		if !done && !slices.Contains(hints, hint) {
			hints = append(hints, hint)
		}
	}
	for _, e := range r.Engines {
		add(e.Done, e.Hint)
	}
	for _, e := range r.Executors {
		add(e.Done, e.Hint)
	}
	return strings.Join(hints, "; ")
}

// attempts is how often an engine is told. Once is enough unless two brakes are pulled at the same time: RollbackModel
// swaps, and twice is where one was.
const attempts = 4

// back returns the engine to the model before.
//
// A second call of RollbackModel would bring the model back that the first has taken away, so that whoever pulls the
// brake twice, or again after a part of it failed, would undo it. What tells is which of the two was loaded later: after
// an activation the active one, after a rollback the other. An engine that has returned already is left there.
func back(ctx context.Context, e pair.Engine) (r Engine) {
	r.Address = e.Addr
	// If the list cannot be read, say since the registry's disk is broken, the engine is told all the same: RollbackModel
	// needs no disk, and its answer says the same.
	if list, err := e.Models.ListModels(ctx, &mlenginev1.ListModelsRequest{}); err == nil {
		r.From = described(list.GetActive())
		switch {
		case list.GetPrevious() == nil:
			r.To = r.From
			r.Error = fmt.Sprintf("%s has been active since it started: there is no model to return to", r.From.Version)
			r.Hint = noModelBefore
			return r
		case returned(list.GetActive(), list.GetPrevious()):
			r.Already = true
			return readBack(ctx, e, r, r.From)
		}
	}
	for range attempts {
		answer, err := e.Models.RollbackModel(ctx, &mlenginev1.RollbackModelRequest{})
		if err != nil {
			r.Error, r.Hint = pair.Plain(err).Error(), pair.Hint(err)
			return r
		}
		if r.From == nil {
			r.From = described(answer.GetPrevious())
		}
		if returned(answer.GetActive(), answer.GetPrevious()) {
			return readBack(ctx, e, r, described(answer.GetActive()))
		}
	}
	r.Error = "it was rolled forward as often as it was rolled back: somebody else swaps its model"
	return r
}

// returned says whether the last swap was a rollback: the active model was loaded before the other.
func returned(active, previous *mlenginev1.ActiveModel) bool {
	return loaded(active).Before(loaded(previous))
}

func loaded(m *mlenginev1.ActiveModel) time.Time { return asTime(m.GetLoadTime()) }

func asTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func described(m *mlenginev1.ActiveModel) *evidence.Model {
	return &evidence.Model{Version: m.GetVersion(), Digest: m.GetDigest()}
}

// readBack asks the engine what it scores with.
func readBack(ctx context.Context, e pair.Engine, r Engine, want *evidence.Model) Engine {
	info, err := e.Scoring.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{})
	if err != nil {
		r.Error, r.Hint = "told, and not read back: "+pair.Plain(err).Error(), pair.Hint(err)
		return r
	}
	r.To = &evidence.Model{Version: info.GetVersion(), Digest: info.GetDigest()}
	if r.Done = *r.To == *want; !r.Done {
		r.Error = fmt.Sprintf("it serves %s and not %s", r.To.Version, want.Version)
	}
	return r
}

// stop ends the shadows of the executor.
func stop(ctx context.Context, e pair.Executor, reason string) (r Executor) {
	r.Address = e.Addr
	_, aborted := e.Rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{Reason: clip(reason)})
	if aborted != nil {
		r.Error, r.Hint = pair.Plain(aborted).Error(), pair.Hint(aborted)
	}
	// Read back even so: an abort that could not be written to disk is in force.
	answer, err := e.Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
	if err != nil {
		if r.Error == "" {
			r.Error, r.Hint = "told, and not read back: "+pair.Plain(err).Error(), pair.Hint(err)
		}
		return r
	}
	rollout := answer.GetRollout()
	percent := rollout.GetPercent()
	r.Percent, r.Mode = &percent, pair.Mode(rollout.GetMode())
	r.Done = percent == 0 && rollout.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF
	if !r.Done && r.Error == "" {
		r.Error = fmt.Sprintf("told to stop, and it says %v %%, %s", percent, r.Mode)
	}
	return r
}

// clip cuts the reason to what an executor takes, between characters.
func clip(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "")
}
