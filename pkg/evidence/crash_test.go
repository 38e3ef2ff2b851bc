package evidence_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
)

// Files are written repeatedly: state.txt with every operation, which its content must name.
func TestCrash(t *testing.T) {
	crashtest.Run(t, crashtest.Writer{
		Name: "evidence chain",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			key, err := signer(dir + ".key")
			if err != nil {
				return err
			}
			s, err := evidence.Open(dir, evidence.Options{Seal: evidence.Seal{Signer: key}})
			if err != nil {
				return err
			}
			for ; ; op++ {
				tell.Begin(op)
				if err := s.WriteJSON(fmt.Sprintf("daily/%d/report_%d.json", op%3, op), header, map[string]int{"op": op}); err != nil {
					return err
				}
				if err := s.WriteFile("state.txt", fmt.Appendln(nil, op)); err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			key, err := signer(dir + ".key")
			if err != nil {
				return nil, err
			}
			s, err := evidence.Open(dir, evidence.Options{Seal: evidence.Seal{Signer: key}})
			if err != nil {
				return nil, err
			}
			if err := s.Close(); err != nil {
				return nil, err
			}
			report, err := evidence.Verify(dir)
			if err != nil {
				return nil, err
			}
			if err := report.Trust(key.Public()); err != nil {
				return nil, err
			}
			if report.Lines > 0 && !report.OK() { // an empty chain cannot be verified
				return nil, fmt.Errorf("does not verify: %v", report.Problems)
			}
			var found []int
			err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err == nil && strings.HasSuffix(path, ".json") {
					var op int
					_, err = fmt.Sscanf(d.Name(), "report_%d.json", &op)
					found = append(found, op)
				}
				return err
			})
			raw, stateErr := os.ReadFile(filepath.Join(dir, "state.txt"))
			if err != nil || errors.Is(stateErr, fs.ErrNotExist) {
				return found, err
			}
			// The last report may exist without the last state, but not the reverse.
			var last int
			if _, err := fmt.Sscan(string(raw), &last); err != nil || !slices.Contains(found, last) {
				return nil, fmt.Errorf("state.txt is of %d, which has no report: %w", last, err)
			}
			return found, nil
		},
	})
}
