package model

import (
	"fmt"
	"os"
)

// Manifest reads the manifest of the model, and nothing else: what it says has not been verified. [Registry.Load] does
// that.
func (r *Registry) Manifest(e Entry) (*Manifest, error) {
	dir := r.Dir(e)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	defer func() { _ = root.Close() }()
	raw, err := readFile(root, ManifestFile)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	m := &Manifest{}
	if err := decode(ManifestFile, raw, m); err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	return m, nil
}
