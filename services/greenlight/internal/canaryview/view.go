// Package canaryview shows canary runs: live on a terminal, as lines in a pipe, and afterwards as a table and a figure.
package canaryview

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// View shows a run in progress. It never blocks the run: its own goroutine draws the events, and a slow terminal misses samples.
type View struct {
	out    io.Writer
	policy gate.Policy
	// width returns the width of the terminal in columns, and 0 in a pipe.
	width func() int

	queue chan canary.Event
	done  chan struct{}
	// newest is the last sample of the phase. It belongs to the goroutine of the run.
	newest *canary.Poll

	// The fields below belong to the drawing goroutine.

	// drawn is the number of lines of the panel that are on the terminal.
	drawn int
	last  *canary.Poll
	// printed is the time of the last line about a sample.
	printed time.Time
	// broken is set after a panic.
	broken bool
}

const (
	// maxQueue bounds the events that wait for a terminal. Further events are not shown.
	maxQueue = 1000
	// minPause is the shortest time between two lines about samples in a pipe.
	minPause = 10 * time.Second
)

// New shows a run that is judged by the policy: as a panel on the screen, or as lines on out if screen is nil. The caller
// must close the view.
func New(out io.Writer, screen *os.File, policy gate.Policy) *View {
	if screen == nil {
		return newView(out, policy, func() int { return 0 })
	}
	return newView(screen, policy, func() int {
		width, _, err := term.GetSize(int(screen.Fd()))
		if err != nil || width < 20 {
			return 80
		}
		return width
	})
}

// Conduct runs the remaining phases of a run, and shows them.
func Conduct(ctx context.Context, c console.Console, run *canary.Run, services *fleet.Services, from *preflight.Inspection) (*canary.Record, error) {
	metrics, err := canary.SourceOf(run.Plan)
	if err != nil {
		return nil, err
	}
	c.Say("run       %s, journal in %s", run.Record.ID, run.Dir)
	view := New(c.Out, c.Screen, run.Plan.Policy)
	defer view.Close()
	return run.Go(ctx, services, from, metrics, view.Observe)
}

func newView(out io.Writer, policy gate.Policy, width func() int) *View {
	v := &View{out: out, policy: policy, width: width, queue: make(chan canary.Event, maxQueue), done: make(chan struct{})}
	go v.run()
	return v
}

// Observe queues an event. It never blocks. It does not queue a sample behind other events: each event takes along the newest
// sample. Calls are not concurrent.
func (v *View) Observe(e canary.Event) {
	if e.Kind == canary.Polled {
		v.newest = e.Poll
		if len(v.queue) > 0 {
			return
		}
	}
	e.Poll = v.newest
	if e.Kind == canary.PhaseEnded {
		v.newest = nil
	}
	select {
	case v.queue <- e:
	default:
	}
}

// Close shows the queued events and ends the view. No event may follow.
func (v *View) Close() {
	close(v.queue)
	<-v.done
}

func (v *View) run() {
	defer close(v.done)
	for e := range v.queue {
		v.try(e)
	}
}

// try shows an event. A panic ends the view but not the run.
func (v *View) try(e canary.Event) {
	if v.broken {
		return
	}
	defer func() {
		if value := recover(); value != nil {
			v.broken = true
			_, _ = fmt.Fprintf(v.out, "the display failed; the canary continues: %v\n", value)
		}
	}()
	v.show(e)
}

// show writes one event. Write errors are ignored: the run matters more than the display.
func (v *View) show(e canary.Event) {
	var out bytes.Buffer
	width := v.width()
	if v.drawn > 0 {
		fmt.Fprintf(&out, "\r\x1b[%dA\x1b[J", v.drawn) // "\r" because an interrupt prints "^C" in the first columns
		v.drawn = 0
	}
	if e.Poll != nil {
		v.last = e.Poll
	}
	if line := v.line(e); line != "" && (e.Kind != canary.Polled || width == 0) {
		fmt.Fprintf(&out, "%s  %s\n", e.Time.UTC().Format("15:04:05Z"), text.Printable(line))
	}
	if width > 0 && v.last != nil && e.Kind != canary.PhaseEnded && e.Kind != canary.RolledBack && e.Kind != canary.Finished {
		panel := v.panel(e, width)
		v.drawn = strings.Count(panel, "\n")
		out.WriteString(panel)
	}
	if e.Kind == canary.PhaseEnded {
		v.last = nil
	}
	_, _ = v.out.Write(out.Bytes())
}

