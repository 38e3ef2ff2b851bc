package preflight

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Offline is the offline evidence of a model.
type Offline struct {
	Inputs []evidence.Input
	Model  evidence.Model
	Result gate.Verdict
	// Quality is the plan of a verdict on live quality that the evaluation suggests, against the baseline with the digest
	// Baseline; nil without one.
	Quality  *experiment.QualityPlan
	Baseline string
}

// offlineOf returns the offline evidence of the served model. If the model in the registry folder has its own evaluation,
// that is judged, together with what greenlight train and eval have written about the model to the evidence folder.
// Otherwise the evidence folder alone counts.
func offlineOf(o Options, served []evidence.Model) (Offline, error) {
	written, err := readOffline(o.Evidence)
	m, ok := same(served)
	if !ok || o.Models == "" {
		return written, err
	}
	own, ok := ownOffline(o.Models, m)
	if !ok {
		return written, err
	}
	if err == nil && written.Model.Digest == m.Digest {
		own.Inputs = append(own.Inputs, written.Inputs...)
		own.Result = gate.Worst(own.Result, written.Result)
	}
	return own, nil
}

// ownOffline returns the model's own evaluation. Of the entries with its digest it prefers the one with the served version,
// and otherwise takes the first that has an evaluation and verifies.
func ownOffline(models string, m evidence.Model) (Offline, bool) {
	registry := model.OpenRegistry(models)
	entries, err := registry.List()
	if err != nil {
		return Offline{}, false
	}
	var found *Offline
	for _, e := range entries {
		manifest, err := registry.Manifest(e)
		if err != nil || manifest.Digest != m.Digest || found != nil && e.Version != m.Version {
			continue // a model that does not load is no evidence
		}
		a, err := registry.Load(e.String())
		if err != nil {
			continue
		}
		own, err := experiment.Own(a)
		if err != nil {
			continue
		}
		found = &Offline{
			Inputs: []evidence.Input{{Path: filepath.ToSlash(filepath.Join(registry.Dir(e), model.OfflineFile)), SHA256: evidence.Sum(a.Offline)}},
			Model:  evidence.Model{Version: m.Version, Digest: m.Digest}, Result: own.Judge().Verdict(),
		}
		if a.Baseline != nil {
			found.Quality, found.Baseline = own.QualityPlan, a.Baseline.Digest()
		}
	}
	if found == nil {
		return Offline{}, false
	}
	return *found, true
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
			return o, fmt.Errorf("%w: %s is not there", ErrNoEvidence, path)
		}
		if err != nil {
			return o, err
		}
		var file struct {
			evidence.Header
			Result gate.Verdict `json:"result"`
		}
		if err := json.Unmarshal(raw, &file); err != nil {
			return o, fmt.Errorf("%w: %s cannot be read: %w", ErrNoEvidence, path, err)
		}
		if file.Model == nil {
			return o, fmt.Errorf("%w: %s names no model", ErrNoEvidence, path)
		}
		o.Inputs = append(o.Inputs, evidence.Input{Path: filepath.ToSlash(path), SHA256: evidence.Sum(raw)})
		if o.Model != (evidence.Model{}) && o.Model != *file.Model {
			return o, fmt.Errorf("%w: offline_report.json is of %s and eval_result.json of %s", ErrNoEvidence, o.Model, *file.Model)
		}
		o.Model, o.Result = *file.Model, file.Result
	}
	return o, nil
}
