package rollout

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
)

// Every operation sets another percentage, some under a lease, some by an abort. The reason has its number.
func TestCrash(t *testing.T) {
	begin := func(dir string) (*Keeper, error) {
		return Open(Options{Dir: dir, Percent: 3, Salt: "salt", Logger: slog.New(slog.DiscardHandler)})
	}
	percent := func(op int) float64 {
		if op%5 == 0 {
			return 0
		}
		return float64(op % 101)
	}
	crashtest.Run(t, crashtest.Writer{
		Name: "rollout state",
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
				c := change{percent: percent(op), mode: observe, by: "test", reason: strconv.Itoa(op)}
				if op%3 == 0 {
					c.lease, c.holder = time.Hour, "canary"
				}
				if op%5 == 0 || k.now.Load().Holder != c.holder {
					_, err = k.abort("test", "", c.reason)
				}
				if op%5 > 0 && err == nil {
					c.expected = k.now.Load().Revision
					_, err = k.set(c)
				}
				if err != nil {
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
			r := k.now.Load()
			op, err := strconv.Atoi(r.Reason)
			if err != nil {
				return nil, nil // the first start
			}
			if r.Percent != percent(op) && r.Percent != 0 { // 0 between an abort and the next change
				return nil, fmt.Errorf("operation %d left %v %%, want %v", op, r.Percent, percent(op))
			}
			return []int{op}, nil
		},
		Latest: true,
	})
}

// A truncated file means 0 %, wherever it is cut, and never another percentage.
func TestFileCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(Options{Dir: dir, Percent: 3, Salt: "salt", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	if _, err := k.set(change{percent: 25, mode: observe, lease: time.Hour, holder: "canary", by: "test", reason: "test"}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(k.file.Path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		r, err := parse(k, whole[:cut])
		if err == nil && (r.Percent != 25 || r.Holder != "canary" || cut < len(whole)-1) { // the last byte is a line end
			t.Errorf("cut at %d: got %+v", cut, r)
		}
	}
}
