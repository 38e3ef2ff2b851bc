package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// After operation n the counts have n rows and are saved.
func TestCrash(t *testing.T) {
	begin := func(dir string) (*Monitor, *Watch, int, error) {
		m, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, nil, 0, err
		}
		w, err := m.Watch(enginetest.Artifact(t, "v1.8.1", "v1"))
		if err != nil {
			return nil, nil, 0, err
		}
		counts, _, _ := w.view(time.Now()).Window(hourOf(time.Now()), drift.RingHours)
		return m, w, int(counts.Rows()), nil
	}
	crashtest.Run(t, crashtest.Writer{
		Name: "drift state",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			m, w, have, err := begin(dir)
			if err != nil {
				return err
			}
			s, rng := enginetest.Artifact(t, "v1.8.1", "v1").Schema, rand.New(rand.NewPCG(1, 1))
			for ; ; op++ {
				tell.Begin(op)
				for ; have < op; have++ {
					w.Observe(time.Now(), Rows{X: enginetest.Vector(rng, s), Scores: []float64{0.5}})
				}
				if err := m.save(); err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			m, _, rows, err := begin(dir)
			if err != nil {
				return nil, err
			}
			if err := m.Stop(context.WithoutCancel(t.Context())); err != nil {
				return nil, err
			}
			if aside, err := filepath.Glob(filepath.Join(dir, "*unusable*")); err != nil || len(aside) > 0 {
				return nil, fmt.Errorf("set aside: %q, %w", aside, err)
			}
			if rows == 0 {
				return nil, nil
			}
			return []int{rows}, nil
		},
		Latest: true,
	})
}
