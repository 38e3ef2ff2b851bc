package canary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

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

// Offline is the offline evidence of a model.
type Offline struct {
	Inputs []evidence.Input
	Model  evidence.Model
	Result gate.Verdict
	// Quality is the plan of a verdict on live quality that the evaluation suggests, against the baseline with the digest
	// Baseline; nil without one.
	Quality  *QualityPlan
	Baseline string
}

const (
	// callTimeout bounds the calls to services and to a Prometheus before a run. driftTimeout bounds the question for drift:
	// ml-engine simulates the noise of the index at the first one, which takes some hundred milliseconds.
	callTimeout  = 3 * time.Second
	driftTimeout = 10 * time.Second
	// week is the window of the index, in hours.
	week = 7 * 24
)

// Inspect reads the services and the offline evidence in the target's folders.
func Inspect(ctx context.Context, services *fleet.Services, t Target) *Inspection {
	calls, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	in := &Inspection{Snapshot: services.Snapshot(calls)}
	if t.Fleet != nil {
		in.tolerate(t.Fleet.MinFleet)
	}
	if in.PSIErr = in.enginesErr(); in.PSIErr == nil {
		drift, cancel := context.WithTimeout(ctx, driftTimeout)
		defer cancel()
		if v, verdict, err := psi(drift, services.Engines); err == nil {
			in.PSI, in.PSIVerdict = &v, verdict
		} else {
			in.PSIErr = err
		}
	}
	in.Offline, in.OfflineErr = offlineOf(t, in.Models())
	return in
}

// tolerate leaves out the executors of a group that cannot be judged, if there are enough others.
func (in *Inspection) tolerate(minFleet float64) {
	well := slices.DeleteFunc(slices.Clone(in.Executors), func(e fleet.ExecutorReading) bool { return e.Err() != nil })
	if len(in.Executors) > 0 && len(well) >= needed(minFleet, len(in.Executors)) {
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

// activeModels returns the models that the ml-engines serve, of those that answer.
func activeModels(ctx context.Context, engines []fleet.Engine) ([]evidence.Model, error) {
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

// psi returns the overall index of the last 7 days over all ml-engines, and its verdict.
func psi(ctx context.Context, engines []fleet.Engine) (float64, gate.Verdict, error) {
	r, err := driftfleet.Read(ctx, engines, week, false)
	switch code := status.Code(err); {
	case err == nil && r.Overall == nil:
		return 0, "", fmt.Errorf("%w: %s", errNoPSI, r.Reason)
	case err == nil:
		return r.Overall.PSI, r.Overall.Verdict, nil
	case code == codes.FailedPrecondition, code == codes.Unimplemented:
		return 0, "", fmt.Errorf("%w: %s", errNoPSI, text.Clean(status.Convert(err).Message(), maxReason))
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
	return fmt.Errorf("%w: %w", errUnreached, err)
}

func (in *Inspection) enginesErr() error {
	var errs []error
	for i := range in.Engines {
		errs = append(errs, unreached(in.Engines[i].Err))
	}
	return errors.Join(errs...)
}

// failures returns the errors of the services that did not answer, contradict themselves, or are named twice.
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
		return refuse(errTwice, "%s", err)
	}
	return nil
}

// revisions returns the revisions of the rollouts; nil without an inspection.
func (in *Inspection) revisions() []uint64 {
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

// agreed returns the model and the baseline that all replicas have.
func (in *Inspection) agreed() (model, baseline evidence.Model, err error) {
	if err := errors.Join(in.failures()...); err != nil {
		return model, baseline, err
	}
	model, ok := same(in.Models())
	if !ok {
		return model, baseline, refuse(errDisagree, "the ml-engines serve %s", names(in.Models()))
	}
	if baseline, ok = same(in.Baselines()); !ok {
		return model, baseline, refuse(errDisagree, "the executors decide by %s", names(in.Baselines()))
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

// maxEvidence bounds a file of offline evidence.
const maxEvidence = 64 << 20

// readOffline reads what greenlight train and eval have written.
func readOffline(folder string) (Offline, error) {
	var o Offline
	for _, name := range []string{"offline_report.json", "eval_result.json"} {
		path := filepath.Join(folder, name)
		raw, err := durable.ReadFile(path, maxEvidence)
		if errors.Is(err, fs.ErrNotExist) {
			return o, refuse(errNoEvidence, "%s is not there", path)
		}
		if err != nil {
			return o, err
		}
		var file struct {
			evidence.Header
			Result gate.Verdict `json:"result"`
		}
		if err := json.Unmarshal(raw, &file); err != nil || file.Model == nil {
			return o, refuse(errNoEvidence, "%s cannot be read, or is of no model (%v)", path, err)
		}
		o.Inputs = append(o.Inputs, evidence.Input{Path: filepath.ToSlash(path), SHA256: digestOf(raw)})
		if o.Model != (evidence.Model{}) && o.Model != *file.Model {
			return o, refuse(errNoEvidence, "offline_report.json is of %s and eval_result.json of %s", o.Model, *file.Model)
		}
		o.Model, o.Result = *file.Model, file.Result
	}
	return o, nil
}
