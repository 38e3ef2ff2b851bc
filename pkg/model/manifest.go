package model

import "fmt"

// Manifest reads the manifest of the model, and nothing else: what it says has not been verified, but for its signature where
// one is required. [Registry.Load] does that.
func (r *Registry) Manifest(e Entry) (*Manifest, error) {
	dir := r.Dir(e)
	root, err := r.open(e)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	defer func() { _ = root.Close() }()
	raw, err := readFile(root, ManifestFile)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	if err := r.keys.verify(root, raw); err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	m := &Manifest{}
	if err := decode(ManifestFile, raw, m); err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	return m, nil
}