// line describes an event. It is empty for an event that needs no line.
func (v *View) line(e canary.Event) string {
	phase := fmt.Sprintf("phase %d of %d, %g %%", e.Phase+1, len(v.policy.Phases), e.Percent)
	switch e.Kind {
	case canary.Started:
		return "the canary started"
	case canary.Resumed:
		return "the canary resumed: " + e.Reason
	case canary.Counting:
		v.printed = e.Time
		who := "every executor has"
		if e.Reason != "" {
			who = e.Reason + " have"
		}
		return fmt.Sprintf("%s: %s confirmed it; observing for %s", phase, who, v.policy.PhaseDuration)
	case canary.Polled:
		pause := max(minPause, time.Duration(v.policy.PhaseDuration)/10)
		if e.Time.Sub(v.printed) < pause {
			return ""
		}
		v.printed = e.Time
		return fmt.Sprintf("%s: %s left; %s", phase, left(e.Poll), figures(e.Poll))
	case canary.Held:
		return fmt.Sprintf("%s: held after its time was up: %s", phase, e.Reason)
	case canary.PhaseRetried:
		return fmt.Sprintf("%s starts again: executor %s: %s", phase, e.Executor, e.Reason)
	case canary.PhaseEnded:
		text := fmt.Sprintf("%s: %s%s", phase, e.Decision, Because(e.Reason))
		if v.last != nil {
			text += "; " + figures(v.last)
		}
		return text
	case canary.RolledBack:
		return fmt.Sprintf("0 %% was read back from every executor, %.1f ms", e.TookMS)
	case canary.NotRolledBack:
		return "ROLLBACK FAILED, 0 % was not read back: " + e.Reason
	case canary.PhaseBegun, canary.Issued, canary.RollingBack, canary.Finished: // the next event, or the caller, reports more
	}
	return ""
}

func left(l *canary.Poll) string { return seconds(l.Left) }

func seconds(d gate.Duration) string {
	return gate.Duration(time.Duration(d).Round(time.Second)).String()
}

// figure formats the figure that a rule judged. A sample that lacks a source has no judged figures; then the known value
// is shown, if there is one.
func figure(r *gate.Result, known *float64) string {
	switch {
	case r.Value == nil && known != nil && r.Name == gate.PhaseP95:
		return gate.Millis.Format(*known)
	case r.Value == nil && known != nil:
		return gate.Ratio.Format(*known)
	}
	return r.Achieved()
}

// figures formats the figures of a sample in a line.
func figures(l *canary.Poll) string {
	line := text.Count(l.Requests, "request") + ", " + text.Count(l.Comparisons, "comparison")
	match, errors, coverage := l.Rates()
	known := map[string]*float64{gate.PhaseMatch: match, gate.PhaseErrors: errors, gate.PhaseP95: l.P95MS, gate.PhaseCoverage: coverage}
	for _, r := range l.Card.Results {
		line += fmt.Sprintf(", %s %s", r.Name, figure(&r, known[r.Name]))
	}
	line += unjudged(l, ", ") + fmt.Sprintf(": %s", l.Verdict)
	if l.Quality != nil {
		line += fmt.Sprintf("; %s %s", gate.LiveQuality, verdict(l.Quality))
	}
	return line
}

// unjudged returns before and the match rate, if the policy does not judge the match rate; otherwise it is empty.
func unjudged(l *canary.Poll, before string) string {
	match, _, _ := l.Rates()
	if match == nil || slices.ContainsFunc(l.Card.Results, func(r gate.Result) bool { return r.Name == gate.PhaseMatch }) {
		return ""
	}
	return fmt.Sprintf("%s%s %s (not binding)", before, gate.PhaseMatch, gate.Ratio.Format(*match))
}

const barWidth = 30

// panel formats the last sample for a terminal of the given width.
func (v *View) panel(e canary.Event, width int) string {
	l := v.last
	var out bytes.Buffer
	total := time.Duration(v.policy.PhaseDuration)
	done := barWidth
	if total > 0 {
		done = barWidth - int(barWidth*time.Duration(l.Left)/total)
	}
	fmt.Fprintf(&out, "phase %d of %d  %g %%  [%s%s] %s left", e.Phase+1, len(v.policy.Phases), l.Percent,
		strings.Repeat("=", done), strings.Repeat(" ", barWidth-done), left(l))
	if l.Left == 0 {
		fmt.Fprintf(&out, ", held for at most %s more", seconds(l.HoldLeft))
	}
	fmt.Fprintf(&out, "\n%s, %s", text.Count(l.Requests, "request"), text.Count(l.Comparisons, "comparison"))
	if l.Needed > 0 {
		fmt.Fprintf(&out, ", %d more needed", l.Needed)
	}
	out.WriteByte('\n')
	if err := l.Card.Table(&out); err != nil {
		return ""
	}
	if l.Quality != nil {
		fmt.Fprintf(&out, "%s %s\n", gate.LiveQuality, l.Quality.Words())
	}
	if line := unjudged(l, ""); line != "" {
		out.WriteString(line + "\n")
	}
	fmt.Fprintf(&out, "tests     e-value of mismatches %.3g, of errors %.3g; %g aborts\noutcomes ", l.MatchE, l.ErrorE, 1/v.policy.Alpha)
	for _, o := range shadow.Outcomes() {
		if n := l.Outcomes[o.String()]; n > 0 {
			fmt.Fprintf(&out, " %s %d", o, n)
		}
	}
	out.WriteByte('\n')
	return cut(text.Printable(out.String()), width)
}

// cut shortens the lines to less than the width. A line that wraps would take two lines to erase.
func cut(text string, width int) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if runes := []rune(strings.TrimSuffix(line, "\n")); len(runes) >= width {
			line = string(runes[:width-1]) + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}
