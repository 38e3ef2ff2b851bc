package model_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// Every third operation releases the previous model, the next one receives a model from another registry, and the others add a
// model.
func TestCrash(t *testing.T) {
	crashtest.Run(t, crashtest.Writer{
		Name: "model registry",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			a := enginetest.Artifact(t, "v1.8.1", "any")
			r, elsewhere := model.OpenRegistry(dir), model.OpenRegistry(t.TempDir())
			last := ""
			for ; ; op++ {
				version := fmt.Sprintf("v%d", op)
				tell.Begin(op)
				b := *a
				b.Manifest.Version = version
				if op%3 == 1 {
					if err := elsewhere.Add(&b); err != nil {
						return err
					}
					if _, _, err := receive(r, elsewhere, version); err != nil {
						return err
					}
					last = version
				} else if op%3 > 0 || last == "" {
					if err := r.Add(&b); err != nil {
						return err
					}
					last = version
				} else if err := r.Release(model.Entry{Name: "test", Version: last}, version, model.Release{Record: []byte(`{}`)}); err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			r := model.OpenRegistry(dir)
			// Temporary files left by a kill are gone after the next write.
			if err := r.Add(enginetest.Artifact(t, "v1.8.1", "any")); err != nil {
				return nil, err
			}
			in, err := r.Receive()
			if err != nil {
				return nil, err
			}
			if err := in.Close(); err != nil {
				return nil, err
			}
			for _, level := range []string{"", "*"} {
				if left, err := filepath.Glob(filepath.Join(dir, level, ".*")); err != nil || len(left) > 0 {
					return nil, fmt.Errorf("left behind: %q, %w", left, err)
				}
			}
			if err := os.RemoveAll(filepath.Join(dir, "test", "any")); err != nil {
				return nil, err
			}
			entries, err := r.List()
			if err != nil {
				return nil, err
			}
			folders, err := os.ReadDir(filepath.Join(dir, "test"))
			if err != nil || len(folders) != len(entries) {
				return nil, fmt.Errorf("%d folders for %d models: %w", len(folders), len(entries), err)
			}
			var found []int
			for _, e := range entries {
				a, err := r.Load(e.String())
				if err != nil {
					return nil, err
				}
				var op int
				if _, err := fmt.Sscanf(e.Version, "v%d", &op); err != nil {
					return nil, err
				}
				if a.Release != nil && !strings.HasPrefix(a.Release.From, "v") {
					return nil, fmt.Errorf("%s: released from %q", e, a.Release.From)
				}
				found = append(found, op)
			}
			return found, nil
		},
	})
}
