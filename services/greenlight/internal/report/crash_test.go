package report

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
)

func TestCrash(t *testing.T) {
	crashtest.Run(t, crashtest.Writer{
		Name: "report journal",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			if _, err := durable.Own(dir); err != nil {
				return err
			}
			j, err := OpenJournal(dir)
			if err != nil {
				return err
			}
			for ; ; op++ {
				tell.Begin(op)
				if err := j.Append(Sample{Time: time.Unix(int64(op), 0).UTC(), Missing: []Missing{{Executor, "a", strings.Repeat("x", 100*(op%90))}}}); err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			if samples, err := ReadJournal(dir, time.Time{}); err != nil && !errors.Is(err, fs.ErrNotExist) { // before anything is repaired
				return nil, fmt.Errorf("after %d samples: %w", len(samples), err)
			}
			j, err := OpenJournal(dir)
			if err != nil {
				return nil, err
			}
			if err := j.Close(); err != nil {
				return nil, err
			}
			samples, err := ReadJournal(dir, time.Time{})
			var found []int
			for _, s := range samples {
				op := int(s.Time.Unix())
				if len(s.Missing) != 1 || len(s.Missing[0].Reason) != 100*(op%90) {
					return nil, fmt.Errorf("sample %d is not whole", op)
				}
				found = append(found, op)
			}
			return found, err
		},
	})
}
