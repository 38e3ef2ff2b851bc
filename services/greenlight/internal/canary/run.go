package canary

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/journal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// Run is a run that this process owns until it is closed.
type Run struct {
	Plan   *Plan
	Record *Record
	// Dir is the folder of the run.
	Dir string

	journal *journal.Journal
	owner   io.Closer
	// group and publisher are set if the run is of a group; nil otherwise.
	group     *fleetgroup.Group
	publisher *fleetgroup.Publisher
	// quality judges the live quality; nil without a plan.
	quality *liveQuality
}

const (
	planName = "plan.json"
	// journalSchema is the schema of a journal.
	journalSchema = "greenlight/canary-journal/v1"
)

// Begin creates a run from a confirmed plan. It first marks the phrase as used.
func (s State) Begin(p *Plan, t *confirmation.Ticket) (*Run, error) {
	if err := s.ledger().Use(t); err != nil {
		return nil, err
	}
	return s.begin(p, t.Phrase)
}

// Rehearse creates a dry run, which needs no phrase.
func (s State) Rehearse(p *Plan) (*Run, error) { return s.begin(p, "") }

func (s State) begin(p *Plan, phrase string) (_ *Run, err error) {
	id := journal.NewRun("")
	r := &Run{Plan: p, Dir: s.run(id)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("run %s: %w", id, err), r.Close())
		}
	}()
	if r.owner, err = durable.Own(r.Dir); err != nil {
		return nil, err
	}
	digest, err := p.write(filepath.Join(r.Dir, planName))
	if err != nil {
		return nil, err
	}
	h := journal.Head{Schema: journalSchema, Run: id, PlanSHA256: digest, Confirmation: phrase}
	if r.journal, err = journal.Create(filepath.Join(r.Dir, journal.Name), h); err != nil {
		return nil, err
	}
	r.Record = recordOf(p, h)
	return r, nil
}

func (s State) run(id string) string { return filepath.Join(string(s), "runs", id) }

// recordOf returns the record of a run before its first event.
func recordOf(p *Plan, h journal.Head) *Record {
	r := &Record{
		ID: h.Run, DryRun: h.Confirmation == "", Executors: p.Executors, Metrics: "executor",
		BaselineVersion: p.Baseline.Version, BaselineDigest: p.Baseline.Digest, Policy: p.Policy,
		Confirmation: h.Confirmation, PlanDigest: h.PlanSHA256, Phases: []Phase{}, Decision: Running, Resumptions: []time.Time{},
	}
	if p.URL != "" {
		r.Metrics = p.URL
	}
	if f := p.Fleet; f != nil {
		r.Fleet, r.Metrics = &RecordFleet{Group: f.Group, MinFleet: f.MinFleet}, "reports of group "+f.Group
	}
	if r.DryRun {
		r.PlanDigest = ""
	}
	if p.Quality != nil {
		plan := p.Quality.Plan
		r.QualityPlan = &plan
	}
	return r
}

// Resume opens a run whose controller ended before the run did. An empty id means the newest run.
func (s State) Resume(id string) (_ *Run, err error) {
	if id, err = s.newest(id); err != nil {
		return nil, err
	}
	r := &Run{Dir: s.run(id)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("run %s: %w", id, err), r.Close())
		}
	}()
	if r.owner, err = durable.Own(r.Dir); errors.Is(err, durable.ErrOwned) {
		return nil, ErrRunning
	} else if err != nil {
		return nil, err
	}
	var h journal.Head
	var events []Event
	if r.journal, h, events, err = journal.Open[Event](filepath.Join(r.Dir, journal.Name), journalSchema); err != nil {
		return nil, err
	}
	if r.Plan, r.Record, err = s.replay(h, events); err != nil {
		return nil, err
	}
	if d := r.Record.Decision; d != Running && d != Interrupted {
		return nil, fmt.Errorf("%w: it ended as %s", errNotResumable, d)
	}
	return r, nil
}

