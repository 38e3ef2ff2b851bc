package canaryview

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
)

// aborted is a run of two phases that ended in the second.
func aborted() *canary.Record {
	r := promotetest.Run(policy(), epoch)
	p := &r.Phases[1]
	promotetest.Count(p, r.Policy, gate.PhaseCounts{Matches: 800, Mismatches: 200, P95MS: 2.5})
	p.Decision, p.Reason = canary.Aborted, "match rate | below"
	psi := 0.123
	r.Phases[0].PSI = &psi
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for s := 1; s < 60; s++ {
		r.Phases[0].Samples = append(r.Phases[0].Samples, canary.Sample{Time: at(s), Comparisons: 100, Matches: 98, Errors: 1, P95MS: &psi})
	}
	p.Samples = []canary.Sample{{Time: at(61)}} // nothing was compared yet
	r.Decision, r.Reason, r.Aborted, r.RollbackMS = canary.Aborted, p.Reason, true, 12.3
	r.PromoteEligible, r.PromoteReason = false, "it ended as ABORTED"
	return r
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Table(&out, aborted()); err != nil {
		t.Fatal(err)
	}
	const want = `phase   share  time  requests  comparisons  match rate                  error rate                 p95     coverage                      PSI    quality  decision  reason
1 of 2  5 %    1m0s  5005      5000         99.0 % (98.7 % to 99.24 %)  0.10 % (0.04 % to 0.23 %)  3.0 ms  99.90 % (99.77 % to 99.96 %)  0.123  -        PASSED
2 of 2  100 %  1m0s  1000      1000         80.0 % (77.4 % to 82.4 %)   0.0 % (0.0 % to 0.38 %)    2.5 ms  100.0 % (99.62 % to 100.0 %)  n/a    -        ABORTED   match rate | below
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A phase whose last sample lacks a source shows its figures without verdicts.
func TestTableOfAnAbortedPhase(t *testing.T) {
	t.Parallel()
	r := aborted()
	p := &r.Phases[1]
	match, errors, coverage := 0.8, 0.0, 0.75
	p.MatchRate, p.ErrorRate, p.Coverage = &match, &errors, &coverage
	p.Verdicts = r.Policy.JudgePhase(gate.PhaseCounts{Missing: "an executor is away"}).Results
	var out bytes.Buffer
	if err := Table(&out, r); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(strings.Split(out.String(), "\n")[2]), " "); !strings.Contains(got, "1000 1000 80.0 % 0.0 % 2.5 ms 75.0 % n/a - ABORTED") {
		t.Errorf("got %s", got)
	}
}

// The line of an aborted phase has the figures of its last sample, which lacks an executor.
func TestLineOfAnAbortedPhase(t *testing.T) {
	t.Parallel()
	ms := 0.979
	l := &canary.Poll{Sample: canary.Sample{Requests: 300, Comparisons: 285, Matches: 285, Unseen: 15, P95MS: &ms}}
	l.Card = policy().JudgePhase(gate.PhaseCounts{Missing: "executor a reports that it samples 0 %"})
	l.Verdict = l.Card.Verdict()
	if got, want := figures(l), "300 requests, 285 comparisons, match rate 100.0 %, error rate 0.0 %, p95 latency 0.979 ms, coverage 95.0 %: ERROR"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// A panic in the view is reported once and does not disturb the run.
func TestBrokenView(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := newView(&out, policy(), func() int { return 0 })
	for range 3 {
		v.Observe(canary.Event{Kind: canary.Polled, Time: epoch}) // panics: it has no sample
		v.Observe(canary.Event{Kind: canary.Started})
	}
	v.Close()
	if got := out.String(); strings.Count(got, "the display failed; the canary continues") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	r := aborted()
	got := string(Markdown(r, "v1.8.1-rc1"))
	for _, want := range []string{
		"# Canary: v1.8.1-rc1 against heuristic-test: ABORTED\n", "- decision: ABORTED: match rate \\| below\n", "- 0 %: read back from every executor in 12.3 ms\n",
		"- confirmation: ONAY: ", "- promotion: not eligible: it ended as ABORTED\n", "| 1 of 2 | 5 % | 1m0s | 5005 | 5000 | 99.0 %", "| ABORTED | match rate \\| below |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the document lacks %q:\n%s", want, got)
		}
	}
	_, table, _ := strings.Cut(got, "\n| phase")
	const columns = 13
	bars := strings.Count("|"+table, "|") - strings.Count(table, `\|`)
	if rows := 2 + len(r.Phases); bars != rows*(columns+1) {
		t.Errorf("%d bars in %d rows of %d cells", bars, rows, columns)
	}
	r.RolledBack, r.DryRun = false, true
	if got := string(Markdown(r, "v")); !strings.Contains(got, "- 0 %: FAILED: not read back") || !strings.Contains(got, "none: a dry run") {
		t.Errorf("got\n%s", got)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	show := func(r *canary.Record, running bool) string {
		var out bytes.Buffer
		if err := Status(&out, r, "v1.8.1-rc1", running); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	r := aborted()
	if got := show(r, false); !strings.Contains(got, "decision      ABORTED: match rate") || !strings.Contains(got, "ended         2026-09-01T12:02:00Z, after 2m0s") {
		t.Errorf("got\n%s", got)
	}
	r.Decision, r.EndTime, r.RolledBack, r.Reason = canary.Running, time.Time{}, false, ""
	r.Resumptions = []time.Time{epoch}
	if got := show(r, true); !strings.Contains(got, "decision      RUNNING\n") || strings.Contains(got, "\nended ") || strings.Contains(got, "not read back") {
		t.Errorf("got\n%s", got)
	}
	if got := show(r, false); !strings.Contains(got, "INTERRUPTED: no controller runs it; resume it with greenlight canary start --resume") {
		t.Errorf("got\n%s", got)
	}
}

func TestFigure(t *testing.T) {
	t.Parallel()
	svg, err := Figure(aborted(), "v1.8.1-rc1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "v1.8.1-rc1 against heuristic-test: ABORTED", "match rate", "error rate"} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("the figure lacks %q", want)
		}
	}
	if bytes.Contains(svg, []byte("NaN")) {
		t.Error("the figure draws NaN")
	}
}

// A run whose controller was killed and that was resumed the next day shows both attempts with a break between them.
func TestFigureOfANight(t *testing.T) {
	t.Parallel()
	r := aborted()
	killed, resumed := r.Phases[len(r.Phases)-1], r.Phases[len(r.Phases)-1]
	killed.Decision, killed.EndTime = canary.Interrupted, killed.StartTime.Add(20*time.Hour)
	killed.Samples = []canary.Sample{{Time: killed.StartTime.Add(30 * time.Second)}}
	resumed.StartTime = killed.EndTime
	resumed.EndTime = resumed.StartTime.Add(time.Minute)
	resumed.Samples = nil
	r.Phases = append(r.Phases[:len(r.Phases)-1], killed, resumed)
	svg, err := Figure(r, "v1.8.1-rc1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"waits are cut short at //", "did not pass: INTERRUPTED, ABORTED", ">20<"} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("the figure lacks %q", want)
		}
	}
}
