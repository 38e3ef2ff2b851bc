package flags

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// Programs is [process.FindPrograms] with a hint if programs are missing.
func Programs(dir string) (string, error) {
	dir, err := process.FindPrograms(dir)
	if errors.Is(err, os.ErrNotExist) {
		err = console.WithHint(err, "make run builds all three programs; --bin names their folder")
	}
	return dir, err
}

// ShadowTimeout declares the flag for how long a shadow may take, for commands that start the services.
func ShadowTimeout(fs *pflag.FlagSet, timeout *time.Duration) {
	fs.DurationVar(timeout, "shadow-timeout", shadow.DefaultOptions().Timeout, "how long a shadow may take; raise it on a busy machine, where shadows may be late")
}

// Work has the flags for the folders of a command that starts the services.
type Work struct {
	// Dir is the folder in which each run gets its own folder, Programs is the folder of the services' programs.
	Dir, Programs string
}

// Declare declares the flags; dir is the default of --work.
func (w *Work) Declare(fs *pflag.FlagSet, dir string) {
	fs.StringVar(&w.Dir, "work", dir, "folder in which each run creates a folder for its models, state and logs")
	fs.StringVar(&w.Programs, "bin", "", "folder of the programs ml-engine and executor; by default the folder of this program")
}

// Folder finds the programs, and creates the folder of this run.
func (w *Work) Folder(now time.Time) (_ string, err error) {
	if w.Programs, err = Programs(w.Programs); err != nil {
		return "", err
	}
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		return "", err
	}
	dir := filepath.Join(w.Dir, now.UTC().Format("20060102T150405.000Z"))
	return dir, os.Mkdir(dir, 0o755)
}

// Evidence declares the flag for the evidence folder.
func Evidence(fs *pflag.FlagSet, folder *string) {
	fs.StringVar(folder, "evidence", evidence.DefaultDir, "folder of the evidence")
}

// Head declares the flag for the expected head of an evidence chain. An empty head is refused.
func Head(fs *pflag.FlagSet, head *string) {
	fs.StringVar(head, "head", "", "expected head of the evidence chain, or at least its first 12 digits, as stored in another place")
	console.Check(fs, "head", func() error {
		*head = strings.ToLower(strings.TrimSpace(*head))
		return evidence.CheckHead(*head)
	})
}

// WithEvidence opens the evidence folder, calls write, and closes the folder.
func WithEvidence(c console.Console, folder string, write func(*evidence.Store) error) error {
	_, err := Keep(c, folder, func(store *evidence.Store) (struct{}, error) { return struct{}{}, write(store) })
	return err
}

// Keep is [WithEvidence] for a write function with a result.
func Keep[T any](c console.Console, folder string, write func(*evidence.Store) (T, error)) (result T, err error) {
	store, err := evidence.Open(folder, evidence.Options{Seal: *c.Seal})
	if err != nil {
		return result, err
	}
	result, err = write(store)
	return result, errors.Join(err, store.Close())
}
