package canary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Pair is the services of a target, connected.
type Pair struct {
	Executors []Executor
	Engines   []fleet.Engine
}

// NewPair is the services as a canary uses them.
func NewPair(services *fleet.Services) Pair {
	p := Pair{Engines: services.Engines}
	for _, e := range services.Executors {
		p.Executors = append(p.Executors, Executor{Addr: e.Addr, Rollouts: e.Rollouts, Shadows: e.Shadows})
	}
	return p
}

// From is the pair as it was surveyed: who changes a rollout after that has changed it behind the run's back.
func (p Pair) From(w *World) Pair {
	p.Executors = slices.Clone(p.Executors)
	for i := range p.Executors {
		p.Executors[i].Revision = w.Rollouts[i].GetRollout().GetRevision()
	}
	return p
}

// ActiveModels are those that the ml-engines serve, of those that answer.
func (p Pair) ActiveModels(ctx context.Context) ([]evidence.Model, error) {
	answers, errs := each(p.Engines, func(e fleet.Engine) (evidence.Model, error) {
		info, err := e.Scoring.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{})
		if err != nil {
			return evidence.Model{}, fmt.Errorf("%w: ml-engine %s: %s", unanswered(err), e.Addr, text.Clean(fleet.Plain(err).Error(), maxShownError))
		}
		if err := fleet.CheckModel(info); err != nil {
			return evidence.Model{}, contradicts("ml-engine "+e.Addr+", GetModelInfo", err)
		}
		return evidence.Model{Version: info.GetVersion(), Digest: info.GetDigest()}, nil
	})
	var models []evidence.Model
	for i, m := range answers {
		if errs[i] == nil {
			models = append(models, m)
		}
	}
	return models, errors.Join(errs...)
}

// week is the window of the index, in hours.
const week = 7 * 24

// errNoPSI is the error of drift that is not known although it was asked.
var errNoPSI = errors.New("no PSI")

// PSI is the overall index of the last 7 days over all ml-engines.
func (p Pair) PSI(ctx context.Context) (float64, error) {
	v, _, err := p.drift(ctx)
	return v, err
}

// drift is the overall index of the last 7 days over all ml-engines, and its verdict.
func (p Pair) drift(ctx context.Context) (psi float64, verdict gate.Verdict, err error) {
	replicas := make([]driftfleet.Replica, len(p.Engines))
	for i, e := range p.Engines {
		replicas[i] = driftfleet.Replica{Addr: e.Addr, Client: e.Drift}
	}
	r, err := driftfleet.Read(ctx, replicas, week, false)
	switch code := status.Code(err); {
	case err == nil && r.Overall == nil:
		return 0, "", fmt.Errorf("%w: %s", errNoPSI, r.Reason)
	case err == nil:
		return r.Overall.PSI, r.Overall.Verdict, nil
	case code == codes.FailedPrecondition, code == codes.Unimplemented:
		return 0, "", fmt.Errorf("%w: %s", errNoPSI, text.Clean(status.Convert(err).Message(), maxShownError))
	}
	return 0, "", err
}

// World is what there is now.
type World struct {
	// Addrs are the executors' addresses.
	Addrs []string
	// Reports and Rollouts are the executors' answers, Errs why there is none, all in the order of the addresses.
	Reports  []*executorv1.GetShadowReportResponse
	Rollouts []*executorv1.GetRolloutResponse
	Errs     []error
	// Skew is how far the clock of each executor is ahead of this one, less what the call may account for.
	Skew []time.Duration
	// Models are those that are active, ModelsErr why one is not known.
	Models    []evidence.Model
	ModelsErr error
	// PSI is nil when it is not known, for which PSIErr gives the reason. PSIVerdict is what it means.
	PSI        *float64
	PSIVerdict gate.Verdict
	PSIErr     error
	// Offline is the offline evidence, OfflineErr why it cannot be used.
	Offline    Offline
	OfflineErr error
}

// Offline is what was found of a model before it was tried.
type Offline struct {
	Inputs []evidence.Input
	Model  evidence.Model
	Result gate.Verdict
}

const (
	// worldTimeout is how long the services may take to answer, driftTimeout how long for the drift: its noise is drawn at
	// the first question, which takes some hundred milliseconds.
	worldTimeout = 3 * time.Second
	driftTimeout = 10 * time.Second
)

