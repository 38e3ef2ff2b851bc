package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Screen writes the status for people.
func (s *Status) Screen(w io.Writer) error {
	var out strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&out, "%-9s "+format+"\n", append([]any{what}, args...)...)
	}
	for _, e := range s.Engines {
		if e.Error != "" {
			line("engine", "%s does not answer: %s", e.Address, e.Error)
			continue
		}
		if e.ModelServer != "" {
			line("engine", "%s is a model server of the Open Inference Protocol, %s", e.Address, e.ModelServer)
		} else {
			line("engine", "%s serves %s since %s", e.Address, named(e.Model), s.ago(*e.Since))
		}
		line("drift", "%s", e.Drift.text())
	}
	for _, e := range s.Executors {
		if e.Error != "" {
			line("executor", "%s does not answer: %s", e.Address, e.Error)
		} else {
			line("executor", "%s decides by %s, %s since %s", e.Address, named(e.Baseline), text.Count(e.Requests, "request"), s.ago(*e.Since))
			line("shadow", "%s", shadowText(e.Shadow, e.Quality))
			for _, c := range e.Challengers {
				line("challenger", "%s", c.text())
			}
		}
		line("rollout", "%s", s.rollout(e.Rollout))
		if g := e.Rollout.Gate; g != nil {
			line("decides", "%s", g.text())
		}
	}
	v := s.Evidence
	switch {
	case v.Error != "":
		line("evidence", "%s cannot be read: %s", v.Folder, v.Error)
	case v.Holds:
		line("evidence", "%s holds: %s, head %s", v.Folder, text.Count(v.Files, "file"), v.Head)
	default:
		line("evidence", "%s DOES NOT VERIFY: %s", v.Folder, v.Problem)
	}
	if s.Run != nil && !s.Run.ended() {
		line("canary", "%s", s.running(s.Run))
	}
	held := s.heldElsewhere()
	for _, text := range held {
		line("canary", "%s", text)
	}
	// The result of the last canary is shown below the current run.
	if v.Error == "" && (v.Canary != nil || len(held) == 0 && (s.Run == nil || s.Run.ended())) {
		line("canary", "%s", s.canary(v.Canary))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// running describes a run that is in progress or can be resumed.
func (s *Status) running(r *Run) string {
	if r.Error != "" {
		return fmt.Sprintf("the journal of run %s in %s cannot be read: %s", r.ID, s.state, r.Error)
	}
	text := fmt.Sprintf("%s run %s", r.Decision, r.ID)
	if r.DryRun {
		text += " (dry run)"
	}
	text += fmt.Sprintf(", %s, ", named(r.Model))
	if r.Phase == 0 {
		text += "before its first phase"
	} else {
		text += fmt.Sprintf("phase %d of %d, %g %%", r.Phase, r.Phases, r.Percent)
	}
	text += ", since " + s.ago(r.Since)
	if held := s.held(r.ID); held != "" {
		text += ": holds " + held
	} else {
		text += ": holds no executor of these"
	}
	if !r.Controlled {
		text += "; its controller no longer runs here: greenlight canary start --resume resumes it"
	}
	return text
}

// held returns the executors leased to a holder, with the remaining time; empty if there are none.
func (s *Status) held(holder string) string {
	var all []string
	for _, e := range s.Executors {
		if r := e.Rollout; r.LeaseLeftS != nil && r.Holder == holder {
			all = append(all, fmt.Sprintf("%s at %g %% for %.1f s more", e.Address, r.Percent, *r.LeaseLeftS))
		}
	}
	return strings.Join(all, ", ")
}

// heldElsewhere describes holders of executors that have no journal here.
func (s *Status) heldElsewhere() []string {
	var texts, seen []string
	for _, e := range s.Executors {
		holder := e.Rollout.Holder
		if e.Rollout.LeaseLeftS == nil || e.Rollout.Mode == "GATED" || s.Run != nil && holder == s.Run.ID || slices.Contains(seen, holder) {
			continue
		}
		seen = append(seen, holder)
		texts = append(texts, fmt.Sprintf("%s holds %s; it has no journal in %s: it runs on another machine, or with another --state", holder, s.held(holder), s.state))
	}
	return texts
}

func (s *Status) canary(c *Canary) string {
	switch {
	case c == nil:
		return "none yet"
	case c.Error != "":
		return fmt.Sprintf("%s cannot be read: %s", c.File, c.Error)
	}
	text := fmt.Sprintf("%s %s (%s), %s, begun %s", c.Decision, c.File, c.Source, named(c.Model), s.ago(c.StartTime))
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

func (s *Status) rollout(r Rollout) string {
	if r.Error != "" {
		return "cannot be asked: " + r.Error
	}
	text := fmt.Sprintf("%v %%, %s", r.Percent, r.Mode)
	if r.LeaseLeftS != nil {
		text += fmt.Sprintf(", held by %s for %.1f s more", r.Holder, *r.LeaseLeftS)
	}
	text += ", set by " + r.SetBy
	if r.SetFrom != "" {
		text += " from " + r.SetFrom
	}
	if r.SetTime != nil {
		text += " " + s.ago(*r.SetTime)
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// text describes who decides behind a gate.
func (g *Gate) text() string {
	who := "the baseline, because the gate is shut"
	switch {
	case g.Open:
		who = "the model, behind an open gate"
	case len(g.Latches) > 0:
		who += ": " + strings.Join(g.Latches, "; ")
	}
	return fmt.Sprintf("%s; decisions since start: %s; changed %d of %s in the last hour, at most %d", who, g.Decisions, g.HourChanged,
		text.Count(g.HourRequests, "request"), g.HourLimit)
}

func (d *Drift) text() string {
	switch {
	case d.Error != "":
		return "cannot be asked: " + d.Error
	case d.PSI == nil:
		return "no PSI: " + d.Reason
	}
	noise := "noise not known"
	if d.Q99 != nil {
		noise = fmt.Sprintf("null 99 %% %.3f", *d.Q99)
	}
	line := fmt.Sprintf("overall PSI %.3f (%s) %s", *d.PSI, noise, d.Verdict)
	if d.Worst != "" {
		line += fmt.Sprintf(", worst %s %.3f", d.Worst, d.WorstPSI)
	}
	line += fmt.Sprintf(", %s of %s", text.Count(d.Rows, "row"), text.Count(d.Days, "day"))
	if d.Reason != "" {
		line += ": " + d.Reason
	}
	return line
}

func (c Challenger) text() string {
	line := c.Name + ": " + shadowText(c.Model, c.Quality)
	n := c.Noise
	switch {
	case n == nil:
		return line
	case n.MismatchRate == nil:
		return line + "; A/A test: no pairs yet"
	}
	return line + fmt.Sprintf("; A/A test: noise floor %s (%s to %s) of %s", percent(n.MismatchRate), percent(n.MismatchLow), percent(n.MismatchHigh), text.Count(n.Comparisons, "pair"))
}

func shadowText(model *evidence.Model, q *Quality) string {
	if model == nil {
		return "no model has answered yet; breaker " + q.breaker()
	}
	match := "no comparisons"
	if q.MatchRate != nil {
		match = "match rate " + percent(q.MatchRate)
		if q.MatchLow != nil && q.MatchHigh != nil {
			match += fmt.Sprintf(" (%s to %s)", percent(q.MatchLow), percent(q.MatchHigh))
		}
	}
	if q.MatchTolerance != gate.MatchTolerance {
		match += fmt.Sprintf(" within %g", q.MatchTolerance)
	}
	name := named(model)
	if oip.Unpinned(model.Digest) {
		name += " of a model server"
	}
	return fmt.Sprintf("%s: %s of %d in %s, %scoverage %s, error rate %s, p95 %s, breaker %s", name, match, q.Comparisons,
		gate.Duration(q.WindowS*float64(time.Second)), q.decisions(), percent(q.Coverage), percent(q.ErrorRate), figure(q.P95MS, gate.Millis), q.breaker())
}

// decisions describes the agreement of decisions; it is empty without a threshold.
func (q *Quality) decisions() string {
	if q.DecisionThreshold == nil {
		return ""
	}
	return fmt.Sprintf("same decision at %g in %s (kappa %s), ", *q.DecisionThreshold, percent(q.DecisionAgreement), figure(q.Kappa, gate.Score))
}

func (q *Quality) breaker() string {
	if q.Blind {
		return q.Breaker + " (too few requests to judge)"
	}
	return q.Breaker
}

func named(m *evidence.Model) string {
	if m == nil {
		return "no model"
	}
	return m.String()
}

func percent(v *float64) string { return figure(v, gate.Ratio) }

func figure(v *float64, u gate.Unit) string {
	if v == nil {
		return "-"
	}
	return u.Format(*v)
}

// ago formats a time and how long ago it was: to the second below an hour, to the minute above.
func (s *Status) ago(t time.Time) string {
	past := s.Time.Sub(t)
	round := time.Second
	if past.Abs() >= time.Hour {
		round = time.Minute
	}
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format("2006-01-02T15:04:05Z"), gate.Duration(past.Round(round)))
}
