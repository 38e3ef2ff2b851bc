package canaryview

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

var epoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// policy returns a policy of two phases of a minute.
func policy() gate.Policy {
	p := gate.DefaultPolicy()
	p.Phases, p.PhaseDuration = []float64{5, 100}, gate.Duration(time.Minute)
	return p
}

// pollOfCounts returns a sample taken the given time after the start of its phase.
func pollOfCounts(percent float64, after time.Duration, c gate.PhaseCounts) *canary.Poll {
	p := policy()
	card := p.JudgePhase(c)
	l := &canary.Poll{
		Sample: canary.Sample{
			Time: epoch.Add(after), Percent: percent, Requests: 20 * c.Tried(), Comparisons: c.Comparisons(), Matches: c.Matches, Errors: c.Errors,
			MatchE: 1.5, ErrorE: 0.25, Verdict: card.Verdict(),
		},
		Card: card, Left: gate.Duration(max(0, time.Minute-after)), HoldLeft: p.HoldLimit, Keep: true,
		Outcomes: map[string]uint64{"match": c.Matches, "mismatch": c.Mismatches, "deadline": c.Errors, "not_sampled": 19 * c.Tried()},
	}
	if n := c.Comparisons(); n < p.MinComparisons {
		l.Needed = p.MinComparisons - n
	}
	if !math.IsNaN(c.P95MS) {
		l.P95MS = &c.P95MS
	}
	return l
}

// story returns the events of a run whose first phase passes and whose second phase is aborted.
func story() []canary.Event {
	at := func(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }
	look := func(s, after float64, phase int, percent float64, c gate.PhaseCounts) canary.Event {
		return canary.Event{Kind: canary.Polled, Time: at(s), Phase: phase, Percent: percent, Poll: pollOfCounts(percent, time.Duration(after*float64(time.Second)), c)}
	}
	few := gate.PhaseCounts{Matches: 100, P95MS: 2}
	good := gate.PhaseCounts{Matches: 990, Mismatches: 10, Errors: 1, P95MS: 2.5}
	bad := gate.PhaseCounts{Matches: 800, Mismatches: 200, P95MS: 2.5}
	reason := "match rate of 80.0 % is below 90 %"
	return []canary.Event{
		{Kind: canary.Started, Time: at(0)},
		{Kind: canary.PhaseBegun, Time: at(0), Percent: 5},
		{Kind: canary.Counting, Time: at(1), Percent: 5},
		look(5, 4, 0, 5, few), look(8, 7, 0, 5, few), look(12, 11, 0, 5, few), look(62, 61, 0, 5, few),
		{Kind: canary.Held, Time: at(62), Percent: 5, Reason: "match rate: 100 samples, 500 needed"},
		look(75, 74, 0, 5, good),
		{Kind: canary.PhaseEnded, Time: at(75), Percent: 5, Decision: canary.Passed},
		{Kind: canary.PhaseBegun, Time: at(75), Phase: 1, Percent: 100},
		{Kind: canary.PhaseRetried, Time: at(76), Phase: 1, Percent: 100, Executor: "executor-a", Reason: "it restarted"},
		{Kind: canary.PhaseEnded, Time: at(76), Phase: 1, Percent: 100, Decision: canary.Interrupted, Reason: "executor executor-a: it restarted"},
		{Kind: canary.PhaseBegun, Time: at(77), Phase: 1, Percent: 100},
		{Kind: canary.Counting, Time: at(78), Phase: 1, Percent: 100},
		look(80, 2, 1, 100, bad),
		{Kind: canary.PhaseEnded, Time: at(80), Phase: 1, Percent: 100, Decision: canary.Aborted, Reason: reason},
		{Kind: canary.RollingBack, Time: at(80), Decision: canary.Aborted, Reason: reason},
		{Kind: canary.RolledBack, Time: at(80.1), TookMS: 12.34},
		{Kind: canary.Finished, Time: at(80.1), Decision: canary.Aborted, Reason: reason},
	}
}

func TestPlainLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	synctest.Test(t, func(*testing.T) {
		v := New(&out, nil, policy())
		for _, e := range story() {
			v.Observe(e)
			synctest.Wait() // one by one, because a new sample replaces one that is not drawn yet
		}
		v.Close()
	})
	const want = `12:00:00Z  the canary started
12:00:01Z  phase 1 of 2, 5 %: every executor has confirmed it; observing for 1m
12:00:12Z  phase 1 of 2, 5 %: 49s left; 2000 requests, 100 comparisons, match rate 100.0 % (96.3 % to 100.0 %), error rate 0.0 % (0.0 % to 3.7 %), p95 latency 2.0 ms, coverage 100.0 % (96.3 % to 100.0 %): INCONCLUSIVE
12:01:02Z  phase 1 of 2, 5 %: 0s left; 2000 requests, 100 comparisons, match rate 100.0 % (96.3 % to 100.0 %), error rate 0.0 % (0.0 % to 3.7 %), p95 latency 2.0 ms, coverage 100.0 % (96.3 % to 100.0 %): INCONCLUSIVE
12:01:02Z  phase 1 of 2, 5 %: held after its time was up: match rate: 100 samples, 500 needed
12:01:15Z  phase 1 of 2, 5 %: 0s left; 20020 requests, 1000 comparisons, match rate 99.0 % (98.2 % to 99.46 %), error rate 0.10 % (0.02 % to 0.56 %), p95 latency 2.5 ms, coverage 99.90 % (99.44 % to 99.98 %): PASS
12:01:15Z  phase 1 of 2, 5 %: PASSED; 20020 requests, 1000 comparisons, match rate 99.0 % (98.2 % to 99.46 %), error rate 0.10 % (0.02 % to 0.56 %), p95 latency 2.5 ms, coverage 99.90 % (99.44 % to 99.98 %): PASS
12:01:16Z  phase 2 of 2, 100 % starts again: executor executor-a: it restarted
12:01:16Z  phase 2 of 2, 100 %: INTERRUPTED: executor executor-a: it restarted
12:01:18Z  phase 2 of 2, 100 %: every executor has confirmed it; observing for 1m
12:01:20Z  phase 2 of 2, 100 %: ABORTED: match rate of 80.0 % is below 90 %; 20000 requests, 1000 comparisons, match rate 80.0 % (77.4 % to 82.4 %), error rate 0.0 % (0.0 % to 0.38 %), p95 latency 2.5 ms, coverage 100.0 % (99.62 % to 100.0 %): FAIL
12:01:20Z  0 % was read back from every executor, 12.3 ms
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// terminal emulates a terminal. It knows only the escape sequence that a view writes.
type terminal struct {
	lines []string
	// panels counts how often a panel was erased.
	panels int
}

// Write implements io.Writer.
func (s *terminal) Write(b []byte) (int, error) {
	text := string(b)
	var up int
	if n, _ := fmt.Sscanf(text, "\r\x1b[%dA\x1b[J", &up); n == 1 {
		_, text, _ = strings.Cut(text, "\x1b[J")
		s.lines = s.lines[:len(s.lines)-up]
		s.panels++
	}
	if strings.ContainsRune(text, '\x1b') {
		return 0, fmt.Errorf("a sequence within a text: %q", text)
	}
	for line := range strings.Lines(text) {
		s.lines = append(s.lines, strings.TrimSuffix(line, "\n"))
	}
	return len(b), nil
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const columns = 100
		var screen terminal
		v := newView(&screen, policy(), func() int { return columns })
		var shown []string
		for _, e := range story() {
			v.Observe(e)
			synctest.Wait()
			shown = append(shown, strings.Join(screen.lines, "\n"))
			for i, line := range screen.lines {
				if panel := i >= len(screen.lines)-v.drawn; panel && len([]rune(line)) >= columns {
					t.Errorf("a line of the panel wraps: %q", line)
				}
			}
		}
		v.Close()
		for i, want := range map[int][]string{
			3:  {"phase 1 of 2  5 %  [==                            ] 56s left", "100 comparisons, 400 more needed", "match rate", "overall: INCONCLUSIVE", "e-value of mismatches 1.5, of errors 0.25; 100 aborts", "match 100 not_sampled 1900"},
			6:  {"[==============================] 0s left, held for at most 4h more"},
			8:  {"overall: PASS (4 of 4 pass)", "deadline 1"},
			15: {"phase 2 of 2  100 %  [=", "overall: FAIL"},
		} {
			for _, text := range want {
				if !strings.Contains(shown[i], text) {
					t.Errorf("after event %d the terminal lacks %q:\n%s", i, text, shown[i])
				}
			}
		}
		final := strings.Join(screen.lines, "\n")
		if strings.Contains(final, "outcomes") || !strings.Contains(final, "ABORTED") || screen.panels < 6 {
			t.Errorf("at the end (%d panels were erased):\n%s", screen.panels, final)
		}
	})
}

// stuck is a terminal that blocks until free is closed.
type stuck struct{ free chan struct{} }

// Write implements io.Writer.
func (s stuck) Write(b []byte) (int, error) {
	<-s.free
	return len(b), nil
}

// A terminal that hangs does not block the run.
func TestStuckTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := stuck{make(chan struct{})}
		v := newView(out, policy(), func() int { return 80 })
		start := time.Now()
		for range 3 * maxQueue {
			v.Observe(canary.Event{Kind: canary.Held, Reason: "again"})
			v.Observe(canary.Event{Kind: canary.Polled, Poll: pollOfCounts(5, 0, gate.PhaseCounts{P95MS: math.NaN()})})
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Observe blocked for %v", took)
		}
		close(out.free)
		v.Close()
	})
}

// The last line of a phase has the newest figures, even on a terminal that hung in between.
func TestPhaseEndsWithTheNewestFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &late{free: make(chan struct{})}
		v := newView(out, policy(), func() int { return 0 })
		v.Observe(canary.Event{Kind: canary.Started})
		synctest.Wait() // it hangs
		for n := range uint64(5) {
			v.Observe(canary.Event{Kind: canary.Polled, Poll: pollOfCounts(5, 0, gate.PhaseCounts{Matches: 50 * (n + 1), P95MS: math.NaN()})})
		}
		v.Observe(canary.Event{Kind: canary.PhaseEnded, Decision: "PASSED"})
		v.Observe(canary.Event{Kind: canary.Held, Reason: "next"})
		close(out.free)
		v.Close()
		if got := out.String(); !strings.Contains(got, "5000 requests") {
			t.Errorf("the phase ended with older figures:\n%s", got)
		}
	})
}

// late is a terminal that hangs until it is freed, and stores what was written.
type late struct {
	bytes.Buffer

	free chan struct{}
}

// Write implements io.Writer.
func (l *late) Write(b []byte) (int, error) {
	<-l.free
	return l.Buffer.Write(b)
}
