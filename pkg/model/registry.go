package model

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Registry is the folder <root>/<name>/<version>/ in which models are kept. A model is written once and never changed.
type Registry struct {
	root string
	keys Keys
}

// OpenRegistry returns the registry in the folder, which need not exist yet.
func OpenRegistry(root string) *Registry { return &Registry{root: root} }

// Requiring is the same registry, which loads no model that is not signed with one of the keys. No keys require nothing.
func (r *Registry) Requiring(keys Keys) *Registry { return &Registry{root: r.root, keys: keys} }

// nameForm is what names and versions may look like: no separators, no leading dot, so that none leaves the registry.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName returns an error if s is not a valid model name or version; what names it in the message.
func CheckName(what, s string) error {
	if !nameForm.MatchString(s) {
		return fmt.Errorf("%s %q: want 1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit", what, s)
	}
	return nil
}

// Entry is one model of a registry, by name.
type Entry struct {
	Name, Version string
}

// String returns "name/version".
func (e Entry) String() string { return e.Name + "/" + e.Version }

// maxModels bounds how many models a registry may have to be listed.
const maxModels = 10_000

// List returns the models in the registry in the order of their names. A folder that does not exist has none; one with more
// than 10,000 models or other entries is [durable.ErrTooLarge].
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

// Find returns the model that ref names: "name/version", or "version" where one name alone has it.
func (r *Registry) Find(ref string) (Entry, error) {
	// A whole name needs no list, so that nothing else in the folder can keep the model from being found.
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

// maxRef is how much of a reference an error repeats, in bytes; maxNames how many models it lists.
const maxRef, maxNames = 200, 20

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

// Dir is the folder of the model.
func (r *Registry) Dir(e Entry) string { return filepath.Join(r.root, e.Name, e.Version) }

// open opens the folder of the model. A name or a link that leads out of the registry is an error.
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
	e := Entry{a.Manifest.Name, a.Manifest.Version}
	if err := r.has(e, a); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = r.writeFolder(e, files)
	if errors.Is(err, fs.ErrExist) { // another process was first
		return r.has(e, a)
	}
	return err
}

// has is nil when the entry is the model, [ErrExists] when it is another, fs.ErrNotExist when there is none.
func (r *Registry) has(e Entry, a *Artifact) error {
	old, err := r.Requiring(nil).load(e) // whether it is signed is another question
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
	a.completeSpec()
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

// writeFolder writes the files into a temporary folder beside the model's, syncs them, and renames it. It writes nothing
// outside the registry, wherever links in it lead. One process at a time writes models of a name, so what is there under a
// temporary name was left by one that was killed, and is removed.
func (r *Registry) writeFolder(e Entry, files map[string][]byte) (err error) {
	if err := durable.MkdirAll(r.root, 0o755); err != nil {
		return err
	}
	root, err := durable.OpenRoot(r.root)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := errors.Join(root.MkdirAll(e.Name, 0o755), durable.SyncDir(r.root)); err != nil {
		return err
	}
	lock, err := durable.OpenDirIn(root, e.Name)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // and with it the lock
	if err := flock(lock); err != nil {
		return fmt.Errorf("lock %s: %w", filepath.Join(r.root, e.Name), err)
	}
	entries, err := durable.ReadDirIn(root, e.Name, maxModels)
	if err != nil {
		return err
	}
	for _, old := range entries {
		if strings.HasPrefix(old.Name(), tmpPrefix) {
			_ = root.RemoveAll(e.Name + "/" + old.Name()) // what cannot be removed is in nobody's way
		}
	}
	tmp := e.Name + "/" + tmpPrefix + rand.Text()
	if err := root.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.RemoveAll(tmp))
		}
	}()
	if err := root.Chmod(tmp, 0o755); err != nil { // whatever the umask
		return err
	}
	for name, raw := range files {
		if err := writeSynced(root, tmp+"/"+name, raw); err != nil {
			return err
		}
	}
	if err := syncFolder(root, tmp); err != nil {
		return err
	}
	if err := root.Rename(tmp, e.String()); err != nil {
		return err
	}
	if err := syncFolder(root, e.Name); err != nil {
		return &durable.UnsureError{Path: r.Dir(e), Err: err}
	}
	return nil
}

// lockWait bounds how long a process waits for another that writes a model of the same name.
const lockWait = 10 * time.Second

// flock takes the lock of an open folder. It polls, since flock itself would wait for any time.
func flock(f *os.File) error {
	for limit := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return err
		case time.Now().After(limit):
			return fmt.Errorf("another process has written models of this name for %s: try again when it has ended", lockWait)
		}
	}
}

func writeSynced(root *os.Root, path string, raw []byte) error {
	f, err := durable.OpenFileIn(root, path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, durable.Sync(f), f.Close())
}

func syncFolder(root *os.Root, dir string) error {
	f, err := durable.OpenDirIn(root, dir)
	if err != nil {
		return err
	}
	return errors.Join(durable.Sync(f), f.Close())
}
