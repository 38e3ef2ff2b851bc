package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Registry is the folder <root>/<name>/<version>/ in which models are kept. A model is written once and never changed.
type Registry struct {
	root string
}

// OpenRegistry returns the registry in the folder, which need not exist yet.
func OpenRegistry(root string) *Registry { return &Registry{root: root} }

// nameForm is what names and versions may look like: no separators, no leading dot, so that none leaves the registry.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName says why the name or the version, as what calls it, is none that a registry takes.
func CheckName(what, s string) error {
	if !nameForm.MatchString(s) {
		return fmt.Errorf("%s %q: want 1 to 64 letters, digits, dots, dashes or underscores, not beginning with a sign", what, s)
	}
	return nil
}

// Entry is one model of a registry, by name.
type Entry struct {
	Name, Version string
}

// String returns "name/version".
func (e Entry) String() string { return e.Name + "/" + e.Version }

// List returns the models in the registry in the order of their names. A folder that does not exist has none.
func (r *Registry) List() ([]Entry, error) {
	manifests, err := fs.Glob(os.DirFS(r.root), "*/*/"+ManifestFile)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", r.root, err)
	}
	entries := make([]Entry, 0, len(manifests))
	for _, m := range manifests {
		parts := strings.Split(m, "/")
		if nameForm.MatchString(parts[0]) && nameForm.MatchString(parts[1]) {
			entries = append(entries, Entry{Name: parts[0], Version: parts[1]})
		}
	}
	return entries, nil
}

// Find returns the model that ref names: "name/version", or "version" where one name alone has it.
func (r *Registry) Find(ref string) (Entry, error) {
	entries, err := r.List()
	if err != nil {
		return Entry{}, err
	}
	found := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.String() != ref && e.Version != ref })
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Entry{}, fmt.Errorf("registry %s has no model %q; it has %s", r.root, ref, names(entries))
	}
	return Entry{}, fmt.Errorf("registry %s has several models %q: name one of %s", r.root, ref, names(found))
}

func names(entries []Entry) string {
	if len(entries) == 0 {
		return "none"
	}
	s := make([]string, len(entries))
	for i, e := range entries {
		s[i] = e.String()
	}
	return strings.Join(s, ", ")
}

// Dir is the folder of the model.
func (r *Registry) Dir(e Entry) string { return filepath.Join(r.root, e.Name, e.Version) }

// Load finds, reads and verifies the model that ref names.
func (r *Registry) Load(ref string) (*Artifact, error) {
	e, err := r.Find(ref)
	if err != nil {
		return nil, err
	}
	a, err := Load(r.Dir(e))
	if err != nil {
		return nil, err
	}
	if a.Manifest.Name != e.Name || a.Manifest.Version != e.Version {
		return nil, fmt.Errorf("model %s: its manifest says %s/%s", r.Dir(e), a.Manifest.Name, a.Manifest.Version)
	}
	return a, nil
}

// ErrExists says that the registry has another model under that name and version.
var ErrExists = errors.New("the registry has another model of this name and version, and models are never changed: give a new version")

// Add writes the model into the registry: all of it or nothing. It fills in the formats, the digests and the schema
// hash. Adding the same model again does nothing; another one under the same name and version is [ErrExists].
func (r *Registry) Add(a *Artifact) error {
	if err := errors.Join(CheckName("name", a.Manifest.Name), CheckName("version", a.Manifest.Version)); err != nil {
		return err
	}
	files, err := a.files()
	if err != nil {
		return fmt.Errorf("model %s/%s: %w", a.Manifest.Name, a.Manifest.Version, err)
	}
	dir := r.Dir(Entry{a.Manifest.Name, a.Manifest.Version})
	if err := a.isIn(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = writeFolder(dir, files)
	if errors.Is(err, fs.ErrExist) { // another process was first
		return a.isIn(dir)
	}
	return err
}

// isIn is nil when the folder has the model, [ErrExists] when it has another, fs.ErrNotExist when it has none.
func (a *Artifact) isIn(dir string) error {
	old, err := Load(dir)
	if err != nil {
		return err
	}
	if old.Manifest.Digest != a.Manifest.Digest || old.Manifest.Files[BaselineFile] != a.Manifest.Files[BaselineFile] {
		return fmt.Errorf("model %s: %w", dir, ErrExists)
	}
	return nil
}

// files encodes the parts and completes the manifest.
func (a *Artifact) files() (map[string][]byte, error) {
	a.Spec.Format, a.Manifest.Format = modelFormat, manifestFormat
	if schema, ok := feature.Lookup(a.Spec.Schema); ok {
		a.Spec.SchemaHash = schema.Hash()
	}
	if err := a.bind(); err != nil {
		return nil, err
	}
	if a.Baseline == nil {
		return nil, errors.New("no baseline")
	}
	parts := map[string]any{ModelFile: a.Spec, GoldenFile: a.Golden, BaselineFile: a.Baseline}
	if a.Reference != nil {
		parts[ReferenceFile] = a.Reference
	}
	files := map[string][]byte{}
	a.Manifest.Files = map[string]string{}
	for name, v := range parts {
		raw, err := encode(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = raw
		if name == ModelFile {
			a.Manifest.Digest = digest(raw)
		} else {
			a.Manifest.Files[name] = digest(raw)
		}
	}
	if a.Ensemble != nil {
		files[EnsembleFile] = a.Ensemble
	}
	a.Manifest.Family, a.Manifest.Schema, a.Manifest.SchemaHash = a.Spec.Family, a.Spec.Schema, a.Spec.SchemaHash
	raw, err := encode(a.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	files[ManifestFile] = raw
	return files, nil
}

// tmpPrefix begins the names of folders in which models are written before they have their own.
const tmpPrefix = ".new-"

// writeFolder writes the files into a temporary folder beside dir, syncs them, and renames it to dir. One process at a
// time writes models of a name, so what is there under a temporary name was left by one that was killed, and is removed.
func writeFolder(dir string, files map[string][]byte) (err error) {
	parent := filepath.Dir(dir)
	if err := durable.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // and with it the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", parent, err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			_ = os.RemoveAll(filepath.Join(parent, e.Name())) // what cannot be removed is in nobody's way
		}
	}
	tmp, err := os.MkdirTemp(parent, tmpPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for name, raw := range files {
		if err := writeSynced(filepath.Join(tmp, name), raw); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return durable.SyncDir(parent)
}

func writeSynced(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}
