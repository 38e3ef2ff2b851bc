package gate

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// newest returns the latch with the largest number as its reason, and the number; 0 if there is none. It ignores the kill that
// executor sets for an unwritten latch, which was not acknowledged.
func newest(l *latches) (which executorv1.GateLatch, op int, err error) {
	for _, w := range l.list() {
		if l[w].By == byExecutor {
			continue
		}
		n, e := strconv.Atoi(l[w].Reason)
		if e != nil {
			err = e
		}
		if n >= op {
			which, op = w, n
		}
	}
	return which, op, err
}

// Every operation sets a latch, with its number as the reason. It uses two latches in turn, and clears the older one first.
func TestCrash(t *testing.T) {
	begin := func(dir string) (*Keeper, error) {
		return Open(Options{Allowed: true, Dir: dir, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
	}
	crashtest.Run(t, crashtest.Writer{
		Name: "gate state",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			if _, err := durable.Own(dir); err != nil {
				return err
			}
			k, err := begin(dir)
			if err != nil {
				return err
			}
			for ; ; op++ {
				tell.Begin(op)
				which := killed
				if last, _, _ := newest(k.latched.Load()); last == killed {
					which = drift
				}
				if k.latched.Load()[which] != nil {
					if err := k.Clear([]executorv1.GateLatch{which}, "test", "", "older"); err != nil {
						return err
					}
				}
				k.shut(which, "test", "", strconv.Itoa(op))
				if err := k.saver.Save(writeWait); err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			k, err := begin(dir)
			if err != nil {
				return nil, err
			}
			defer k.Stop()
			if aside, err := filepath.Glob(filepath.Join(dir, "*unusable*")); err != nil || len(aside) > 0 {
				return nil, fmt.Errorf("set aside: %q, %w", aside, err)
			}
			which, op, err := newest(k.latched.Load())
			if which == 0 || err != nil {
				return nil, err
			}
			return []int{op}, nil
		},
		Latest: true,
	})
}
