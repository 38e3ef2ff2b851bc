package canary

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// beginning is one beginning of one phase.
type beginning struct {
	*Controller

	index   int
	percent float64
	tally   tally
	// early is what was counted before the phase began to count: it passes nothing, and aborts.
	early tally
	// answered is how many comparisons each executor had when the phase began.
	answered map[string]uint64
	// first is when the phase began for the first time, giveUp when it is given up; zero until something was counted.
	first, giveUp time.Time
	// confirmed is when the last executor had confirmed the share, counting when the first counts were taken; zero before.
	confirmed, counting time.Time
	// held is the reason that was told last, as [gist] has it; kept when a look was kept last.
	held string
	kept time.Time
	// last is the newest look.
	last *Look
	// strayed says that an executor reports another share than the one it confirmed.
	strayed bool
}

// ending is how a beginning of a phase ended.
type ending struct {
	decision Decision
	reason   string
	// anew says that the phase begins again.
	anew bool
}

func (b *beginning) event(k Kind) Event { return Event{Kind: k, Phase: b.index, Percent: b.percent} }

// run is the loop: it renews and looks until one of the two says that the phase ends.
func (b *beginning) run(ctx context.Context) ending {
	for _, s := range b.shares {
		s.set, s.err = false, nil
	}
	renew, look := time.Now(), time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ending{decision: Interrupted, reason: toldToStop}
		case <-timer.C:
		}
		var end *ending
		if now := time.Now(); !now.Before(renew) {
			errs := b.hold(ctx)
			renew = now.Add(time.Duration(b.policy.Lease) / renewals)
			if errors.Join(errs...) != nil {
				renew = now.Add(b.timeout) // one that comes back is to keep its lease
			}
			if end = b.endFor(errs); end == nil && b.confirm() {
				look = b.confirmed.Add(settle)
			}
		}
		if now := time.Now(); end == nil && !now.Before(look) {
			look = now.Add(b.opts.Interval)
			end = b.look(ctx)
			if b.strayed { // somebody has taken it: ask now, and not when the lease is due
				renew = now
			}
		}
		switch {
		case b.fault != nil:
			return ending{decision: Aborted, reason: b.fault.Error()}
		case ctx.Err() != nil: // what failed, failed for that
			continue
		case end != nil:
			return *end
		}
		timer.Reset(time.Until(earlier(renew, look)))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// limit is when the phase is given up. A share that cannot be set at all is not tried for ever.
func (b *beginning) limit() time.Time {
	if b.giveUp.IsZero() {
		return b.first.Add(max(time.Duration(b.policy.HoldLimit), time.Duration(b.policy.Lease)))
	}
	return b.giveUp
}

// hold sets the share on every executor, or renews it.
func (b *beginning) hold(ctx context.Context) []error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	what := fmt.Sprintf("phase %d of %d", b.index+1, len(b.policy.Phases))
	_, errs := each(b.shares, func(s *share) (struct{}, error) {
		if s.err = s.hold(ctx, b.percent, what); s.err == nil {
			s.set = true
		}
		return struct{}{}, s.err
	})
	rethrow(errs)
	return errs
}

// endFor is how the phase ends for errors of executors; nil when it does not.
func (b *beginning) endFor(errs []error) *ending {
	var taken *takenError
	if err := errors.Join(errs...); errors.As(err, &taken) {
		return &ending{decision: Aborted, reason: taken.Error()}
	}
	var end *ending
	for _, err := range errs {
		if anew := (*anewError)(nil); errors.As(err, &anew) {
			e := b.event(BeginAnew)
			e.Executor, e.Reason = anew.executor, anew.why
			b.emit(e)
			end = &ending{decision: Interrupted, reason: anew.Error(), anew: true}
		}
	}
	return end
}

// confirm notes when all executors have confirmed the share, and says whether that is now.
func (b *beginning) confirm() bool {
	if !b.confirmed.IsZero() {
		return false
	}
	for _, s := range b.shares {
		if !s.set {
			return false
		}
	}
	b.confirmed = time.Now()
	return true
}

// seen is what one look has read.
type seen struct {
	reports, counters []Counters
	// missing says what could not be read.
	missing []string
	active  []evidence.Model
}

