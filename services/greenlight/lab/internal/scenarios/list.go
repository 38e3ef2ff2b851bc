package scenarios

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
)

// All returns the scenarios in the order in which they run.
func All() []Scenario {
	return []Scenario{
		{Name: "healthy", Expect: "passes all phases", act: healthy},
		{Name: "slow", Expect: "aborts: ml-engine takes 130 ms", act: broken([]string{"error", "p95", "coverage"}, func(s *stage) error {
			s.relay.Set(relay.Late(130 * time.Millisecond))
			return nil
		})},
		{Name: "wrong", Expect: "aborts on match: scores are 0.1 off", act: broken([]string{"match"}, func(s *stage) error {
			s.relay.Set(relay.Scores(func(score float64) float64 { return min(1, score+0.1) }))
			return nil
		})},
		{Name: "down", Expect: "aborts on errors or coverage: ml-engine is killed", act: broken([]string{"error", "coverage"}, func(s *stage) error { return s.engine.Kill() })},
		{Name: "silence", Expect: "holds, stops, never passes: no traffic", rate: -1, policy: short, act: silence},
		{Name: "trickle", Expect: "INCONCLUSIVE until the floor: 1 request/s", rate: 1, policy: trickling, act: trickle},
		{Name: "prometheus", Expect: "ERROR and holds while Prometheus is down", act: prometheusDown},
		{Name: "killed", Expect: "0 % within the lease + 1 s; --resume finishes", act: killed},
		{Name: "halted", Expect: "0 % within the lease + 1 s; retries the phase", act: halted},
		{Name: "second", Expect: "a second controller is refused", act: second},
		{Name: "restart", Expect: "an executor that restarts retries the phase", away: true, act: restart},
	}
}

// short sets phases with a short hold limit.
func short(p *gate.Policy) {
	p.PhaseDuration, p.HoldLimit = gate.Duration(2*time.Second), gate.Duration(3*time.Second)
}

// trickling sets one phase of all requests, with the lowest minimum of comparisons that a policy may have.
func trickling(p *gate.Policy) {
	p.Phases, p.PhaseDuration, p.MinComparisons = []float64{100}, gate.Duration(2*time.Second), 20
}

// finished returns the record of a canary, and an error if it did not end as expected.
func (s *stage) finished(ctx context.Context, c *operator.Command, want canary.Decision) (*canary.Record, error) {
	if err := s.awaitEnd(ctx, c); err != nil {
		return nil, err
	}
	r := s.Record()
	switch code := map[canary.Decision]int{canary.Passed: 0, canary.Aborted: 3, canary.Stopped: 3}[want]; {
	case r == nil:
		return nil, fmt.Errorf("the canary left no journal: %s", c.LastLine())
	case r.Decision != want:
		return r, fmt.Errorf("it ended as %s: %s", r.Decision, r.Reason)
	case c.Wait() != code:
		return r, fmt.Errorf("it ended as %s and exited %d, want %d", r.Decision, c.Wait(), code)
	case !r.RolledBack:
		return r, errors.New("0 % was not read back")
	}
	return r, nil
}

// complete runs a canary without any fault.
func (s *stage) complete(ctx context.Context, want canary.Decision) (*canary.Record, error) {
	c, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	return s.finished(ctx, c, want)
}

// passed counts the phases that passed.
func passed(r *canary.Record) (n int) {
	for _, p := range r.Phases {
		if p.Decision == canary.Passed {
			n++
		}
	}
	return n
}

func healthy(ctx context.Context, s *stage) (string, error) {
	r, err := s.complete(ctx, canary.Passed)
	if err != nil {
		return "", err
	}
	if n := passed(r); n != len(s.Policy.Phases) {
		return "", fmt.Errorf("%d phases passed", n)
	}
	return fmt.Sprintf("PASSED, %d phases, 0 %% in %.1f ms", passed(r), r.RollbackMS), nil
}

// broken runs a canary with a fault in its second phase. The canary must abort for one of the reasons.
func broken(reasons []string, fault func(*stage) error) func(context.Context, *stage) (string, error) {
	return func(ctx context.Context, s *stage) (string, error) {
		c, err := s.startTo(ctx, 1)
		if err != nil {
			return "", err
		}
		at := time.Now()
		if err := fault(s); err != nil {
			return "", err
		}
		r, err := s.finished(ctx, c, canary.Aborted)
		if err != nil {
			return "", err
		}
		if !slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(r.Reason, reason) }) {
			return "", fmt.Errorf("it aborted for another reason: %s", r.Reason)
		}
		return fmt.Sprintf("ABORTED %.1f s after the fault, 0 %% in %.1f ms: %s", r.EndTime.Sub(at).Seconds(), r.RollbackMS, r.Reason), nil
	}
}

func silence(ctx context.Context, s *stage) (string, error) {
	r, err := s.complete(ctx, canary.Stopped)
	if err != nil {
		return "", err
	}
	if n := passed(r); n > 0 || r.PromoteEligible {
		return "", fmt.Errorf("%d phases passed without a request", n)
	}
	return fmt.Sprintf("STOPPED after %.1f s: %s", r.EndTime.Sub(r.StartTime).Seconds(), r.Reason), nil
}

