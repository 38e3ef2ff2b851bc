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
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Registry is the folder <root>/<name>/<version>/ that keeps models. A model is written once and never changed.
type Registry struct {
	root string
	keys dsse.Keys
}

// OpenRegistry returns the registry in the folder, which need not exist yet.
func OpenRegistry(root string) *Registry { return &Registry{root: root} }

// Requiring returns a view of the registry that loads only models signed with one of the keys. Without keys it loads all.
func (r *Registry) Requiring(keys dsse.Keys) *Registry { return &Registry{root: r.root, keys: keys} }

// nameForm matches names and versions. They have no separator and no leading dot, so that none leads out of the registry.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName returns an error if s is not a valid model name or version; what names it in the message.
func CheckName(what, s string) error {
	if !nameForm.MatchString(s) {
		return fmt.Errorf("%s %q: want 1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit", what, s)
	}
	return nil
}

// Entry identifies a model of a registry.
type Entry struct {
	Name, Version string
}

// String returns "name/version".
func (e Entry) String() string { return e.Name + "/" + e.Version }

// maxModels is the largest number of models that can be listed.
const maxModels = 10_000

// List returns the models in the registry, sorted by name: none if the folder does not exist, and [durable.ErrTooLarge] for
// more than 10,000 models or other entries.
func (r *Registry) List() ([]Entry, error) {
	root, err := durable.OpenRoot(r.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", r.root, err)
	}
	defer func() { _ = root.Close() }()
	entries, seen := []Entry{}, 0
	list := func(dir string, visit func(name string) error) error {
		found, err := durable.ReadDirIn(root, dir, maxModels-min(seen, maxModels))
		if err != nil {
			return err
		}
		seen += len(found)
		for _, f := range found {
			if nameForm.MatchString(f.Name()) && !f.Type().IsRegular() {
				if err := visit(f.Name()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err = list(".", func(name string) error {
		if info, err := root.Stat(name); err != nil || !info.IsDir() {
			return nil //nolint:nilerr // not a folder of models
		}
		return list(name, func(version string) error {
			if _, err := root.Stat(name + "/" + version + "/" + ManifestFile); err == nil {
				entries = append(entries, Entry{Name: name, Version: version})
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", r.root, err)
	}
	return entries, nil
}

// Find returns the model that ref names: "name/version", or "version" if only one name has it.
func (r *Registry) Find(ref string) (Entry, error) {
	// A full name needs no list, so nothing else in the folder can prevent the model from being found.
	if name, version, ok := strings.Cut(ref, "/"); ok && nameForm.MatchString(name) && nameForm.MatchString(version) {
		if root, err := r.open(Entry{name, version}); err == nil {
			_, err := root.Stat(ManifestFile)
			if err = errors.Join(err, root.Close()); err == nil {
				return Entry{name, version}, nil
			}
		}
	}
	entries, err := r.List()
	if err != nil {
		return Entry{}, err
	}
	found := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.String() != ref && e.Version != ref })
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Entry{}, fmt.Errorf("registry %s has no model %q; it has %s", r.root, text.Cut(ref, maxRef), names(entries))
	}
	return Entry{}, fmt.Errorf("registry %s has several models %q: name one of %s", r.root, ref, names(found))
}

// maxRef limits how much of a reference an error repeats, in bytes; maxNames limits how many models it lists.
const maxRef, maxNames = 200, 20

// ByDigest loads the model with that digest, the first of several entries. Manifests that cannot be read are skipped.
func (r *Registry) ByDigest(digest string) (*Artifact, error) {
	entries, err := r.List()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if m, err := r.Manifest(e); err == nil && m.Digest == digest {
			return r.Load(e.String())
		}
	}
	return nil, fmt.Errorf("registry %s has no model with digest %.12s; it has %s", r.root, digest, names(entries))
}

func names(entries []Entry) string {
	if len(entries) == 0 {
		return "none"
	}
	s := make([]string, 0, maxNames)
	for _, e := range entries[:min(len(entries), maxNames)] {
		s = append(s, e.String())
	}
	if more := len(entries) - len(s); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(s, ", "), more)
	}
	return strings.Join(s, ", ")
}

// Dir returns the folder of the model.
func (r *Registry) Dir(e Entry) string { return filepath.Join(r.root, e.Name, e.Version) }

// open opens the folder of the model. A name or link that leads out of the registry is an error.
func (r *Registry) open(e Entry) (*os.Root, error) {
	root, err := durable.OpenRoot(r.root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return durable.OpenRootIn(root, e.String())
}

// Load finds, reads and verifies the model that ref names.
func (r *Registry) Load(ref string) (*Artifact, error) {
	e, err := r.Find(ref)
	if err != nil {
		return nil, err
	}
	a, err := r.load(e)
	if err != nil {
		return nil, err
	}
	if a.Manifest.Name != e.Name || a.Manifest.Version != e.Version {
		return nil, fmt.Errorf("model %s: its manifest says %s/%s", r.Dir(e), a.Manifest.Name, a.Manifest.Version)
	}
	return a, nil
}

func (r *Registry) load(e Entry) (*Artifact, error) {
	root, err := r.open(e)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", r.Dir(e), err)
	}
	defer func() { _ = root.Close() }()
	return loadFrom(root, r.Dir(e), r.keys)
}

// ErrExists is returned if the registry has another model with that name and version.
var ErrExists = errors.New("the registry has another model with this name and version, and models never change: choose a new version")

// Add writes the model into the registry, completely or not at all. It fills in the formats, the digests and the schema
// hash. Adding the same model again does nothing. If another model has the name and version, Add returns [ErrExists].
func (r *Registry) Add(a *Artifact) error {
	if err := errors.Join(CheckName("name", a.Manifest.Name), CheckName("version", a.Manifest.Version)); err != nil {
		return err
	}
	files, err := a.files()
	if err != nil {
		return fmt.Errorf("model %s/%s: %w", a.Manifest.Name, a.Manifest.Version, err)
	}
	e := Entry{a.Manifest.Name, a.Manifest.Version}
	if err := r.has(e, a); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = r.writeFolder(e, files)
	if errors.Is(err, fs.ErrExist) { // another process added it first
		return r.has(e, a)
	}
	return err
}

// has returns nil if the entry is the model, [ErrExists] if it is another, fs.ErrNotExist if there is none.
func (r *Registry) has(e Entry, a *Artifact) error {
	old, err := r.Requiring(nil).load(e) // its signature does not matter here
	if err != nil {
		return err
	}
	if old.Manifest.Digest != a.Manifest.Digest || old.Manifest.Files[BaselineFile] != a.Manifest.Files[BaselineFile] {
		return fmt.Errorf("model %s: %w", r.Dir(e), ErrExists)
	}
	return nil
}

// files encodes the parts and completes the manifest.
func (a *Artifact) files() (map[string][]byte, error) {
	a.Manifest.Format = manifestFormat
	document, err := a.completeSpec()
	if err != nil {
		return nil, err
	}
	if err := a.bind(); err != nil {
		return nil, err
	}
	if a.Baseline == nil {
		return nil, errors.New("no baseline")
	}
	spec, err := encode(a.Spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ModelFile, err)
	}
	parts := map[string]any{GoldenFile: a.Golden, BaselineFile: a.Baseline}
	if a.Reference != nil {
		parts[ReferenceFile] = a.Reference
	}
	files := map[string][]byte{ModelFile: spec}
	a.Manifest.Digest = digest(spec)
	a.Manifest.Files = map[string]string{}
	for name, v := range parts {
		raw, err := encode(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = raw
		a.Manifest.Files[name] = digest(raw)
	}
	if a.Offline != nil {
		files[OfflineFile], a.Manifest.Files[OfflineFile] = a.Offline, digest(a.Offline)
	}
	if a.Ensemble != nil {
		files[EnsembleFile] = a.Ensemble
	}
	if document != nil {
		files[SchemaFile] = document
	}
	a.Manifest.Family, a.Manifest.Schema, a.Manifest.SchemaHash = a.Spec.Family, a.Spec.Schema, a.Spec.SchemaHash
	raw, err := encode(a.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	files[ManifestFile] = raw
	return files, nil
}

// writeFolder writes the files to a temporary folder, syncs them, and renames it to the model's folder. Both are in the
// folder of the name, which may be a writable mount in a read-only registry.
func (r *Registry) writeFolder(e Entry, files map[string][]byte) (err error) {
	in, err := r.receive(e.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	for name, raw := range files {
		if err := durable.CreateIn(in.dir, name, raw, 0o644); err != nil {
			return err
		}
	}
	return r.locked(e, func(root *os.Root) error { return r.place(root, in.name, e) })
}

// place renames a complete folder below root to the model's folder.
func (r *Registry) place(root *os.Root, tmp string, e Entry) error {
	if err := root.Chmod(tmp, 0o755); err != nil { // independent of the umask
		return err
	}
	if err := durable.SyncDirIn(root, tmp); err != nil {
		return err
	}
	if err := root.Rename(tmp, e.String()); err != nil {
		return err
	}
	if err := durable.SyncDirIn(root, e.Name); err != nil {
		return &durable.UnsureError{Path: r.Dir(e), Err: err}
	}
	return nil
}

// locked calls change with the registry's folder while no other process can change models of that name. It creates the folder
// of the name. It follows no link out of the registry.
func (r *Registry) locked(e Entry, change func(root *os.Root) error) error {
	root, err := r.create(e.Name)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	lock, err := lockDir(root, e.Name)
	if err != nil {
		return fmt.Errorf("lock %s: %w", filepath.Join(r.root, e.Name), err)
	}
	defer func() { _ = lock.Close() }() // also releases the lock
	return change(root)
}

// create creates the registry's folder and the folder dir below it, and opens the registry's.
func (r *Registry) create(dir string) (*os.Root, error) {
	if err := durable.MkdirAll(r.root, 0o755); err != nil {
		return nil, err
	}
	root, err := durable.OpenRoot(r.root)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(root.MkdirAll(dir, 0o755), durable.SyncDir(r.root)); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// lockDir locks a folder below root until the returned file is closed.
func lockDir(root *os.Root, name string) (*os.File, error) {
	lock, err := durable.OpenDirIn(root, name)
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(lock, lockWait); err != nil {
		return nil, errors.Join(fmt.Errorf("%w, after %s: try again when it has ended", err, lockWait), lock.Close())
	}
	return lock, nil
}

// lockWait limits how long a process waits for another that writes a model of the same name.
const lockWait = 10 * time.Second

// Manifest reads only the manifest of the model. Its content is not verified, except for its signature where one is
// required. [Registry.Load] verifies the model.
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
	if err := verify(root, raw, r.keys); err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	m := &Manifest{}
	if err := decode(ManifestFile, raw, m); err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	return m, nil
}
