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

// maxSamples bounds the samples of a phase. If there are more, every second one is dropped, except for the newest.
const maxSamples = 400

// apply adds an event. Replaying the journal of a run gives the same record as the run itself.
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
	case Counting, Polled, PhaseRetried, PhaseEnded:
		if p := r.running(); p != nil {
			p.apply(e)
		}
	case Issued:
		if r.Fleet != nil {
			r.Fleet.Revision = max(r.Fleet.Revision, e.Revision)
		}
	case Held, RollingBack: // the decisions of the phase and the run have the same information
	}
}

// running returns the phase that has not ended; nil if there is none.
func (r *Record) running() *Phase {
	if n := len(r.Phases); n > 0 && r.Phases[n-1].Decision == Running {
		return &r.Phases[n-1]
	}
	return nil
}

// next returns the index of the first phase that has not passed.
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
	case Polled:
		if e.Poll != nil && e.Poll.Keep {
			p.sample(e.Poll)
		}
	case PhaseRetried:
		p.Restarted = append(p.Restarted, e.Executor)
	case PhaseEnded:
		p.PSI, p.PSIReason, p.Fleet = e.PSI, e.PSIReason, e.Fleet
		p.end(e, e.Decision, e.Reason)
	default:
	}
}

func (p *Phase) end(e Event, d Decision, reason string) {
	p.EndTime, p.Decision, p.Reason = e.Time, d, reason
}

func (p *Phase) sample(l *Poll) {
	p.Requests, p.Outcomes, p.Sources, p.Verdicts, p.P95MS = l.Requests, l.Outcomes, l.Sources, l.Card.Results, l.P95MS
	p.Latency = l.Latency
	p.MatchRate, p.ErrorRate, p.Coverage = l.Rates()
	p.Quality = l.Quality
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

// LeastSource returns the source of the run's requests: the planned one, or a less live one if a phase had such requests.
func (r *Record) LeastSource(planned evidence.Source) evidence.Source {
	for _, p := range r.Phases {
		planned = p.Sources.Least(planned)
	}
	return planned
}

// Eligible reports whether a run with requests from the source counts for a promotion. If it does not, reason is why.
func (r Record) Eligible(source evidence.Source) (eligible bool, reason string) {
	r.judge(source)
	return r.PromoteEligible, r.PromoteReason
}

// judge decides whether the run counts for a promotion.
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
	standard := gate.DefaultPolicy()
	standard.Kind = r.Policy.Kind // a promotion judges the live quality separately
	if laxer := r.Policy.Laxer(standard); len(laxer) > 0 {
		add(true, "its policy is laxer than the default: %s", strings.Join(laxer, ", "))
	}
	r.PromoteEligible, r.PromoteReason = len(against) == 0, strings.Join(against, "; ")
}