func trickle(ctx context.Context, s *stage) (string, error) {
	r, err := s.complete(ctx, canary.Passed)
	if err != nil {
		return "", err
	}
	below := 0
	for _, p := range r.Phases[0].Samples {
		switch {
		case p.Comparisons >= s.Policy.MinComparisons:
		case p.Verdict != gate.Inconclusive:
			return "", fmt.Errorf("%s with %d comparisons", p.Verdict, p.Comparisons)
		default:
			below++
		}
	}
	n := r.Phases[0].Outcomes["match"] + r.Phases[0].Outcomes["mismatch"]
	if below == 0 || n < s.Policy.MinComparisons {
		return "", fmt.Errorf("%d polls below the floor, %d comparisons", below, n)
	}
	return fmt.Sprintf("INCONCLUSIVE at %d polls, PASSED with %d comparisons after %.1f s", below, n, r.EndTime.Sub(r.StartTime).Seconds()), nil
}

// lapsed waits until the lease of a stopped controller has lapsed.
func (s *stage) lapsed(ctx context.Context) (string, error) {
	took, err := s.awaitZero(ctx)
	if err != nil {
		return "", err
	}
	limit := time.Duration(s.Policy.Lease) + time.Second
	if took > limit {
		return "", fmt.Errorf("0 %% after %.1f s, want at most %.1f s", took.Seconds(), limit.Seconds())
	}
	return fmt.Sprintf("0 %% after %.1f s of %.1f s", took.Seconds(), limit.Seconds()), nil
}

func killed(ctx context.Context, s *stage) (string, error) {
	c, err := s.startTo(ctx, 1)
	if err == nil {
		err = c.Kill()
	}
	if err != nil {
		return "", err
	}
	seen, err := s.lapsed(ctx)
	if err != nil {
		return "", err
	}
	if c, err = s.begin("resumed", firstState, ""); err != nil {
		return seen, err
	}
	r, err := s.finished(ctx, c, canary.Passed)
	if err != nil {
		return "", err
	}
	if n := passed(r); n != len(s.Policy.Phases) || len(r.Resumptions) != 1 || r.Phases[0].Decision != canary.Passed || r.Phases[1].Decision != canary.Interrupted {
		return "", fmt.Errorf("%d phases passed in %d resumptions", n, len(r.Resumptions))
	}
	return seen + "; resumed at phase 2 and PASSED", nil
}

func halted(ctx context.Context, s *stage) (string, error) {
	c, err := s.startTo(ctx, 1)
	if err == nil {
		err = c.Signal(syscall.SIGSTOP)
	}
	if err != nil {
		return "", err
	}
	seen, err := s.lapsed(ctx)
	if err = errors.Join(err, c.Signal(syscall.SIGCONT)); err != nil {
		return "", err
	}
	r, err := s.finished(ctx, c, canary.Passed)
	if err != nil {
		return "", err
	}
	if r.Phases[1].Decision != canary.Interrupted || passed(r) != len(s.Policy.Phases) {
		return "", fmt.Errorf("phase 2 was %s: its lease had lapsed", r.Phases[1].Decision)
	}
	return seen + "; phase 2 was retried, PASSED", nil
}

func second(ctx context.Context, s *stage) (string, error) {
	plan, err := s.plan("second") // its phrase is still valid after the first has started
	if err != nil {
		return "", err
	}
	early, err := plan.Phrase()
	if err != nil {
		return "", err
	}
	c, err := s.startTo(ctx, 0)
	if err != nil {
		return "", err
	}
	other, err := s.begin("second-start", "second", early)
	if err == nil {
		err = s.awaitEnd(ctx, other)
	}
	if err != nil {
		return "", err
	}
	if !other.Refused(canary.ErrHeld) {
		return "", fmt.Errorf("the second was not refused: exit %d: %s", other.Wait(), other.LastLine())
	}
	if plan, err = s.plan("third"); err != nil || plan.Wait() == 0 || !plan.Refused(canary.ErrHeld) {
		return "", errors.Join(err, errors.New("another plan was not refused"))
	}
	again, err := s.begin("again", firstState, "")
	if err == nil {
		err = s.awaitEnd(ctx, again)
	}
	if err != nil {
		return "", err
	}
	if !again.Refused(canary.ErrRunning) {
		return "", fmt.Errorf("a second controller of the same run was not refused: %s", again.LastLine())
	}
	if _, err := s.finished(ctx, c, canary.Passed); err != nil {
		return "", err
	}
	return "its start, another plan and --resume were refused; the first PASSED", nil
}

func restart(ctx context.Context, s *stage) (string, error) {
	c, err := s.startTo(ctx, 1)
	if err == nil {
		err = s.executor.Kill()
	}
	if err == nil {
		err = s.startExecutor(ctx, process.Listen{GRPC: s.executor.Addr("grpc"), HTTP: s.executor.Addr("http")})
	}
	if err != nil {
		return "", err
	}
	r, err := s.finished(ctx, c, canary.Passed)
	if err != nil {
		return "", err
	}
	p := r.Phases[1]
	if p.Decision != canary.Interrupted || !slices.Contains(p.Restarted, s.executor.Addr("grpc")) || passed(r) != len(s.Policy.Phases) {
		return "", fmt.Errorf("phase 2 was %s: %s", p.Decision, p.Reason)
	}
	return "phase 2: " + p.Reason + "; it was retried, PASSED", nil
}