// Survey reads what there is now. Of the target it needs the folders.
func Survey(ctx context.Context, p Pair, t Target) *World {
	w := &World{
		Reports: make([]*executorv1.GetShadowReportResponse, len(p.Executors)), Rollouts: make([]*executorv1.GetRolloutResponse, len(p.Executors)),
		Skew: make([]time.Duration, len(p.Executors)),
	}
	indices := make([]int, len(p.Executors))
	for i, e := range p.Executors {
		indices[i] = i
		w.Addrs = append(w.Addrs, e.Addr)
	}
	calls, cancel := context.WithTimeout(ctx, worldTimeout)
	defer cancel()
	_, w.Errs = each(indices, func(i int) (struct{}, error) { return struct{}{}, w.ask(calls, i, p.Executors[i]) })
	w.Models, w.ModelsErr = p.ActiveModels(calls)
	if w.ModelsErr == nil {
		drift, cancel := context.WithTimeout(ctx, driftTimeout)
		defer cancel()
		if v, verdict, err := p.drift(drift); err == nil {
			w.PSI, w.PSIVerdict = &v, verdict
		} else {
			w.PSIErr = err
		}
	} else {
		w.PSIErr = w.ModelsErr
	}
	w.Offline, w.OfflineErr = offlineOf(t, w.Models)
	return w
}

// ask asks one executor.
func (w *World) ask(ctx context.Context, i int, e Executor) error {
	rollout, err := e.rollout(ctx)
	if errors.Is(err, errContradicts) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", unanswered(err), err)
	}
	asked := time.Now()
	report, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return fmt.Errorf("%w: %w", unanswered(err), &callError{e.Addr, err})
	}
	took := time.Since(asked)
	if err := fleet.CheckReport(report, time.Now()); err != nil {
		return contradicts("executor "+e.Addr, err)
	}
	w.Reports[i], w.Rollouts[i] = report, rollout
	if ahead := report.GetReportTime().AsTime().Sub(asked.Add(took / 2)); ahead.Abs() > took/2 {
		w.Skew[i] = ahead
	}
	return nil
}

// baselines are those of the executors that answered.
func (w *World) baselines() []evidence.Model {
	var all []evidence.Model
	for _, r := range w.Reports {
		if r != nil {
			all = append(all, evidence.Model{Version: r.GetBaselineVersion(), Digest: r.GetBaselineDigest()})
		}
	}
	return all
}

// same says whether all are one, which it returns. None at all are not.
func same(all []evidence.Model) (evidence.Model, bool) {
	if len(all) == 0 {
		return evidence.Model{}, false
	}
	return all[0], !slices.ContainsFunc(all, func(m evidence.Model) bool { return m.Digest != all[0].Digest })
}

// reached returns an error that names the services that did not answer, or not sensibly, or under two names.
func (w *World) reached() error {
	return errors.Join(append(slices.Clone(w.Errs), w.ModelsErr, w.twice())...)
}

// twice returns an error if one process is named twice.
func (w *World) twice() error {
	var names, processes []string
	for i, r := range w.Reports {
		if r != nil {
			names, processes = append(names, w.Addrs[i]), append(processes, r.GetInstanceId())
		}
	}
	err := fleet.CheckDistinct("executor", names, processes)
	if engine := (*fleet.DuplicateError)(nil); err == nil && errors.As(w.PSIErr, &engine) {
		err = engine
	}
	if err != nil {
		return refuse(errTwice, "%s", err)
	}
	return nil
}

// pair is the model and the baseline that all replicas have.
func (w *World) pair() (model, baseline evidence.Model, err error) {
	if err := w.reached(); err != nil {
		return model, baseline, err
	}
	model, ok := same(w.Models)
	if !ok {
		return model, baseline, refuse(errDisagree, "the ml-engines serve %s", names(w.Models))
	}
	if baseline, ok = same(w.baselines()); !ok {
		return model, baseline, refuse(errDisagree, "the executors decide by %s", names(w.baselines()))
	}
	return model, baseline, nil
}

func names(all []evidence.Model) string {
	text := ""
	for i, m := range all {
		if i > 0 {
			text += ", "
		}
		text += named(m)
	}
	return text
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
			return o, refuse(errNoEvidence, "offline_report.json is of %s and eval_result.json of %s", named(o.Model), named(*file.Model))
		}
		o.Model, o.Result = *file.Model, file.Result
	}
	return o, nil
}
