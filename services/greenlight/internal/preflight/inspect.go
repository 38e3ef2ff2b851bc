// Package preflight reads the state of the services and of the offline evidence before a canary, and reports what speaks
// against one. It changes nothing.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// The kinds of errors of an inspection. Each has a hint: see [Hint].
var (
	ErrUnreached  = errors.New("not reached")
	ErrTwice      = errors.New("a service is named twice")
	ErrDisagree   = errors.New("the replicas differ")
	ErrNoEvidence = errors.New("no offline evidence")
	errDenied     = errors.New("refused")
	hints         = map[error]string{
		ErrUnreached:         "nothing was changed; start it, or name its address with --executor or --engine",
		fleet.ErrContradicts: "nothing was changed; see that the address is that of an executor or ml-engine of this version, then restart it",
		ErrTwice:             "nothing was changed; name each process once: 127.0.0.1 and localhost are one, and so are two forwards to one pod",
		ErrDisagree:          "nothing was changed; a canary compares one model with one baseline: give all replicas the same ones",
		ErrNoEvidence:        "the model's own is in the registry folder, which --models names; greenlight eval --model writes it to the folder that --evidence names",
	}
)

// Hint returns what to do about an error; empty if nothing is known to help.
func Hint(err error) string {
	if errors.Is(err, ErrUnreached) || errors.Is(err, errDenied) {
		if hint := fleet.Hint(err); hint != "" {
			return "nothing was changed; " + hint
		}
	}
	for kind, hint := range hints {
		if errors.Is(err, kind) {
			return hint
		}
	}
	return ""
}

// Inspection is the state of the services and of the offline evidence before a canary.
type Inspection struct {
	*fleet.Snapshot

	// PSI is the overall index, or nil if it is unknown; PSIErr is the reason then. PSIVerdict is its verdict.
	PSI        *float64
	PSIVerdict gate.Verdict
	PSIErr     error
	// Offline is the offline evidence. OfflineErr is why it cannot be used.
	Offline    Offline
	OfflineErr error
}

const (
	// callTimeout bounds the calls to services. driftTimeout bounds the question for drift:
	// ml-engine simulates the noise of the index at the first one, which takes some hundred milliseconds.
	callTimeout  = 3 * time.Second
	driftTimeout = 10 * time.Second
	// week is the window of the index, in hours.
	week = 7 * 24
	// maxMessage bounds a message of a service, in bytes.
	maxMessage = 400
)

// Options name what [Inspect] reads beside the services.
type Options struct {
	// Evidence is the folder of the evidence.
	Evidence string
	// Models is the registry folder, which may have the model's own evaluation; empty uses the evidence folder alone.
	Models string
	// MinFleet is the part of the executors of a group that must be judged, in (0,1]; 0 needs all of them.
	MinFleet float64
}

// Inspect reads the services and the offline evidence.
func Inspect(ctx context.Context, services *fleet.Services, o Options) *Inspection {
	calls, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	in := &Inspection{Snapshot: services.Snapshot(calls)}
	if o.MinFleet > 0 {
		in.tolerate(o.MinFleet)
	}
	if in.PSIErr = in.enginesErr(); in.PSIErr == nil {
		drift, cancel := context.WithTimeout(ctx, driftTimeout)
		defer cancel()
		if v, verdict, err := PSI(drift, services.Engines); err == nil {
			in.PSI, in.PSIVerdict = &v, verdict
		} else {
			in.PSIErr = err
		}
	}
	in.Offline, in.OfflineErr = offlineOf(o, in.Models())
	return in
}

// tolerate leaves out the executors of a group that cannot be judged, if there are enough others.
func (in *Inspection) tolerate(minFleet float64) {
	well := slices.DeleteFunc(slices.Clone(in.Executors), func(e fleet.ExecutorReading) bool { return e.Err() != nil })
	if len(in.Executors) > 0 && len(well) >= fleetgroup.Needed(minFleet, len(in.Executors)) {
		in.Executors = well
	}
}

// Addresses returns the executors.
func (in *Inspection) Addresses() []string {
	all := make([]string, len(in.Executors))
	for i := range in.Executors {
		all[i] = in.Executors[i].Addr
	}
	return all
}