// read asks for everything at once.
func (b *beginning) read(ctx context.Context) seen {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	var s seen
	var reportsErr, countersErr, modelsErr error
	jobs := []func(){func() { s.reports, reportsErr = b.reports.Read(ctx) }}
	if b.opts.Metrics != nil {
		jobs = append(jobs, func() { s.counters, countersErr = b.opts.Metrics.Read(ctx) })
	}
	if b.opts.ActiveModels != nil {
		jobs = append(jobs, func() { s.active, modelsErr = b.opts.ActiveModels(ctx) })
	}
	_, errs := each(jobs, func(job func()) (struct{}, error) { job(); return struct{}{}, nil })
	rethrow(errs)
	if b.opts.Metrics == nil {
		s.counters = s.reports
	}
	for _, share := range b.shares {
		if share.err != nil {
			s.missing = append(s.missing, "share not held: "+oneLine(share.err))
		}
	}
	if !errors.Is(modelsErr, errContradicts) {
		modelsErr = nil // the shadows show that an ml-engine does not answer
	}
	for _, err := range []error{reportsErr, countersErr, modelsErr} {
		if err != nil {
			s.missing = append(s.missing, oneLine(err))
		}
	}
	if why := b.strangers(s); why != "" {
		s.missing = append(s.missing, why)
	}
	b.strayed = !b.confirmed.IsZero() && slices.ContainsFunc(s.reports, func(c Counters) bool { return c.Percent != b.percent })
	for _, c := range s.counters {
		if c.Percent != b.percent {
			s.missing = append(s.missing, fmt.Sprintf("executor %s says that it samples %g %%, not %g %%", c.Executor, c.Percent, b.percent))
		}
	}
	return s
}

// strangers returns which figures of a Prometheus are of a process that is not under control.
func (b *beginning) strangers(s seen) string {
	if b.opts.Metrics == nil || len(s.reports) < len(b.shares) {
		return ""
	}
	for _, c := range s.counters {
		if c.Instance != "" && !slices.ContainsFunc(s.reports, func(r Counters) bool { return r.Instance == c.Instance }) {
			return fmt.Sprintf("the figures of %s are of another process than those under control", c.Executor)
		}
	}
	return ""
}

// look reads, judges and tells.
func (b *beginning) look(ctx context.Context) *ending {
	s := b.read(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err := b.sameProcesses(s.reports); err != nil {
		return b.endFor([]error{err})
	}
	if !b.counting.IsZero() {
		if err := b.tally.add(s.counters); err != nil {
			if end := b.endFor([]error{err}); end != nil {
				return end
			}
			s.missing = append(s.missing, oneLine(err))
		}
		if name := b.tally.absent(s.counters); name != "" && len(s.missing) == 0 {
			s.missing = append(s.missing, fmt.Sprintf("executor %s is not among the figures any more", name))
		}
	} else if why := b.begin(s); why != "" {
		s.missing = append(s.missing, why)
	}
	total := b.tally.sum(b.percent)
	known := total
	if b.counting.IsZero() {
		b.early.join(s.counters)
		known = b.early.sum(b.percent)
	}
	total.counts.Missing = strings.Join(append(s.missing, total.wrong...), "; ")
	l := b.judge(total)
	end := b.ending(s, l, known.counts)
	if end != nil && b.counting.IsZero() { // the figures that it ends for
		known.counts.Missing = total.counts.Missing
		l = b.judge(known)
	}
	l.Keep = end != nil || time.Since(b.kept) >= time.Duration(b.policy.PhaseDuration)/keptLooks
	b.tell(l)
	if gist := gist(l.Reason); end == nil && !b.counting.IsZero() && l.Left == 0 && gist != b.held {
		b.held = gist
		e := b.event(Held)
		e.Reason = l.Reason
		b.emit(e)
	}
	return end
}

// tell emits a look.
func (b *beginning) tell(l *Look) {
	if l.Keep {
		b.kept = time.Now()
	}
	e := b.event(Looked)
	e.Look = l
	b.last = l
	b.emit(e)
}

// keepLast keeps the newest look, so that a phase which ends between two looks that are kept has its figures.
func (b *beginning) keepLast() {
	if b.last != nil && !b.last.Keep {
		last := *b.last // the view may still draw it
		last.Keep = true
		b.tell(&last)
	}
}

// gist is a reason without its figures, which change with every look.
func gist(reason string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789.,", r) {
			return -1
		}
		return r
	}, reason)
}

// sameProcesses is an *anewError when an executor reports as another process than that which has taken the share.
func (b *beginning) sameProcesses(reports []Counters) error {
	for _, s := range b.shares {
		for _, c := range reports {
			if c.Executor == s.Addr && s.process != "" && c.Process != s.process {
				s.process = "" // the next change finds out which
				return &anewError{s.Addr, restarted}
			}
		}
	}
	return nil
}

