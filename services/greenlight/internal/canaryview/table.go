package canaryview

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// phases returns the table of the phases.
func phases(r *canary.Record) *table.Table {
	t := table.New("phase", "share", "time", "requests", "comparisons", "match rate", "error rate", "p95", "coverage", "PSI", "quality", "decision", "reason")
	for i := range r.Phases {
		t.Row(cells(r, &r.Phases[i])...)
	}
	return t
}

// Status writes the facts and the phases of a run, as recorded in its journal. running is true if a controller on this machine
// runs it now.
func Status(out io.Writer, r *canary.Record, model string, running bool) error {
	pairs := append([][2]string{{"model", model}}, facts(r)...)
	for i := range pairs {
		if pairs[i][0] == "decision" && r.Decision == canary.Running {
			pairs[i][1] = "RUNNING"
			if !running {
				pairs[i][1] = "INTERRUPTED: no controller runs it; resume it with greenlight canary start --resume"
			}
		}
	}
	if err := table.Pairs(out, pairs); err != nil {
		return err
	}
	return Table(out, r)
}

// Table writes a line per phase.
func Table(out io.Writer, r *canary.Record) error { return phases(r).Text(out) }

// cells returns the row of a phase.
func cells(r *canary.Record, p *canary.Phase) []any {
	psi := "n/a"
	if p.PSI != nil {
		psi = fmt.Sprintf("%.3f", *p.PSI)
	}
	lasted := "-"
	if !p.EndTime.IsZero() {
		lasted = p.EndTime.Sub(p.StartTime).Round(100 * time.Millisecond).String()
	}
	return []any{
		fmt.Sprintf("%d of %d", p.Index+1, len(r.Policy.Phases)), fmt.Sprintf("%g %%", p.Percent), lasted,
		p.Requests, fleet.Counts{Outcomes: p.Outcomes}.Compared(), achieved(p, gate.PhaseMatch, p.MatchRate), achieved(p, gate.PhaseErrors, p.ErrorRate),
		achieved(p, gate.PhaseP95, p.P95MS), achieved(p, gate.PhaseCoverage, p.Coverage), psi, verdict(p.Quality), p.Decision, p.Reason,
	}
}

// verdict returns the verdict on live quality, with the days that it still needs.
func verdict(q *quality.Summary) string {
	switch {
	case q == nil:
		return "-"
	case q.Verdict == outcome.Inconclusive:
		return string(q.Verdict) + ", " + q.Needs()
	}
	return string(q.Verdict)
}

// achieved returns what the last sample of the phase measured for the target.
func achieved(p *canary.Phase, name string, known *float64) string {
	r := gate.Result{Name: name}
	for _, v := range p.Verdicts {
		if v.Name == name {
			r = v
		}
	}
	return figure(&r, known)
}

// Markdown returns the run as a document: its title, its facts, and its phases.
func Markdown(r *canary.Record, model string) []byte {
	var out bytes.Buffer
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&out, format+"\n", args...) }
	line("# Canary: %s\n", escape(title(r, model)))
	for _, f := range facts(r) {
		line("- %s: %s", f[0], escape(f[1]))
	}
	line("")
	_ = phases(r).Markdown(&out) // a bytes.Buffer does not fail
	return out.Bytes()
}

// escape escapes a text for one line of a Markdown document.
func escape(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

// facts returns the facts of a run, as names and values.
func facts(r *canary.Record) [][2]string {
	all := [][2]string{
		{"run", r.ID},
		{"decision", string(r.Decision) + Because(r.Reason)},
		{"started", r.StartTime.UTC().Format(time.RFC3339)},
	}
	add := func(name, format string, args ...any) {
		all = append(all, [2]string{name, fmt.Sprintf(format, args...)})
	}
	if !r.EndTime.IsZero() {
		add("ended", "%s, after %s", r.EndTime.UTC().Format(time.RFC3339), r.EndTime.Sub(r.StartTime).Round(time.Second))
	}
	if f := r.Fleet; f != nil {
		add("fleet", "group %s, %s when planned; a phase needs %g %% of those present at its start", f.Group, text.Count(len(r.Executors), "executor"), 100*f.MinFleet)
	} else {
		add("executors", "%s; counts from %s", strings.Join(r.Executors, ", "), r.Metrics)
	}
	add("baseline", "%s, digest %.12s", r.BaselineVersion, r.BaselineDigest)
	if r.Policy.Improves() {
		add("policy", "%s: the match rate is not binding; a promotion needs live quality", r.Policy.Kind)
	}
	if n := len(r.Phases); n > 0 && r.Phases[n-1].Quality != nil {
		add("live quality", "%s", r.Phases[n-1].Quality.Words())
	}
	for _, t := range r.Resumptions {
		add("resumed", "%s", t.UTC().Format(time.RFC3339))
	}
	if r.RolledBack {
		add("0 %", "read back from every executor in %.1f ms", r.RollbackMS)
	} else if !r.EndTime.IsZero() {
		add("0 %", "FAILED: not read back from every executor")
	}
	switch {
	case r.DryRun:
		add("confirmation", "none: a dry run")
	case r.Confirmation != "":
		add("confirmation", "%s", r.Confirmation)
	}
	if r.PromoteEligible {
		add("promotion", "eligible")
	} else if r.PromoteReason != "" {
		add("promotion", "not eligible: %s", r.PromoteReason)
	}
	return all
}

// Because returns a reason as the end of a line; empty without one.
func Because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
