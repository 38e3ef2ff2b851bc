// Package status shows services and evidence on one screen: the served model, the rollout and who set it, the quality of the
// shadow, input drift, and whether the evidence verifies. It also shows contradictory answers, because operators must see
// them.
package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Status is the whole screen. Each part has its own error, and an error hides no other part.
type Status struct {
	Time      time.Time  `json:"time"`
	Engines   []Engine   `json:"engines"`
	Executors []Executor `json:"executors"`
	Evidence  Evidence   `json:"evidence"`
	// Run is the newest canary in the state folder of this machine; null if there is none.
	Run *Run `json:"canary_run"`

	state canary.State
}

// Read reads everything in parallel, and waits at most until ctx ends. folder is the evidence folder, state the folder with
// the journals of canaries.
func Read(ctx context.Context, p *fleet.Services, folder string, state canary.State) *Status {
	s := &Status{Time: time.Now().UTC().Truncate(time.Millisecond), state: state}
	drifts := make([]*Drift, len(p.Engines))
	var now *fleet.Snapshot
	var wg sync.WaitGroup
	wg.Go(func() { now = p.Snapshot(ctx) })
	for i, e := range p.Engines {
		wg.Go(func() { drifts[i] = readDrift(ctx, e) })
	}
	wg.Go(func() { s.Evidence = readEvidence(folder) })
	wg.Go(func() { s.Run = readRun(state) })
	wg.Wait()
	s.Engines, s.Executors = make([]Engine, len(now.Engines)), make([]Executor, len(now.Executors))
	for i := range now.Engines {
		if s.Engines[i] = engineOf(&now.Engines[i]); s.Engines[i].Error == "" && s.Engines[i].ModelServer == "" {
			s.Engines[i].Drift = drifts[i]
		}
	}
	for i := range now.Executors {
		s.Executors[i] = executorOf(&now.Executors[i], now.Time)
	}
	return s
}

// Reached reports whether every part could be read.
func (s *Status) Reached() bool {
	reached := s.Evidence.Error == "" && (s.Run == nil || s.Run.Error == "")
	for _, e := range s.Engines {
		reached = reached && e.Error == "" && (e.Drift == nil || e.Drift.Error == "")
	}
	for _, e := range s.Executors {
		reached = reached && e.Error == "" && e.Rollout.Error == ""
	}
	return reached
}

// Hints returns what to do about failed calls, without repetition.
func (s *Status) Hints() []string {
	var hints []string
	add := func(hint string) {
		if hint != "" && !slices.Contains(hints, hint) {
			hints = append(hints, hint)
		}
	}
	for _, e := range s.Engines {
		add(e.Hint)
		if e.Drift != nil {
			add(e.Drift.Hint)
		}
	}
	for _, e := range s.Executors {
		add(e.Hint)
		add(e.Rollout.Hint)
	}
	return hints
}

// Evidence is the state of the evidence folder.
type Evidence struct {
	Folder string `json:"folder"`
	// Error is why it could not be read. The other fields are then empty.
	Error string `json:"error"`
	// Holds reports whether all of it verifies. Problem is the first problem found.
	Holds   bool   `json:"holds"`
	Problem string `json:"problem"`
	Files   int    `json:"files"`
	Head    string `json:"head"`
	// Canary is the newest run, live or not; null if there is none.
	Canary *Canary `json:"canary"`
}

// Canary is the result of the newest canary run.
type Canary struct {
	File      string          `json:"file"`
	Source    evidence.Source `json:"source"`
	Model     *evidence.Model `json:"model"`
	StartTime time.Time       `json:"start_time"`
	Decision  string          `json:"decision"`
	Reason    string          `json:"reason"`
	// Error is why it could not be read. All fields but File are then empty.
	Error string `json:"error"`
}

func readEvidence(folder string) Evidence {
	e := Evidence{Folder: folder}
	report, err := evidence.Verify(folder)
	if err != nil {
		e.Error = err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			e.Error = "there is no folder " + folder
		}
		return e
	}
	e.Holds, e.Files, e.Head = report.OK(), report.Files, report.Head
	if err := report.Err(); err != nil {
		e.Problem = fmt.Sprintf("%v (%d in all)", err, len(report.Problems))
	}
	e.Canary = newestCanary(folder)
	return e
}