// begin takes the first counts, or says why not yet.
func (b *beginning) begin(s seen) string {
	if b.confirmed.IsZero() {
		if len(s.missing) > 0 {
			return ""
		}
		return "the share is not set yet"
	}
	if len(s.missing) > 0 {
		return ""
	}
	for _, c := range s.counters {
		if c.Time.Before(b.confirmed.Add(settle)) {
			return fmt.Sprintf("the figures of %s are from before the share was set", c.Executor)
		}
	}
	b.tally.begin(s.counters)
	b.answered = make(map[string]uint64)
	for _, c := range s.reports {
		b.answered[c.Executor] = c.compared()
	}
	b.counting = time.Now()
	if b.giveUp.IsZero() {
		b.giveUp = b.counting.Add(time.Duration(b.policy.PhaseDuration) + time.Duration(b.policy.HoldLimit))
	}
	b.emit(b.event(Counting))
	return ""
}

// judge is the counts as a look.
func (b *beginning) judge(s sum) *Look {
	l := &Look{Outcomes: s.outcomes, Sources: s.sources, Card: b.policy.JudgePhase(s.counts)}
	test := b.policy.Test(s.counts)
	l.Sample = Sample{
		Time: time.Now().UTC(), Percent: b.percent, Requests: s.requests, Comparisons: s.counts.Comparisons(), Matches: s.counts.Matches,
		Errors: s.counts.Errors, Unseen: s.counts.Unseen, MatchE: test.Match, ErrorE: test.Errors, Verdict: l.Card.Verdict(), Reason: s.counts.Missing,
	}
	if l.Reason == "" {
		l.Reason = why(l.Card)
	}
	if p := s.counts.P95MS; s.counts.P95Missing == "" && !math.IsNaN(p) {
		l.P95MS = &p
	}
	if b.counting.IsZero() {
		l.Left = b.policy.PhaseDuration
	} else {
		l.Left = gate.Duration(max(0, time.Until(b.counting.Add(time.Duration(b.policy.PhaseDuration)))))
	}
	l.HoldLeft = gate.Duration(max(0, time.Until(b.limit())))
	if n := l.Comparisons; n < b.policy.MinComparisons {
		l.Needed = b.policy.MinComparisons - n
	}
	return l
}

// why is the reasons of a scorecard, in a line.
func why(card gate.Scorecard) string {
	var reasons []string
	for _, r := range card.Results {
		if text := r.Name + ": " + r.Reason; r.Reason != "" {
			reasons = append(reasons, text)
		}
	}
	return strings.Join(reasons, "; ")
}

// ending is how the phase ends after a look; nil when it goes on.
//
// What is known is enough to abort for, whatever is missing beside it.
func (b *beginning) ending(s seen, l *Look, known gate.PhaseCounts) *ending {
	if reason := b.changed(s); reason != "" {
		return &ending{decision: Aborted, reason: reason}
	}
	if reasons := b.policy.Aborts(known); len(reasons) > 0 {
		return &ending{decision: Aborted, reason: strings.Join(reasons, "; ")}
	}
	switch {
	case !b.counting.IsZero() && l.Left == 0 && l.Needed == 0 && l.Verdict.OK():
		return &ending{decision: Passed}
	case l.HoldLeft == 0 && b.counting.IsZero():
		return &ending{decision: Stopped, reason: "the phase could not be begun: " + l.Reason}
	case l.HoldLeft == 0:
		return &ending{decision: Stopped, reason: fmt.Sprintf("held for as long as it may be, %s: %s", b.policy.HoldLimit, l.Reason)}
	}
	return nil
}

// changed says which model or baseline is not the one that was confirmed; empty when all are.
func (b *beginning) changed(s seen) string {
	for _, m := range s.active {
		if m.Digest != b.opts.Model.Digest {
			return fmt.Sprintf("an ml-engine serves %s now, and the canary is of %s", named(m), named(b.opts.Model))
		}
	}
	for _, c := range s.reports {
		if c.Baseline.Digest != b.opts.Baseline.Digest {
			return fmt.Sprintf("executor %s decides by %s now, and the canary is beside %s", c.Executor, named(c.Baseline), named(b.opts.Baseline))
		}
		// Before the first comparison it is the model that answered before the phase.
		if !b.counting.IsZero() && c.Model.Digest != "" && c.Model.Digest != b.opts.Model.Digest && c.compared() > b.answered[c.Executor] {
			return fmt.Sprintf("executor %s compares %s now, and the canary is of %s", c.Executor, named(c.Model), named(b.opts.Model))
		}
	}
	return ""
}

func named(m evidence.Model) string { return fmt.Sprintf("%s (%.12s)", m.Version, m.Digest) }

// psi asks for the drift, which may take a while: the leases are renewed before.
func (b *beginning) psi(ctx context.Context) (value *float64, reason string) {
	if b.opts.PSI == nil {
		return nil, "no ml-engine was named"
	}
	b.hold(ctx) // what it finds, the next one finds
	ctx, cancel := context.WithTimeout(ctx, 2*b.timeout)
	defer cancel()
	v, err := b.opts.PSI(ctx)
	if err != nil {
		return nil, oneLine(err)
	}
	return &v, ""
}