// ActiveModels returns the models that the ml-engines serve, of those that answer.
func ActiveModels(ctx context.Context, engines []fleet.Engine) ([]evidence.Model, error) {
	answers, errs := fleet.Each(engines, func(e fleet.Engine) (evidence.Model, error) { return e.Model(ctx) })
	fleet.Rethrow(errs...)
	var models []evidence.Model
	for i, m := range answers {
		if errs[i] == nil {
			models = append(models, m)
		}
	}
	return models, errors.Join(errs...)
}

// errNoPSI is the error of an index that ml-engine cannot compute.
var errNoPSI = errors.New("no PSI")

// PSI returns the overall index of the last 7 days over all ml-engines, and its verdict.
func PSI(ctx context.Context, engines []fleet.Engine) (float64, gate.Verdict, error) {
	r, err := driftfleet.Read(ctx, engines, week, false)
	switch code := status.Code(err); {
	case err == nil && r.Overall == nil:
		return 0, "", fmt.Errorf("%w: %s", errNoPSI, r.Reason)
	case err == nil:
		return r.Overall.PSI, r.Overall.Verdict, nil
	case code == codes.FailedPrecondition, code == codes.Unimplemented:
		return 0, "", fmt.Errorf("%w: %s", errNoPSI, text.Clean(status.Convert(err).Message(), maxMessage))
	}
	return 0, "", err
}

// unreached returns the error of a service with its kind: the service was not reached, refused the caller, or contradicts
// itself.
func unreached(err error) error {
	var server *fleet.ModelServerError
	switch {
	case err == nil, errors.Is(err, fleet.ErrContradicts), errors.As(err, &server):
		return err
	case fleet.Denied(err): // a service that refuses the caller was reached
		return fmt.Errorf("%w: %w", errDenied, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreached, err)
}

func (in *Inspection) enginesErr() error {
	var errs []error
	for i := range in.Engines {
		errs = append(errs, unreached(in.Engines[i].Err))
	}
	return errors.Join(errs...)
}

// Err returns the joined errors of the services that did not answer, contradict themselves, or are named twice.
func (in *Inspection) Err() error { return errors.Join(in.failures()...) }

// failures returns the errors that [Inspection.Err] joins.
func (in *Inspection) failures() []error {
	var all []error
	for i := range in.Executors {
		all = append(all, unreached(in.Executors[i].Err()))
	}
	for i := range in.Engines {
		all = append(all, unreached(in.Engines[i].Err))
	}
	all = append(all, in.duplicate())
	return slices.DeleteFunc(all, func(err error) bool { return err == nil })
}

// duplicate returns an error if one process is named twice.
func (in *Inspection) duplicate() error {
	err := in.Duplicate()
	if err == nil && errors.Is(in.PSIErr, fleet.ErrDuplicate) {
		err = in.PSIErr
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTwice, err)
	}
	return nil
}

// Revisions returns the revisions of the rollouts; nil without an inspection.
func (in *Inspection) Revisions() []uint64 {
	if in == nil {
		return nil
	}
	var all []uint64
	for _, e := range in.Executors {
		all = append(all, e.Rollout.GetRollout().GetRevision())
	}
	return all
}

// same returns the one model that all are, and reports whether there is one.
func same(all []evidence.Model) (evidence.Model, bool) {
	if len(all) == 0 {
		return evidence.Model{}, false
	}
	return all[0], !slices.ContainsFunc(all, func(m evidence.Model) bool { return m.Digest != all[0].Digest })
}

// Agreed returns the model and the baseline that all replicas have.
func (in *Inspection) Agreed() (model, baseline evidence.Model, err error) {
	if err := in.Err(); err != nil {
		return model, baseline, err
	}
	model, ok := same(in.Models())
	if !ok {
		return model, baseline, fmt.Errorf("%w: the ml-engines serve %s", ErrDisagree, names(in.Models()))
	}
	if baseline, ok = same(in.Baselines()); !ok {
		return model, baseline, fmt.Errorf("%w: the executors decide by %s", ErrDisagree, names(in.Baselines()))
	}
	return model, baseline, nil
}

func names(all []evidence.Model) string {
	var texts []string
	for _, m := range all {
		texts = append(texts, m.String())
	}
	return strings.Join(texts, ", ")
}
