package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Options are the options of Open. The zero value is ready to use.
type Options struct {
	// Now is the clock for created_time and the chain; nil means time.Now.
	Now func() time.Time
	// Wait is how long Open waits for another writer; 0 means DefaultWait, negative means not at all.
	Wait time.Duration
	Seal
}

// Seal protects a chain against people who can write to the folder. The zero value does not protect it.
type Seal struct {
	// Signer signs every line of the chain. Required for a signed folder.
	Signer *dsse.Signer
	// Witness gets the head of the chain after every write.
	Witness Witness
}

// Store is an evidence folder opened for writing. It is safe for concurrent use. No other process or Store can write
// the folder until Close, so open it only while there is something to write.
type Store struct {
	dir    string // absolute, without symbolic links, to find inputs in it
	folder folder
	lock   *os.File
	now    func() time.Time
	// seals signs the lines, and witness gets the heads.
	seals   seals
	witness Witness

	mu   sync.Mutex
	last entry
	// fault stops the store: the folder needs the next Open to repair it, or the store is closed.
	fault error
}

// Open opens the evidence folder dir ("" means DefaultDir) for writing. It creates a missing folder, waits a short time
// for another writer (ErrLocked), and completes what a kill interrupted (see the package comment). Any other invalid
// chain is ErrBroken. Open checks only the chain, not the files: Verify checks both.
func Open(dir string, opts Options) (*Store, error) {
	if dir == "" {
		dir = DefaultDir
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Wait == 0 {
		opts.Wait = DefaultWait
	}
	s, err := open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open evidence %q: %w", dir, err)
	}
	return s, nil
}

func open(dir string, opts Options) (_ *Store, err error) {
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	abs, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	root, err := durable.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: abs, folder: folder{root}, now: opts.Now, witness: opts.Witness}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	s.lock, err = durable.OpenFileIn(root, lockName, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(s.lock, opts.Wait); err != nil {
		return nil, lockError(err)
	}
	if s.seals, err = openSeals(abs, s.folder, opts.Signer); err != nil {
		return nil, err
	}
	if s.last, err = repair(s.folder, opts.Now, s.seals); err != nil {
		return nil, err
	}
	if s.last.Seq > 0 { // a kill may have kept the last head from the witness
		err = s.testify()
	}
	return s, err
}

// testify sends the head of the chain to the witness.
func (s *Store) testify() error {
	if s.witness == nil {
		return nil
	}
	if err := s.witness.Put(s.last.Seq, s.last.Hash); err != nil {
		return fmt.Errorf("%w: %w", ErrWitness, err)
	}
	return nil
}

// Close lets other writers in. The folder is complete at any time; Close flushes nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.fault, os.ErrClosed) {
		return nil
	}
	s.fault = fmt.Errorf("evidence store: %w", os.ErrClosed)
	return s.release()
}

func (s *Store) release() error {
	var err error
	if s.lock != nil {
		err = s.lock.Close() // also releases the lock
	}
	return errors.Join(err, s.seals.close(), s.folder.root.Close())
}

// WriteJSON writes name, which ends in .json, as one flat JSON object: the header's keys, then the keys of the body, a
// struct or map. If the body is not an object, repeats a key of the header (in any case) or contains NaN or an
// infinity, nothing is written and the error names the key.
func (s *Store) WriteJSON(name string, h Header, body any) error {
	if !isJSON(name) {
		return fmt.Errorf("evidence name %q: want .json", name)
	}
	h = h.complete(s.now())
	for i, in := range h.Inputs {
		h.Inputs[i].Path = s.inputPath(in.Path)
	}
	if err := h.validate(); err != nil {
		return fmt.Errorf("evidence %s: %w", name, err)
	}
	data, err := document(h, body)
	if err != nil {
		return fmt.Errorf("evidence %s: %w", name, err)
	}
	return s.write(name, data)
}

// WriteFile writes text, CSV, Markdown or SVG. Use WriteJSON for JSON, which needs a header.
func (s *Store) WriteFile(name string, data []byte) error {
	if isJSON(name) {
		return fmt.Errorf("evidence name %q: JSON has a header: use WriteJSON", name)
	}
	return s.write(name, data)
}

// write performs the steps described in the package comment.
func (s *Store) write(name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("evidence %s: %d bytes: %w: want at most %d", name, len(data), durable.ErrTooLarge, maxFile)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return s.fault
	}
	// Detected now, a folder or link with that name is the caller's error; after step 2 it would be a broken chain.
	if err := s.folder.regular(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("evidence %s: %w", name, err)
	}
	e, line, err := s.last.next(s.now(), name, data)
	if err != nil {
		return err
	}
	if err := s.folder.stage(name, data); err != nil {
		return fmt.Errorf("evidence %s: %w", name, err)
	}
	if err := s.commit(name, line); err != nil {
		err = fmt.Errorf("evidence %s: %w", name, err)
		s.fault = fmt.Errorf("evidence store must be reopened after: %w", err)
		return err
	}
	s.last = e
	if err := s.testify(); err != nil {
		return fmt.Errorf("evidence %s is written: %w", name, err)
	}
	return nil
}

// commit signs the line and performs steps 2 to 4. An error leaves what a kill would leave.
func (s *Store) commit(name string, line []byte) error {
	if err := s.seals.sign(line); err != nil {
		return err
	}
	if err := s.folder.replace(headName, line); err != nil {
		return err
	}
	if err := s.folder.publish(name); err != nil {
		return err
	}
	return s.folder.append(chainName, line)
}

// inputPath makes the path of a file in the folder relative to it, so that Verify finds it from anywhere. It leaves
// every other path unchanged.
func (s *Store) inputPath(p string) string {
	if abs, err := realPath(p); err == nil {
		if rel, err := filepath.Rel(s.dir, abs); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	return filepath.ToSlash(p)
}

func realPath(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// lockError wraps the error of a lock in [ErrLocked] if another writer holds it.
func lockError(err error) error {
	if errors.Is(err, durable.ErrOwned) {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return err
}
