package canary

import (
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// offlineOf is the offline evidence of the served model: its own evaluation, if the registry folder has the model and the
// model has one, judged here, with what greenlight train and eval have written to the evidence folder about it; without an
// evaluation of its own, that alone.
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

// ownOffline is the model's own evaluation, of the entries with its digest the first that has one and verifies; the entry
// that is served under its version comes first.
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
	}
	if found == nil {
		return Offline{}, false
	}
	return *found, true
}
