package featurelog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
)

// Every operation is one row. Rows are logged twenty at a time, and are done when they are counted as written.
func TestCrash(t *testing.T) {
	s := schema(t, "v1.8.1")
	crashtest.Run(t, crashtest.Writer{
		Name: "feature log",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			l, err := Open(Options{Dir: dir, Interval: time.Millisecond, PartRows: 50})
			if err != nil {
				return err
			}
			for from := op; ; from = op {
				for ; op < from+20; op++ {
					tell.Begin(op)
					r := sample(s, op, time.Now())
					r.RequestID = strconv.Itoa(op)
					if !l.Log(r) {
						return fmt.Errorf("row %d was not taken", op)
					}
				}
				for l.Stats().Pending > 0 {
					time.Sleep(50 * time.Microsecond)
				}
				if err := l.Stats().LastError; err != nil {
					return err
				}
				for i := from; i < op; i++ {
					tell.Done(i)
				}
			}
		},
		Read: func(dir string) ([]int, error) {
			l, err := Open(Options{Dir: dir})
			if err != nil {
				return nil, err
			}
			if err := l.Close(context.WithoutCancel(t.Context())); err != nil {
				return nil, err
			}
			for _, f := range list(t, dir) {
				if strings.HasSuffix(f, tmpSuffix) {
					return nil, fmt.Errorf("%s was not swept", f)
				}
			}
			var found []int
			for r, err := range Read(dir, time.Time{}, time.Now().Add(time.Hour)) {
				if err != nil {
					return nil, err
				}
				op, err := strconv.Atoi(r.RequestID)
				if err != nil {
					return nil, err
				}
				want := sample(s, op, r.ArrivalTime)
				want.RequestID = r.RequestID
				if !equal(r, want) {
					return nil, fmt.Errorf("row %d is %+v, want %+v", op, r, want)
				}
				found = append(found, op)
			}
			return found, nil
		},
	})
}
