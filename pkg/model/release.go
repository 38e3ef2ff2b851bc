package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"
)

// ReleaseFile records how the model was released. Unreleased models have none.
const ReleaseFile = "release.json"

const releaseFormat = "greenlight/release/v1"

// Release is the content of release.json.
type Release struct {
	Format string `json:"format"`
	// From is the version that was tried, for example "v1.8.1-rc1".
	From string `json:"from"`
	// Time is the time of the release, UTC.
	Time time.Time `json:"time"`
	// Record is the basis of the release, in the decider's own format.
	Record json.RawMessage `json:"record"`
}

// Release registers the same files again under the release version, plus release.json, so the digest is the same. It
// verifies the model first and writes everything or nothing. It returns [ErrExists] if that version exists, whatever it
// contains.
func (r *Registry) Release(e Entry, version string, why Release) error {
	if err := CheckName("version", version); err != nil {
		return err
	}
	a, err := r.Load(e.String())
	if err != nil {
		return err
	}
	why.Format, why.From = releaseFormat, e.Version
	files, err := r.released(a, version, why)
	if err != nil {
		return fmt.Errorf("release %s as %s: %w", e, version, err)
	}
	release := Entry{e.Name, version}
	err = r.writeFolder(release, files)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("model %s: %w", r.Dir(release), ErrExists)
	}
	return err
}

// released returns the files of the release of a verified model.
func (r *Registry) released(a *Artifact, version string, why Release) (map[string][]byte, error) {
	m := a.Manifest
	root, err := r.open(Entry{m.Name, m.Version})
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	files, err := contents(root, a)
	if err != nil {
		return nil, err
	}
	m.Version, m.Files = version, maps.Clone(m.Files)
	if files[ReleaseFile], err = encode(why); err != nil {
		return nil, fmt.Errorf("%s: %w", ReleaseFile, err)
	}
	m.Files[ReleaseFile] = digest(files[ReleaseFile])
	if files[ManifestFile], err = encode(m); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	return files, nil
}

// Files verifies the model that ref names and returns it with the content of its files by name, including any signature.
func (r *Registry) Files(ref string) (*Artifact, map[string][]byte, error) {
	a, err := r.Load(ref)
	if err != nil {
		return nil, nil, err
	}
	e := Entry{a.Manifest.Name, a.Manifest.Version}
	root, err := r.open(e)
	if err != nil {
		return nil, nil, fmt.Errorf("model %s: %w", r.Dir(e), err)
	}
	defer func() { _ = root.Close() }()
	files, err := contents(root, a)
	if err != nil {
		return nil, nil, fmt.Errorf("model %s: %w", r.Dir(e), err)
	}
	files[ManifestFile] = a.manifest
	for _, name := range signatures {
		if raw, err := readFile(root, name); err == nil {
			files[name] = raw
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("model %s: %w", r.Dir(e), err)
		}
	}
	return a, files, nil
}

// contents returns the digested files of a verified model. It copies the bytes: encoding the same numbers again could change
// the digest.
func contents(root *os.Root, a *Artifact) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, want := range digests(a) {
		raw, err := readFile(root, name)
		if err != nil {
			return nil, err
		}
		if got := digest(raw); got != want {
			return nil, fmt.Errorf("%s changed while it was read: digest %.12s, was %.12s", name, got, want)
		}
		files[name] = raw
	}
	return files, nil
}

// digests returns the digests of a model's files, by name.
func digests(a *Artifact) map[string]string {
	sums := maps.Clone(a.Manifest.Files)
	sums[ModelFile] = a.Manifest.Digest
	if a.Spec.SchemaSHA256 != "" {
		sums[SchemaFile] = a.Spec.SchemaSHA256
	}
	if a.Spec.Trees != nil {
		sums[EnsembleFile] = a.Spec.Trees.SHA256
	}
	return sums
}

// readRelease reads the release if the manifest lists it.
func (a *Artifact) readRelease(root *os.Root) error {
	want, ok := a.Manifest.Files[ReleaseFile]
	if !ok {
		return nil
	}
	a.Release = &Release{}
	if err := readPart(root, ReleaseFile, want, a.Release); err != nil {
		return err
	}
	if a.Release.Format != releaseFormat {
		return fmt.Errorf("%s: format %q: want %q", ReleaseFile, a.Release.Format, releaseFormat)
	}
	return nil
}
