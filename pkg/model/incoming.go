package model

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Incoming collects the files of a model from outside. They stay invisible until [Incoming.Add] has verified them all.
type Incoming struct {
	registry *Registry
	root     *os.Root // the registry's folder
	dir      *os.Root // the folder of the files
	name     string   // its name below root
	lock     *os.File // locked while the files arrive
}

// incomingPrefix starts the folder name of an unverified model. Model names never begin with a dot.
const incomingPrefix = ".incoming-"

// Receive returns an empty Incoming, which the caller must close. It first removes the folders that killed processes left.
func (r *Registry) Receive() (*Incoming, error) { return r.receive(".") }

// receive is Receive with the files in the folder parent below the registry's.
func (r *Registry) receive(parent string) (in *Incoming, err error) {
	in = &Incoming{registry: r, name: path.Join(parent, incomingPrefix+rand.Text())}
	if in.root, err = r.create(parent); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	// Create and lock the folder under its parent's lock, so that removeAbandoned cannot remove it in between.
	all, err := lockDir(in.root, parent)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", filepath.Join(r.root, parent), err)
	}
	defer func() { _ = all.Close() }()
	if err := removeAbandoned(in.root, parent); err != nil {
		return nil, err
	}
	if err := in.root.Mkdir(in.name, 0o700); err != nil {
		return nil, err
	}
	if in.lock, err = lockDir(in.root, in.name); err != nil {
		return nil, err
	}
	in.dir, err = durable.OpenRootIn(in.root, in.name)
	return in, err
}

// removeAbandoned removes the folders in parent that no process has locked.
func removeAbandoned(root *os.Root, parent string) error {
	entries, err := durable.ReadDirIn(root, parent, maxModels)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), incomingPrefix) {
			continue
		}
		name := path.Join(parent, e.Name())
		if dir, err := durable.OpenDirIn(root, name); err == nil {
			if durable.Lock(dir, 0) == nil {
				_ = root.RemoveAll(name) // leftovers are harmless
			}
			_ = dir.Close()
		}
	}
	return nil
}

// Write writes a file. It returns an error for a name that models do not use and for a file over [MaxFile].
func (in *Incoming) Write(name string, from io.Reader) error {
	limit := MaxFile(name)
	if limit == 0 {
		return fmt.Errorf("%.100q is not a file of a model", name)
	}
	limited := &io.LimitedReader{R: from, N: limit + 1}
	if err := durable.CopyIn(in.dir, name, limited, 0o644); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if limited.N == 0 {
		return fmt.Errorf("%s: %w: over %d bytes", name, durable.ErrTooLarge, limit)
	}
	return nil
}

// Add verifies the model like [Registry.Load], including its signature if the registry requires one, and moves it into the
// registry. added is false if the registry already has the same files; then Add only adds a missing signature, or replaces
// one that does not verify. It returns [ErrExists] if another model has that name and version.
func (in *Incoming) Add() (a *Artifact, added bool, err error) {
	a = &Artifact{}
	if err := a.read(in.dir, in.registry.keys); err != nil {
		return nil, false, err
	}
	e := Entry{a.Manifest.Name, a.Manifest.Version}
	err = in.registry.locked(e, func(root *os.Root) error {
		present, err := in.registry.Requiring(nil).load(e)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			added = true
			return in.registry.place(root, in.name, e)
		case err != nil:
			return fmt.Errorf("the registry has a damaged model of this name and version, which must be removed first: %w", err)
		case !bytes.Equal(present.manifest, a.manifest):
			return fmt.Errorf("model %s: %w", in.registry.Dir(e), ErrExists)
		}
		return in.sign(e)
	})
	return a, added, err
}

// sign copies the model's signature to an entry with the same files, unless the entry has one that verifies.
func (in *Incoming) sign(e Entry) error {
	root, err := in.registry.open(e)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	_, missing := root.Lstat(SignatureFile)
	if _, err := in.registry.load(e); err == nil && missing == nil {
		return nil
	}
	raw, err := readFile(in.dir, SignatureFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.WriteFileIn(root, SignatureFile, raw, 0o644)
}

// Close removes the files unless they were added.
func (in *Incoming) Close() error {
	var errs []error
	if in.dir != nil {
		errs = append(errs, in.dir.Close())
	}
	errs = append(errs, in.root.RemoveAll(in.name))
	if in.lock != nil {
		errs = append(errs, in.lock.Close())
	}
	return errors.Join(append(errs, in.root.Close())...)
}
