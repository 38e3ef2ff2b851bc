package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// byReason formats decisions: the model's, and the baseline's by reason in the order of the checks.
func byReason(decisions map[string]uint64) string {
	var baseline []string
	for _, r := range decide.Reasons() {
		if n := decisions[r.String()]; n > 0 {
			baseline = append(baseline, fmt.Sprintf("%s %d", r, n))
		}
	}
	line := fmt.Sprintf("model %d", decisions[byModel])
	if len(baseline) > 0 {
		line += ", baseline: " + strings.Join(baseline, ", ")
	}
	return line
}

// Read asks every executor for its gate. Each executor has either an answer or an error.
func Read(ctx context.Context, executors []fleet.Executor) ([]*executorv1.GetRolloutResponse, []error) {
	answers, errs := fleet.Each(executors, func(e fleet.Executor) (*executorv1.GetRolloutResponse, error) { return e.Rollout(ctx) })
	fleet.Rethrow(errs...)
	return answers, errs
}

// Status writes the gates that [Read] returned, and returns the errors of the executors that did not answer.
func Status(out io.Writer, executors []fleet.Executor, answers []*executorv1.GetRolloutResponse, errs []error) error {
	t := table.New("executor", "gate", "percent", "mode", "lease left", "changed in the hour", "decisions of this process")
	var lines []string
	for i, a := range answers {
		addr := executors[i].Addr
		if errs[i] != nil {
			t.Row(addr, "?", "?", "?", "?", "?", oneLine(errs[i]))
			continue
		}
		r, g := a.GetRollout(), a.GetGate()
		reading := readingOf(addr, a)
		left := "-"
		if at := r.GetLeaseExpireTime(); at != nil {
			left = max(0, time.Until(at.AsTime())).Round(100 * time.Millisecond).String()
		}
		t.Row(addr, stateOf(r, g), fmt.Sprintf("%v %%", reading.Percent), fleet.Mode(r.GetMode()), left,
			fmt.Sprintf("%d of %d, limit %d", reading.HourChanged, reading.HourRequests, reading.HourLimit), byReason(reading.Decisions))
		for _, l := range reading.Latches {
			lines = append(lines, fmt.Sprintf("latch     %s: %s, set by %s at %s: %s", addr, l.Name, l.By, l.Time.UTC().Format(time.RFC3339), l.Reason))
		}
		lines = append(lines, fmt.Sprintf("rollout   %s: %s", addr, fleet.DescribeRollout(r)))
	}
	if err := t.Text(out); err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// stateOf returns the state of a gate in a word or two.
func stateOf(r *executorv1.Rollout, g *executorv1.GateStatus) string {
	switch {
	case !g.GetAllowed():
		return "not allowed"
	case g.GetOpen():
		return "open"
	case len(g.GetLatches()) > 0:
		return "latched"
	case r.GetGate() == nil:
		return "not set"
	case r.GetAwaitingRenewal():
		return "restarted"
	case r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY:
		return "demoted"
	case r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF:
		return "lapsed"
	default:
		return "shut"
	}
}

// Lines writes what was done, one line per executor, and returns the errors.
func Lines(out io.Writer, done []Done) error {
	var failed error
	for _, d := range done {
		what, name := "executor", d.Addr
		if of, ok := strings.CutPrefix(name, "group "); ok {
			what, name = "group", of
		}
		if d.Err != nil {
			_, _ = fmt.Fprintf(out, "%-9s %s FAILED: %s\n", what, name, oneLine(d.Err))
			failed = errors.Join(failed, d.Err)
			continue
		}
		_, _ = fmt.Fprintf(out, "%-9s %s %s: %.1f ms\n", what, name, d.Text, float64(d.Took)/float64(time.Millisecond))
	}
	return failed
}

// View shows a run live: one line per event, and the decisions in one line, which is redrawn on a terminal, or written every
// ten seconds to a pipe.
type View struct {
	out     io.Writer
	screen  *os.File
	plan    *Plan
	drawn   bool
	printed time.Time
	first   map[string]map[string]uint64
}

// pipePause is the time between two lines about decisions in a pipe.
const pipePause = 10 * time.Second

// NewView returns a view of a run of the plan on the terminal, or on out if screen is nil.
func NewView(out io.Writer, screen *os.File, p *Plan) *View {
	return &View{out: out, screen: screen, plan: p, first: map[string]map[string]uint64{}}
}

// Observe shows an event.
func (v *View) Observe(e Event) {
	wipe := ""
	if v.drawn {
		wipe = "\r\x1b[K"
	}
	v.drawn = false
	if e.Kind != Counted {
		line := string(e.Kind)
		if e.Executor != "" {
			line += " " + e.Executor
		}
		if e.Revision > 0 {
			line += fmt.Sprintf(", revision %d", e.Revision)
		}
		if e.Decision != "" {
			line += " " + string(e.Decision)
		}
		if e.Reason != "" {
			line += ": " + e.Reason
		}
		v.write("%s%s  %s\n", wipe, e.Time.UTC().Format("15:04:05Z"), text.Printable(line))
		return
	}
	line := v.line(e)
	switch now := time.Now(); {
	case v.screen != nil:
		width, _, err := term.GetSize(int(v.screen.Fd()))
		if err != nil || width < 20 {
			width = 80
		}
		v.write("\r\x1b[K%.*s", width-1, line)
		v.drawn = true
	case now.Sub(v.printed) >= pipePause:
		v.printed = now
		v.write("%s  %s\n", now.UTC().Format("15:04:05Z"), line)
	}
}

// line summarizes the decisions since the start, over all executors.
func (v *View) line(e Event) string {
	sum, percent, p99 := map[string]uint64{}, 0.0, 0.0
	var changed, limit uint64
	for _, r := range e.Readings {
		if v.first[r.Instance] == nil {
			v.first[r.Instance] = r.Decisions
		}
		decisions, _ := between(v.first[r.Instance], r.Decisions)
		for reason, n := range decisions {
			sum[reason] += n
		}
		if r.ShadowP99MS != nil {
			p99 = max(p99, *r.ShadowP99MS)
		}
		percent, changed, limit = max(percent, r.Percent), changed+r.HourChanged, limit+r.HourLimit
	}
	line := fmt.Sprintf("%v %%  changed %d of %d in the hour; ", percent, changed, limit)
	if p99 > 0 {
		line += fmt.Sprintf("shadow p99 %.1f ms; ", p99)
	}
	return line + byReason(sum)
}

func (v *View) write(format string, args ...any) {
	out := v.out
	if v.screen != nil {
		out = v.screen
	}
	_, _ = fmt.Fprintf(out, format, args...) // the run matters more than the display
}

// Close ends the redrawn line.
func (v *View) Close() {
	if v.drawn {
		v.write("\n")
	}
}

// Table writes the decisions, one line per process, and the totals by reason.
func (r *Record) Table(out io.Writer) error {
	t := table.New("executor", "process", "requests", "by the model", "changed in the last hour", "latches")
	for _, p := range r.Processes {
		names := make([]string, 0, len(p.Latches))
		for _, l := range p.Latches {
			names = append(names, l.Name)
		}
		t.Row(p.Executor, fmt.Sprintf("%.8s", p.Instance), p.Requests, p.Decisions[byModel], fmt.Sprintf("%d of %d", p.HourChanged, p.HourRequests), strings.Join(names, ", "))
	}
	if err := t.Text(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "decisions  %s; %d requests\n", byReason(r.Decisions), r.Requests)
	return err
}
