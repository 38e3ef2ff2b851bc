package gatekeeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/journal"
)

// State is the folder of the phrases and runs:
//
//	phrases/<nonce>.json, .used    a phrase, and a mark that it was used
//	runs/<run>/gate_plan_*.json    the plan of a run, as in the evidence
//	runs/<run>/journal.jsonl       its events
type State string

const (
	planPattern   = "gate_plan_*.json"
	runPrefix     = "gate-"
	journalSchema = "greenlight/gate-journal/v1"
)

func (s State) run(id string) string { return filepath.Join(string(s), "runs", id) }

func (s State) ledger() *confirmation.Ledger {
	return confirmation.NewLedger(filepath.Join(string(s), "phrases"))
}

// confirmed holds what the phrase of a plan confirms.
type confirmed struct {
	PlanSHA256 string `json:"plan_sha256"`
}

// Issue returns the phrase that starts the gate of the plan. It is valid once and for a limited time.
func (s State) Issue(f *PlanFile, validity time.Duration) (*confirmation.Ticket, error) {
	return s.ledger().Issue(validity, func(nonce string, _ time.Time) (string, any, error) {
		return f.Phrase(nonce), confirmed{f.Input.SHA256}, nil
	})
}

// ErrOtherPlan means that the phrase was issued for another plan.
var ErrOtherPlan = errors.New("the phrase is for another plan")

// Confirmed returns the ticket of a phrase that is valid now and confirms exactly this plan. It changes nothing.
func (s State) Confirmed(f *PlanFile, phrase string) (*confirmation.Ticket, error) {
	t, err := s.ledger().Find(phrase)
	if err != nil {
		return nil, err
	}
	var what confirmed
	if err := json.Unmarshal(t.Payload, &what); err != nil {
		return nil, fmt.Errorf("ledger of phrases: %w", err)
	}
	if what.PlanSHA256 != f.Input.SHA256 || !confirmation.Equal(t.Phrase, f.Phrase(t.Nonce)) {
		return nil, fmt.Errorf("%w: it names %.12s, and %s has %.12s", ErrOtherPlan, what.PlanSHA256, f.Input.Path, f.Input.SHA256)
	}
	return t, nil
}

// Run is a run that this process owns until it is closed.
type Run struct {
	Record *Record
	// Dir is the folder of the run.
	Dir string

	journal *journal.Journal
	owner   io.Closer
}

// Begin uses up the phrase, and creates a run of the confirmed plan.
func (s State) Begin(f *PlanFile, t *confirmation.Ticket) (_ *Run, err error) {
	if err := s.ledger().Use(t); err != nil {
		return nil, err
	}
	id := journal.NewRun(runPrefix)
	r := &Run{Dir: s.run(id)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("run %s: %w", id, err), r.Close())
		}
	}()
	if r.owner, err = durable.Own(r.Dir); err != nil {
		return nil, err
	}
	raw, err := durable.ReadFile(filepath.Join(f.Folder, f.Input.Path), maxPlan)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(r.Dir, f.Input.Path), raw, 0o644); err != nil {
		return nil, err
	}
	h := journal.Head{Schema: journalSchema, Run: id, PlanSHA256: f.Input.SHA256, Confirmation: t.Phrase}
	if r.journal, err = journal.Create(filepath.Join(r.Dir, journal.Name), h); err != nil {
		return nil, err
	}
	r.Record = newRecord(f, h)
	r.Record.Folder, err = filepath.Abs(f.Folder)
	return r, err
}

// add writes an event to disk.
func (r *Run) add(e Event) error { return r.journal.Add(e) }

// Close releases the run to other processes.
func (r *Run) Close() error {
	var errs []error
	if r.journal != nil {
		errs = append(errs, r.journal.Close())
	}
	if r.owner != nil {
		errs = append(errs, r.owner.Close())
	}
	return errors.Join(errs...)
}

// Runs returns the ids of all runs, oldest first.
func (s State) Runs() ([]string, error) { return journal.Runs(s.run("")) }

// doneName marks a run whose evidence is written.
const doneName = "done"

// Settle calls write for every run whose keeper was killed, with the result [Interrupted]. It skips runs that another process
// keeps. If write fails, the run is settled the next time.
func (s State) Settle(write func(*Run) error) error {
	ids, err := s.Runs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.settle(id, write); err != nil {
			return fmt.Errorf("run %s: %w", id, err)
		}
	}
	return nil
}

func (s State) settle(id string, write func(*Run) error) (err error) {
	if _, err := os.Lstat(filepath.Join(s.run(id), doneName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r := &Run{Dir: s.run(id)}
	if r.owner, err = durable.Own(r.Dir); errors.Is(err, durable.ErrOwned) {
		return nil
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err != nil {
		return err
	}
	var h journal.Head
	var events []Event
	if r.journal, h, events, err = journal.Open[Event](filepath.Join(r.Dir, journal.Name), journalSchema); err != nil {
		return err
	}
	plans, err := filepath.Glob(filepath.Join(r.Dir, planPattern))
	if err != nil || len(plans) != 1 {
		return errors.Join(err, fmt.Errorf("%s has %d plans: want one", r.Dir, len(plans)))
	}
	f, err := ReadPlan(plans[0])
	if err != nil {
		return err
	}
	if f.Input.SHA256 != h.PlanSHA256 {
		return fmt.Errorf("%s: its digest is %.12s, and %.12s was confirmed", plans[0], f.Input.SHA256, h.PlanSHA256)
	}
	r.Record = newRecord(f, h)
	for _, e := range events {
		r.Record.apply(e)
	}
	if r.Record.Decision == Running {
		e := Event{Kind: Finished, Time: r.Record.last, Decision: Interrupted, Reason: "its keeper was killed, or its machine went down; every lease has lapsed or will lapse"}
		if err := r.add(e); err != nil {
			return err
		}
		r.Record.apply(e)
	}
	if err := write(r); err != nil {
		return err
	}
	return r.done()
}

// done marks the evidence of the run as written.
func (r *Run) done() error { return durable.WriteFile(filepath.Join(r.Dir, doneName), nil, 0o644) }
