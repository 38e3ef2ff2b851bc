package canary

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// maxSamples is how many looks a phase keeps. Beyond it every second one is left out, but for the newest.
const maxSamples = 400

// newRecord is a run of which nothing has happened.
func newRecord() *Record {
	return &Record{Phases: []Phase{}, Decision: Running}
}

// apply adds an event. The record of a run that is going on and that which is read back from its journal are the same.
func (r *Record) apply(e Event) {
	switch e.Kind {
	case Started:
		r.StartTime = e.Time
	case Resumed:
		if p := r.running(); p != nil {
			p.end(e, Interrupted, "its controller ended: "+e.Reason)
		}
		r.EndTime, r.Decision, r.Reason, r.Aborted, r.RolledBack, r.RollbackMS = time.Time{}, Running, "", false, false, 0
		r.Resumptions = append(r.Resumptions, e.Time)
	case PhaseBegun:
		r.Phases = append(r.Phases, newPhase(e))
	case Finished:
		r.EndTime, r.Decision, r.Reason = e.Time, e.Decision, e.Reason
		r.Aborted = e.Decision == Aborted || e.Decision == Stopped
	case RolledBack, NotRolledBack:
		r.RolledBack, r.RollbackMS = e.Kind == RolledBack, e.TookMS
	case Counting, Looked, BeginAnew, PhaseEnded:
		if p := r.running(); p != nil {
			p.apply(e)
		}
	case Held, RollingBack: // told, and in the phase's and the run's decision
	}
}

// running is the phase that has not ended; nil when there is none.
func (r *Record) running() *Phase {
	if n := len(r.Phases); n > 0 && r.Phases[n-1].Decision == Running {
		return &r.Phases[n-1]
	}
	return nil
}

// next is the phase of the policy that comes after those that passed.
func (r *Record) next() int {
	next := 0
	for _, p := range r.Phases {
		if p.Decision == Passed {
			next = p.Index + 1
		}
	}
	return next
}

func newPhase(e Event) Phase {
	outcomes := make(map[string]uint64)
	for _, o := range shadow.Outcomes() {
		outcomes[o.String()] = 0
	}
	return Phase{
		Index: e.Phase, Percent: e.Percent, StartTime: e.Time, Decision: Running, Outcomes: outcomes,
		Verdicts: []gate.Result{}, Restarted: []string{}, Samples: []Sample{},
	}
}

func (p *Phase) apply(e Event) {
	switch e.Kind {
	case Counting:
		p.StartTime = e.Time
	case Looked:
		if e.Look != nil && e.Look.Keep {
			p.look(e.Look)
		}
	case BeginAnew:
		p.Restarted = append(p.Restarted, e.Executor)
	case PhaseEnded:
		p.PSI, p.PSIReason = e.PSI, e.PSIReason
		p.end(e, e.Decision, e.Reason)
	default:
	}
}

func (p *Phase) end(e Event, d Decision, reason string) {
	p.EndTime, p.Decision, p.Reason = e.Time, d, reason
}

func (p *Phase) look(l *Look) {
	p.Requests, p.Outcomes, p.Sources, p.Verdicts, p.P95MS = l.Requests, l.Outcomes, l.Sources, l.Card.Results, l.P95MS
	p.MatchRate = rate(l.Matches, l.Comparisons)
	p.ErrorRate = rate(l.Errors, l.Errors+l.Comparisons)
	p.Coverage = rate(l.Comparisons, l.Comparisons+l.Errors+l.Unseen)
	if len(p.Samples) >= maxSamples {
		newest := p.Samples[len(p.Samples)-1]
		kept := p.Samples[:0]
		for i := 0; i < len(p.Samples)-1; i += 2 {
			kept = append(kept, p.Samples[i])
		}
		kept = append(kept, newest)
		p.Samples = kept
	}
	p.Samples = append(p.Samples, l.Sample)
}

func rate(k, n uint64) *float64 {
	if n == 0 {
		return nil
	}
	v := float64(k) / float64(n)
	return &v
}

// LeastSource returns where the requests of the run came from: what was planned, or less live if a phase has seen less.
func (r *Record) LeastSource(planned evidence.Source) evidence.Source {
	for _, p := range r.Phases {
		planned = p.Sources.Least(planned)
	}
	return planned
}

// judge says whether the run counts for a promotion.
func (r *Record) judge(source evidence.Source) {
	source = r.LeastSource(source)
	var against []string
	add := func(holds bool, format string, args ...any) {
		if holds {
			against = append(against, fmt.Sprintf(format, args...))
		}
	}
	add(r.DryRun, "it was a dry run")
	add(source != evidence.Live, "its requests were not live: %s", source)
	add(r.Decision != Passed, "it ended as %s", r.Decision)
	full := slices.ContainsFunc(r.Phases, func(p Phase) bool { return p.Percent == 100 && p.Decision == Passed })
	add(!full, "no phase of 100 %% passed")
	if laxer := r.Policy.Laxer(gate.DefaultPolicy()); len(laxer) > 0 {
		add(true, "its policy asks for less than the default: %s", strings.Join(laxer, ", "))
	}
	r.PromoteEligible, r.PromoteReason = len(against) == 0, strings.Join(against, "; ")
}
