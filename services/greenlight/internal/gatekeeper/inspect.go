package gatekeeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// The kinds of errors that keep a gate from starting. Each has a hint: see [Hint].
var (
	errNotAllowed = errors.New("an executor does not let a model decide")
	errLatched    = errors.New("a latch keeps a gate shut")
	errOtherModel = errors.New("the ml-engine of an executor has another model")
	errHeld       = errors.New("somebody else holds the rollout")
	errTwice      = errors.New("an executor is named twice")
)

var hints = map[error]string{
	errNotAllowed:            "nothing was changed; start it with --allow-gated and --state-dir, after you have read docs/operator.md",
	errLatched:               "nothing was changed; greenlight gate status shows who set it and why; greenlight gate clear clears it once the cause is fixed",
	errOtherModel:            "nothing was changed; activate the promoted model on every ml-engine: greenlight model activate",
	errHeld:                  "nothing was changed; wait for it to end, or end it with greenlight canary abort or greenlight gate stop",
	errTwice:                 "nothing was changed; name each process once: 127.0.0.1 and localhost are the same",
	ErrNoRanges:              "models of earlier releases lack them: train it with --versions or import it under a new version, and promote that; the same version keeps its profile",
	ErrTooManySymbols:        "nothing was changed; name fewer symbols, or let it decide all of them with --all-symbols",
	ErrOtherPlan:             "give --plan the file that greenlight gate plan wrote with this phrase",
	promote.ErrNotPromoted:   "greenlight promote --check lists what blocks the promotion; a gate takes promoted models only",
	evidence.ErrBroken:       "greenlight evidence verify lists all problems",
	confirmation.ErrForm:     "repeat the whole line that greenlight gate plan or greenlight gate clear printed, in quotes",
	confirmation.ErrUnknown:  "--state must name the folder where the phrase was created",
	confirmation.ErrMismatch: "repeat the line exactly as it was printed",
	confirmation.ErrUsed:     "a phrase works once: print a new one with greenlight gate plan or greenlight gate clear",
	confirmation.ErrExpired:  "print a new one with greenlight gate plan or greenlight gate clear",
}

// Hint returns what to do about an error; empty if nothing is known to help.
func Hint(err error) string {
	for kind, hint := range hints {
		if errors.Is(err, kind) {
			return hint
		}
	}
	return ""
}

// Inspection is the state of the executors before a gate starts.
type Inspection struct {
	executors []fleet.Executor
	answers   []*executorv1.GetRolloutResponse
	// hold is the group of the executors; nil without one.
	hold *hold
}

// Inspect reads all executors. It returns an error unless each is ready for the plan: it allows a gate, has no latch, its
// ml-engine has the model, and nobody holds its rollout.
func Inspect(ctx context.Context, executors []fleet.Executor, p *Plan) (*Inspection, error) {
	in := &Inspection{executors: executors}
	var errs []error
	in.answers, errs = fleet.Each(executors, func(e fleet.Executor) (*executorv1.GetRolloutResponse, error) {
		report, err := e.Report(ctx)
		if err != nil {
			return nil, err
		}
		got, err := e.Rollout(ctx)
		if err != nil {
			return nil, err
		}
		return got, ready(got, report, p)
	})
	fleet.Rethrow(errs...)
	for i, err := range errs {
		if err != nil && !errors.As(err, new(*fleet.CallError)) && !errors.Is(err, fleet.ErrContradicts) {
			errs[i] = fmt.Errorf("executor %s: %w", executors[i].Addr, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var names, processes []string
	for i, e := range executors {
		names, processes = append(names, e.Addr), append(processes, in.answers[i].GetInstanceId())
	}
	if err := fleet.CheckDistinct("executor", names, processes); err != nil {
		return nil, fmt.Errorf("%w: %w", errTwice, err)
	}
	return in, nil
}

func ready(got *executorv1.GetRolloutResponse, report *executorv1.GetShadowReportResponse, p *Plan) error {
	g, r := got.GetGate(), got.GetRollout()
	active := cmp.Or(g.GetModelDigest(), report.GetShadowDigest()) // executors of earlier versions have only the second
	var latches []string
	for _, l := range g.GetLatches() {
		latches = append(latches, latchOf(l).String())
	}
	switch {
	case !g.GetAllowed():
		return errNotAllowed
	case len(latches) > 0:
		return fmt.Errorf("%w: %s", errLatched, strings.Join(latches, "; "))
	case active == "":
		return fmt.Errorf("%w: none, because it has not reached ml-engine", errOtherModel)
	case active != p.Model.Digest:
		return fmt.Errorf("%w: digest %.12s, but the plan is for %s", errOtherModel, clean(active), p.Model)
	case r.GetHolder() != "":
		return fmt.Errorf("%w: %s", errHeld, fleet.DescribeRollout(r))
	}
	return nil
}

// Target holds the executors on which a gate is started.
type Target struct {
	// Executors are those present. Group is their group; nil without one.
	Executors []fleet.Executor
	Group     *fleetgroup.Group
	// Timeout bounds the inspection. Waiting, which may be nil, is called with what the inspection waits for.
	Timeout time.Duration
	Waiting func(string)
}

// Start starts the confirmed gate on the executors, and calls conduct, which keeps it open. If the plan does not verify or an
// executor is not ready, it returns an error and changes nothing.
func (s State) Start(ctx context.Context, f *PlanFile, phrase string, t Target, verify func(string) (evidence.Report, error), conduct func(*Run, *Inspection) error) error {
	if t.Group != nil && t.Group.Signer == nil {
		return fleetgroup.ErrNoKey
	}
	if err := f.Verify(verify); err != nil {
		return err
	}
	ticket, err := s.Confirmed(f, phrase)
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	in, err := Inspect(asked, t.Executors, f.Plan)
	if err != nil {
		return err
	}
	if t.Group != nil {
		if err := in.claim(ctx, t, time.Duration(f.Lease)); err != nil {
			return err
		}
		defer in.hold.publisher.Close()
	}
	run, err := s.Begin(f, ticket)
	if err != nil {
		return err
	}
	return errors.Join(conduct(run, in), run.Close())
}
