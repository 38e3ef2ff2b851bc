// Package rollback is the emergency brake: every ml-engine returns to its previous model, and every executor stops its
// shadows. It calls all services in parallel, without asking for confirmation, and reads back the result.
package rollback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Schema is the schema of rollback_<time>.json, and Pattern matches the names of such files.
const (
	Schema  = "greenlight/rollback/v1"
	Pattern = "rollback_*.json"
)

// Result is the body of rollback_<time>.json.
type Result struct {
	Reason    string    `json:"reason"`
	StartTime time.Time `json:"start_time"`
	// TookMS is the time from the start until everything was read back, in milliseconds.
	TookMS float64 `json:"took_ms"`
	// Complete reports whether every service was rolled back.
	Complete  bool       `json:"complete"`
	Engines   []Engine   `json:"engines"`
	Executors []Executor `json:"executors"`
}

// Engine is the result for one ml-engine.
type Engine struct {
	Address string `json:"address"`
	// From is the model it served before, To the one it serves now; null if unknown.
	From *evidence.Model `json:"from"`
	To   *evidence.Model `json:"to"`
	// Already reports whether it had been rolled back before, and was left unchanged. From is then the model before that rollback.
	Already bool `json:"already"`
	Done    bool `json:"done"`
	// Error is the reason it failed, or another problem; empty if there is none. Hint is what to do about it.
	Error  string  `json:"error"`
	Hint   string  `json:"-"`
	TookMS float64 `json:"took_ms"`
}

// Executor is the result for one executor.
type Executor struct {
	Address string `json:"address"`
	// Percent and Mode were read back; null and empty if that failed.
	Percent *float64 `json:"percent"`
	Mode    string   `json:"mode"`
	Done    bool     `json:"done"`
	// Error is the reason it failed, or another problem; empty if there is none. Hint is what to do about it.
	Error  string  `json:"error"`
	Hint   string  `json:"-"`
	TookMS float64 `json:"took_ms"`
}

// Run rolls all services back. It waits at most until ctx ends.
func Run(ctx context.Context, p *fleet.Services, reason string) *Result {
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

// Err returns an error that names what was and was not rolled back; nil if everything was.
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
	noModelBefore = "activate another model with greenlight model activate"
	pullAgain     = "run the command again for those: it does not touch services that were rolled back"
)

// Hint returns what to do about the failures, without repetition.
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

// attempts bounds the calls to an engine. One is enough unless two operators roll back at the same time: RollbackModel swaps
// the models, and two swaps cancel out.
const attempts = 4

// back returns the engine to its previous model.
//
// A second RollbackModel would undo the first, for example when an operator rolls back twice or retries after a partial
// failure. The load times show the state: after an activation the active model was loaded later, after a rollback the other
// one. An engine that was already rolled back is left unchanged.
func back(ctx context.Context, e fleet.Engine) (r Engine) {
	r.Address = e.Addr
	// If the list cannot be read, for example because the registry's disk failed, RollbackModel is called anyway: it needs no
	// disk, and its answer has the same models.
	if list, err := e.Models.ListModels(ctx, &mlenginev1.ListModelsRequest{}); err == nil {
		r.From = described(list.GetActive())
		switch {
		case list.GetPrevious() == nil:
			r.To = r.From
			r.Error = fmt.Sprintf("%s has been active since it started: there is no model to return to", r.From.Version)
			r.Hint = noModelBefore
			return r
		case returned(list.GetActive(), list.GetPrevious()):
			r.Already, r.From = true, described(list.GetPrevious())
			return readBack(ctx, e, r, described(list.GetActive()))
		}
	}
	for range attempts {
		answer, err := e.Models.RollbackModel(ctx, &mlenginev1.RollbackModelRequest{})
		if err != nil {
			r.Error, r.Hint = fleet.Plain(err).Error(), fleet.Hint(err)
			return r
		}
		if r.From == nil {
			r.From = described(answer.GetPrevious())
		}
		if returned(answer.GetActive(), answer.GetPrevious()) {
			return readBack(ctx, e, r, described(answer.GetActive()))
		}
	}
	r.Error = "each rollback was undone: somebody else is swapping its model"
	return r
}