// Read returns the plan and record of a run from its journal, even while another process runs it. An empty id means the newest
// run.
func (s State) Read(id string) (*Plan, *Record, error) {
	id, err := s.newest(id)
	if err != nil {
		return nil, nil, err
	}
	h, events, err := journal.Read[Event](filepath.Join(s.run(id), journal.Name), journalSchema)
	if err != nil {
		return nil, nil, err
	}
	return s.replay(h, events)
}

// Events returns the events of a run from its journal, even while another process runs it. An empty id means the newest run.
func (s State) Events(id string) ([]Event, error) {
	id, err := s.newest(id)
	if err != nil {
		return nil, err
	}
	_, events, err := journal.Read[Event](filepath.Join(s.run(id), journal.Name), journalSchema)
	return events, err
}

func (s State) replay(h journal.Head, events []Event) (*Plan, *Record, error) {
	p, err := readPlan(filepath.Join(s.run(h.Run), planName), h.PlanSHA256)
	if err != nil {
		return nil, nil, err
	}
	r := recordOf(p, h)
	for _, e := range events {
		if e.Poll != nil {
			e.Poll.Keep = true
		}
		r.apply(e)
	}
	return p, r, nil
}

// Running reports whether a controller on this machine is running the run.
func (s State) Running(id string) (bool, error) {
	owner, err := durable.Own(s.run(id))
	if errors.Is(err, durable.ErrOwned) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, owner.Close()
}

// Runs returns the ids of all runs, oldest first.
func (s State) Runs() ([]string, error) { return journal.Runs(s.run("")) }

// newest returns the id, which must name a run. An empty id means the newest run.
func (s State) newest(id string) (string, error) {
	ids, err := s.Runs()
	switch {
	case err != nil:
		return "", err
	case len(ids) == 0:
		return "", fmt.Errorf("%w: %s has none", errNoRun, s)
	case id == "":
		return ids[len(ids)-1], nil
	case !slices.Contains(ids, id):
		return "", fmt.Errorf("%w: %s", errNoRun, id)
	}
	return id, nil
}

// Start starts the run that the phrase confirms, unless the services have changed since, and calls conduct, which runs it.
func (s State) Start(ctx context.Context, phrase string, access fleet.Access, conduct func(*Run, *fleet.Services, *preflight.Inspection) error) error {
	plan, ticket, err := s.Confirmed(phrase)
	if err != nil {
		return err
	}
	return plan.Reach(ctx, access, func(services *fleet.Services, g *fleetgroup.Group) error {
		in := plan.Inspect(ctx, services)
		if err := errors.Join(plan.CheckAll(in, ticket.Phrase, ticket.Nonce), Free(in, ""), Readable(ctx, plan)); err != nil {
			return err
		}
		publisher, err := plan.publish(ctx, g, access, fleetgroup.Claim{})
		if err != nil {
			return err
		}
		defer publisher.Close()
		run, err := s.Begin(plan, ticket)
		if err != nil {
			return err
		}
		run.group, run.publisher = g, publisher
		return errors.Join(conduct(run, services, in), run.Close())
	})
}

// Continue resumes a run whose controller has ended, the newest if id is empty, and calls conduct, which runs the rest.
func (s State) Continue(ctx context.Context, id string, access fleet.Access, conduct func(*Run, *fleet.Services, *preflight.Inspection) error) error {
	run, err := s.Resume(id)
	if err != nil {
		return err
	}
	err = run.Plan.Reach(ctx, access, func(services *fleet.Services, g *fleetgroup.Group) error {
		in := run.Plan.Inspect(ctx, services)
		if err := errors.Join(run.Plan.Check(in), Free(in, run.Record.ID)); err != nil {
			return err
		}
		claim := fleetgroup.Claim{Holder: run.Record.ID}
		if f := run.Record.Fleet; f != nil {
			claim.Above = f.Revision
		}
		publisher, err := run.Plan.publish(ctx, g, access, claim)
		if err != nil {
			return err
		}
		defer publisher.Close()
		run.group, run.publisher = g, publisher
		return conduct(run, services, nil)
	})
	return errors.Join(err, run.Close())
}

