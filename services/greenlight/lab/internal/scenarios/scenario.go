// Package scenarios tests what a canary does when something fails. It runs real services and a real controller as processes, a
// load, and a fault at a chosen moment.
//
// Whatever fails, every answer of the executor must be the baseline's, the executor must be at 0 % at the end, and the
// evidence must verify. A scenario passes if all this is true and the canary did what was expected.
package scenarios

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Scenario is one fault during a canary.
type Scenario struct {
	// Name is its name on the command line and its folder. Expect describes what the canary must do.
	Name, Expect string
	// policy changes the policy of the canary; it may be nil.
	policy func(*gate.Policy)
	// rate is the load in requests per second; 0 means the rate of the options, a negative rate no load.
	rate float64
	// away reports whether the executor is down for a while.
	away bool
	// act runs the scenario and describes what happened. It returns an error if that was not as expected.
	act func(context.Context, *stage) (string, error)
}

// Result is the result of a scenario.
type Result struct {
	Name, Expect string
	// Seen describes what happened, or what was wrong. Verdict is ERROR if the scenario could not be run.
	Seen    string
	Verdict gate.Verdict
	Took    time.Duration
	Answers traffic.Answers
	// Dir is its folder: logs, the journal of the canary, its evidence.
	Dir string
}

// errNotPlayed is the error of a scenario that lacks a program.
var errNotPlayed = errors.New("not played")

// Play runs a scenario and judges it.
func (sc Scenario) Play(ctx context.Context, o Options) Result {
	o.Rig = &rig.Rig{Services: o.Services, Dir: filepath.Join(o.Dir, sc.Name)}
	if sc.policy != nil {
		sc.policy(&o.Policy)
	}
	o.Rate = cmp.Or(sc.rate, o.Rate)
	s := &stage{Options: o}
	r := Result{Name: sc.Name, Expect: sc.Expect, Dir: s.Dir}
	start := time.Now()
	seen, err := sc.play(ctx, s)
	r.Took, r.Seen, r.Answers, r.Verdict = time.Since(start), seen, s.answers, gate.Pass
	switch {
	case errors.Is(err, errNotPlayed):
		r.Verdict, r.Seen = gate.Error, err.Error()
	case err != nil:
		r.Verdict, r.Seen = gate.Fail, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return r
}

func (sc Scenario) play(ctx context.Context, s *stage) (seen string, err error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, s.tearDown())
		err = errors.Join(err, sc.unaffected(s))
	}()
	if err := s.setUp(ctx); err != nil {
		return "", fmt.Errorf("%w: %w", errNotPlayed, err)
	}
	if s.Rate > 0 {
		s.send(ctx)
	}
	if seen, err = sc.act(ctx, s); err != nil {
		return seen, err
	}
	if p, err := s.percent(ctx); err != nil || p != 0 {
		return seen, errors.Join(err, fmt.Errorf("the executor is at %g %% at the end", p))
	}
	report, err := evidence.Verify(s.Evidence)
	return seen, errors.Join(err, report.Err())
}

// unaffected returns an error if an answer was not the baseline's, once all have been counted.
func (sc Scenario) unaffected(s *stage) error {
	a := s.answers
	var errs []error
	if a.Changed > 0 {
		errs = append(errs, fmt.Errorf("%d answers of %d are not the baseline's", a.Changed, a.Total))
	}
	if a.Failed > 0 || a.Away > 0 && !sc.away {
		errs = append(errs, fmt.Errorf("%d answers of %d are missing", a.Failed+a.Away, a.Total))
	}
	if s.quiet != nil && a.Total == a.Away {
		errs = append(errs, errors.New("there was no answer at all"))
	}
	return errors.Join(errs...)
}

func tableOf(all []Result) *table.Table {
	t := table.New("scenario", "verdict", "time", "answers", "changed", "expected", "seen")
	for _, r := range all {
		t.Row(r.Name, r.Verdict, fmt.Sprintf("%.1f s", r.Took.Seconds()), r.Answers.Total-r.Answers.Away, r.Answers.Changed, r.Expect, r.Seen)
	}
	return t
}

// Table writes one line per scenario.
func Table(out io.Writer, all []Result) error { return tableOf(all).Text(out) }

// Markdown returns the table as a document.
func Markdown(all []Result) []byte {
	var out bytes.Buffer
	out.WriteString("# Scenarios of a canary\n\n")
	_ = tableOf(all).Markdown(&out) // a bytes.Buffer does not fail
	return out.Bytes()
}

// Scorecard judges the scenarios together: all must pass.
func Scorecard(all []Result) gate.Scorecard {
	var card gate.Scorecard
	for _, r := range all {
		card.Results = append(card.Results, gate.Result{Name: r.Name, Verdict: r.Verdict})
	}
	return card
}