// returned reports whether the last swap was a rollback: the active model was loaded before the other.
func returned(active, previous *mlenginev1.ActiveModel) bool {
	return loaded(active).Before(loaded(previous))
}

// loaded returns when a model was loaded; a missing time is the oldest.
func loaded(m *mlenginev1.ActiveModel) time.Time {
	if t := m.GetLoadTime(); t != nil {
		return t.AsTime()
	}
	return time.Time{}
}

func described(m *mlenginev1.ActiveModel) *evidence.Model {
	return &evidence.Model{Version: m.GetVersion(), Digest: m.GetDigest()}
}

// readBack reads which model the engine serves.
func readBack(ctx context.Context, e fleet.Engine, r Engine, want *evidence.Model) Engine {
	served, err := e.Model(ctx)
	if err != nil {
		r.Error, r.Hint = "not read back: "+fleet.Plain(err).Error(), fleet.Hint(err)
		return r
	}
	r.To = &served
	if r.Done = served == *want; !r.Done {
		r.Error = fmt.Sprintf("it serves %s, not %s", served.Version, want.Version)
	}
	return r
}

// stop ends the shadows of the executor.
func stop(ctx context.Context, e fleet.Executor, reason string) (r Executor) {
	r.Address = e.Addr
	now, err := e.Stop(ctx, reason)
	if err != nil {
		r.Error, r.Hint = fleet.Plain(err).Error(), fleet.Hint(err)
	}
	if errors.Is(err, fleet.ErrNotReadBack) {
		r.Error = "not read back: " + r.Error
	}
	if now == nil {
		return r
	}
	percent := now.GetPercent()
	r.Percent, r.Mode = &percent, fleet.Mode(now.GetMode())
	r.Done = percent == 0 && now.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF
	if !r.Done && r.Error == "" {
		r.Error = fmt.Sprintf("it was stopped, but reports %v %%, %s", percent, r.Mode)
	}
	return r
}

// Of reports whether the model with the digest was rolled back, or may have been: an ml-engine served it, or did not say what
// it served. The rollback need not have succeeded: somebody wanted it.
func (r *Result) Of(digest string) bool {
	return slices.ContainsFunc(r.Engines, func(e Engine) bool { return e.From == nil || e.From.Digest == digest })
}

// Write writes the result to a file of the evidence, and returns its name. The header names the model that the first ml-engine
// served before. git is the revision of the program.
func (r *Result) Write(store *evidence.Store, git string) (string, error) {
	header := evidence.Header{Schema: Schema, Source: evidence.Live, Git: git}
	if len(r.Engines) > 0 {
		header.Model = r.Engines[0].From
	}
	name := strings.Replace(Pattern, "*", r.StartTime.Format("20060102T150405.000Z"), 1)
	return name, store.WriteJSON(name, header, r)
}

// Text writes one line per service.
func (r *Result) Text(out io.Writer) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	for _, e := range r.Engines {
		switch {
		case e.Done && e.Already:
			line("engine    %s had already returned to %s", e.Address, e.To.Version)
		case e.Done:
			line("engine    %s serves %s again, not %s: %.1f ms", e.Address, e.To.Version, e.From.Version, e.TookMS)
		default:
			line("engine    %s FAILED: %s", e.Address, e.Error)
		}
	}
	for _, e := range r.Executors {
		switch {
		case e.Done && e.Error != "":
			line("executor  %s shadows nothing (%v %%, %s): %.1f ms; but %s", e.Address, *e.Percent, e.Mode, e.TookMS, e.Error)
		case e.Done:
			line("executor  %s shadows nothing (%v %%, %s): %.1f ms", e.Address, *e.Percent, e.Mode, e.TookMS)
		default:
			line("executor  %s FAILED: %s", e.Address, e.Error)
		}
	}
	if r.Complete {
		line("rollback  complete and read back in %.1f ms", r.TookMS)
	}
}
