package scenarios

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
)

// run starts a command of greenlight. Its output goes to a log of that name in the folder.
func (s *stage) run(name string, args ...string) (*operator.Command, error) {
	c, err := operator.Run(s.opts.Self, filepath.Join(s.dir, name+".log"), args...)
	if err == nil {
		s.closers = append(s.closers, c.Kill)
	}
	return c, err
}

// plan plans a canary and returns the phrase that confirms it, or the command that refused.
func (s *stage) plan(state string, flags ...string) (phrase string, refused *operator.Command, err error) {
	c, err := s.run("plan-"+state, append([]string{
		"canary", "plan", "--engine", s.engine.Addr("grpc"), "--executor", s.executor.Addr("grpc"), "--evidence", s.evidence(),
		"--state", filepath.Join(s.dir, state), "--policy", s.policyFile(), "--source", string(s.opts.Source),
	}, flags...)...)
	if err != nil {
		return "", nil, err
	}
	if c.Wait() != 0 {
		return "", c, nil
	}
	phrase, err = c.Phrase()
	return phrase, nil, err
}

// begin starts the canary that the phrase confirms, or resumes it if the phrase is empty.
func (s *stage) begin(name, state, phrase string) (*operator.Command, error) {
	args := []string{"canary", "start", "--state", filepath.Join(s.dir, state)}
	if phrase == "" {
		args = append(args, "--resume")
	} else {
		args = append(args, "--confirm", phrase)
	}
	return s.run(name, args...)
}

// start plans and starts a canary. The drift of an ml-engine that has just started changes with every row, so the phrase may
// be stale when it is used. Then start plans again, as an operator would.
func (s *stage) start(ctx context.Context, flags ...string) (*operator.Command, error) {
	for range 20 {
		phrase, refused, err := s.plan(firstState, flags...)
		if err == nil && refused != nil {
			err = fmt.Errorf("no plan: %s", strings.TrimSpace(refused.Said()))
		}
		if err != nil {
			return nil, err
		}
		c, err := s.begin("canary", firstState, phrase)
		if err != nil {
			return nil, err
		}
		err = s.await(ctx, "the start of the canary", func() (bool, error) { return c.Ended() || s.record() != nil, nil })
		if err != nil || s.record() != nil {
			return c, err
		}
		if !c.Refused(canary.ErrPSIChanged) {
			return nil, fmt.Errorf("not begun: %s", strings.TrimSpace(c.Said()))
		}
	}
	return nil, errors.New("not begun: the drift moves between plan and start, again and again")
}

// firstState is the state folder of the scenario's canary.
const firstState = "canary"
