package canary

import (
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// offlineOf returns the offline evidence of the served model. If the model in the registry folder has its own evaluation,
// that is judged, together with what greenlight train and eval have written about the model to the evidence folder.
// Otherwise the evidence folder alone counts.
func offlineOf(t Target, served []evidence.Model) (Offline, error) {
	written, err := readOffline(t.Evidence)
	m, ok := same(served)
	if !ok || t.Models == "" {
		return written, err
	}
	own, ok := ownOffline(t.Models, m)
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
			Inputs: []evidence.Input{{Path: filepath.ToSlash(filepath.Join(registry.Dir(e), model.OfflineFile)), SHA256: digestOf(a.Offline)}},
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