// Reach connects to the services of the plan. The group is nil if the plan has none.
func (p *Plan) Reach(ctx context.Context, access fleet.Access, use func(*fleet.Services, *fleetgroup.Group) error) error {
	if p.Fleet == nil {
		services, err := fleet.Dial(fleet.Options{Access: access, Engines: p.Engines, Executors: p.Executors})
		if err != nil {
			return err
		}
		return errors.Join(use(services, nil), services.Close())
	}
	return fleetgroup.UseServices(ctx, p.Fleet.Address, access, p.Engines, fleetgroup.Brake{}, use)
}

// publish makes this process the controller of the plan's group. It returns nil if the plan has no group.
func (p *Plan) publish(ctx context.Context, g *fleetgroup.Group, access fleet.Access, c fleetgroup.Claim) (*fleetgroup.Publisher, error) {
	if g == nil {
		return nil, nil //nolint:nilnil // the leases of the executors hold the share
	}
	c.Lease = time.Duration(p.Policy.Lease)
	if access.Logger != nil {
		c.Waiting = func(what string) { access.Logger.Info("another controller holds the group", "what", what) }
	}
	publisher, err := g.Publish(ctx, c)
	if taken := (*fleetgroup.TakenError)(nil); errors.As(err, &taken) {
		return nil, fmt.Errorf("%w: %w", ErrHeld, taken)
	}
	return publisher, err
}

// EvidenceName returns the name of the run's evidence, without its extension.
func (r *Run) EvidenceName() string { return "canary_run_" + r.Record.ID[:len("20060102T150405Z")] }

// Go runs the remaining phases and returns the record; see [Controller.Run]. If a rollout has changed since the inspection
// from, somebody else changed it; nil accepts any rollout.
func (r *Run) Go(ctx context.Context, services *fleet.Services, from *preflight.Inspection, metrics Source, observe func(Event)) (*Record, error) {
	o := Options{
		Record: r.Record, Controller: strings.ToLower(rand.Text()[:8]), Source: r.Plan.Source,
		Executors: services.Executors, Revisions: from.Revisions(), Metrics: metrics, Model: r.Plan.Model, Baseline: r.Plan.Baseline,
		ActiveModels: func(ctx context.Context) ([]evidence.Model, error) {
			return preflight.ActiveModels(ctx, services.Engines)
		},
		PSI: func(ctx context.Context) (float64, error) {
			v, _, err := preflight.PSI(ctx, services.Engines)
			return v, err
		},
		Interval: time.Duration(r.Plan.Interval),
		Journal:  func(e Event) error { return r.journal.Add(e) }, Observe: observe,
	}
	if f := r.Plan.Fleet; f != nil {
		o.Fleet = &FleetOptions{Group: r.group, Publisher: r.publisher, Model: r.Plan.Model.Digest, MinFleet: f.MinFleet}
	}
	if q := r.Record.QualityPlan; q != nil {
		r.quality = &liveQuality{records: fleet.NewRecords(services.Recorders, r.Plan.Model.Digest, r.Plan.Baseline.Digest, *q), plan: *q}
		o.QualityPlan, o.Quality = q, r.quality.read
	}
	record, err := NewController(o).Run(ctx)
	if r.quality != nil {
		record.forget(r.QualityRecords())
	}
	return record, err
}

// QualityRecords returns the records that the live quality was judged from.
func (r *Run) QualityRecords() []outcome.Record {
	if r.quality == nil {
		return nil
	}
	return r.quality.records.All()
}

// Inputs returns the files that the record can be computed from.
func (r *Run) Inputs() ([]evidence.Input, error) {
	inputs := slices.Clone(r.Plan.Inputs)
	for _, name := range []string{planName, journal.Name} {
		in, err := evidence.InputOf(filepath.Join(r.Dir, name))
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

// Close releases the run for other processes.
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
