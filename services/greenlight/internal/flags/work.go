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

// Programs is [process.FindPrograms], with what to do when they are missing.
func Programs(dir string) (string, error) {
	dir, err := process.FindPrograms(dir)
	if errors.Is(err, os.ErrNotExist) {
		err = console.WithHint(err, "make run builds all three programs; --bin names their folder")
	}
	return dir, err
}

// ShadowTimeout declares how long a shadow may take on a pair that the command starts.
func ShadowTimeout(fs *pflag.FlagSet, timeout *time.Duration) {
	fs.DurationVar(timeout, "shadow-timeout", shadow.DefaultOptions().Timeout, "how long a shadow may take; raise it on a busy machine, where shadows would be late")
}

// Work has the folders of a command that starts a pair.
type Work struct {
	// Dir is the folder in which each run gets a folder, Programs that of the services' programs.
	Dir, Programs string
}

// Declare declares the flags; dir is the default of --work.
func (w *Work) Declare(fs *pflag.FlagSet, dir string) {
	fs.StringVar(&w.Dir, "work", dir, "folder in which each run gets a folder for its models, state and logs")
	fs.StringVar(&w.Programs, "bin", "", "folder of the programs ml-engine and executor; by default that of this program")
}

// Folder finds the programs, and makes the folder of this run.
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

// Evidence declares the flag of the evidence folder.
func Evidence(fs *pflag.FlagSet, folder *string) {
	fs.StringVar(folder, "evidence", evidence.DefaultDir, "folder of the evidence")
}

// Head declares the flag of the head of an evidence chain that was written down before. An empty head is refused.
func Head(fs *pflag.FlagSet, head *string) {
	fs.StringVar(head, "head", "", "the expected head of the evidence chain, or at least its first 12 digits, as kept in another place")
	console.Check(fs, "head", func() error {
		*head = strings.ToLower(strings.TrimSpace(*head))
		return evidence.CheckHead(*head)
	})
}
