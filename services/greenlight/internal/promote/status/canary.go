package status

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// Run is the canary that is running or ended last, from its journal.
type Run struct {
	ID string `json:"id"`
	// Error is why the journal could not be read. The other fields are then empty.
	Error string `json:"error"`
	// Controlled reports whether its controller is running on this machine.
	Controlled bool            `json:"controlled"`
	Decision   canary.Decision `json:"decision"`
	Model      *evidence.Model `json:"model"`
	DryRun     bool            `json:"dry_run"`
	// Phase is the newest phase, from 1 to Phases; 0 before the first. Percent is its share of the requests. Since is its
	// start.
	Phase   int       `json:"phase"`
	Phases  int       `json:"phases"`
	Percent float64   `json:"percent"`
	Since   time.Time `json:"since"`
}

// ended reports whether the run is over and cannot be resumed.
func (r *Run) ended() bool {
	return r.Error == "" && r.Decision != canary.Running && r.Decision != canary.Interrupted
}

// readRun reads the newest run of the state folder; nil if there is none.
func readRun(state canary.State) *Run {
	ids, err := state.Runs()
	if err != nil {
		return &Run{Error: err.Error()}
	}
	if len(ids) == 0 {
		return nil
	}
	run := &Run{ID: ids[len(ids)-1]}
	plan, record, err := state.Read(run.ID)
	if err == nil {
		run.Controlled, err = state.Running(run.ID)
	}
	if err != nil {
		return &Run{ID: run.ID, Error: err.Error()}
	}
	run.Decision, run.Model, run.DryRun = record.Decision, &plan.Model, record.DryRun
	run.Phases, run.Since = len(plan.Policy.Phases), record.StartTime
	if n := len(record.Phases); n > 0 {
		p := record.Phases[n-1]
		run.Phase, run.Percent = p.Index+1, p.Percent
		if !p.StartTime.IsZero() {
			run.Since = p.StartTime
		}
	}
	return run
}

// newestCanary returns the run that started last, including dry runs; nil if there is none. It returns an unreadable file only
// if there is no other: evidence that does not verify is reported elsewhere.
func newestCanary(folder string) *Canary {
	names, err := fs.Glob(os.DirFS(folder), "canary_*.json")
	if err != nil {
		return &Canary{Error: err.Error()}
	}
	var newest *Canary
	for _, name := range names {
		if name == "canary_preflight.json" {
			continue
		}
		c := readCanary(folder, name)
		if newest == nil || c.StartTime.After(newest.StartTime) {
			newest = c
		}
	}
	return newest
}

func readCanary(folder, name string) *Canary {
	var r struct {
		evidence.Header
		canary.Record
	}
	raw, err := durable.ReadFile(filepath.Join(folder, name), durable.MaxDocument)
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return &Canary{File: name, Error: err.Error()}
	}
	return &Canary{
		File: name, Source: r.Source, Model: r.Model, StartTime: r.StartTime, Decision: string(r.Decision), Reason: r.Reason,
	}
}
