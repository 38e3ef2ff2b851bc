package canary

import (
	"errors"
	"fmt"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
)

// TestCrash rehearses a run and resumes it after every kill. It starts a new run when one is long enough.
func TestCrash(t *testing.T) {
	plan := &Plan{Schema: planSchema, Source: evidence.Replay, Policy: gate.DefaultPolicy()}
	crashtest.Run(t, crashtest.Writer{
		Name: "canary journal",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			state := State(dir)
			for {
				run, err := state.Resume("")
				if errors.Is(err, errNoRun) || errors.Is(err, errNotResumable) {
					run, err = state.Rehearse(plan)
				}
				if err != nil {
					return err
				}
				for i := range 7 {
					e := Event{Kind: Held, Phase: 1, Reason: fmt.Sprint(op)}
					if i == 6 {
						e = Event{Kind: Finished, Decision: Stopped, Reason: fmt.Sprint(op)}
					}
					tell.Begin(op)
					if err := run.journal.Add(e); err != nil {
						return err
					}
					tell.Done(op)
					op++
				}
				if err := run.Close(); err != nil {
					return err
				}
			}
		},
		Read: func(dir string) ([]int, error) {
			state := State(dir)
			ids, err := state.Runs()
			if err != nil {
				return nil, err
			}
			var found []int
			for _, id := range ids {
				if _, _, err := state.Read(id); err != nil {
					return nil, err
				}
				if again, err := state.Resume(id); err == nil {
					err = again.Close()
					if err != nil {
						return nil, err
					}
				} else if !errors.Is(err, errNotResumable) {
					return nil, err
				}
				events, err := state.Events(id)
				if err != nil {
					return nil, err
				}
				for _, e := range events {
					var op int
					if _, err := fmt.Sscan(e.Reason, &op); err != nil {
						return nil, err
					}
					found = append(found, op)
				}
			}
			return found, nil
		},
	})
}
