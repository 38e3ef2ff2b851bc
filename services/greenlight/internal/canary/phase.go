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
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// attempt is one try at a phase. A phase is retried after an executor restart.
type attempt struct {
	*Controller

	index   int
	percent float64
	counted fleet.Span
	// early has the counts from before counting began. They can abort the phase, but not pass it.
	early fleet.Span
	// answered is how many comparisons each process had when counting began.
	answered map[string]uint64
	// first is the start of the first attempt. giveUp is when the phase is stopped; zero until counting has begun.
	first, giveUp time.Time
	// confirmed is when the last executor confirmed the share, counting when the first counts were read; zero before.
	confirmed, counting time.Time
	// held is the last reason of a [Held] event, without its figures; kept is the time of the last poll that was kept.
	held string
	kept time.Time
	// last is the newest poll.
	last *Poll
	// strayed reports whether an executor reports a different share from the one that it confirmed.
	strayed bool
}

// ending is how an attempt ended.
type ending struct {
	decision Decision
	reason   string
	// retry reports whether the phase starts again.
	retry bool
}

func (a *attempt) event(k Kind) Event { return Event{Kind: k, Phase: a.index, Percent: a.percent} }

// run renews the leases and polls the counts until one of the two ends the phase.
func (a *attempt) run(ctx context.Context) ending {
	a.hold.begin()
	renew, poll := time.Now(), time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ending{decision: Interrupted, reason: stopRequested}
		case <-timer.C:
		}
		var end *ending
		if now := time.Now(); !now.Before(renew) {
			errs := a.renew(ctx)
			renew = now.Add(time.Duration(a.policy.Lease) / time.Duration(a.hold.renewals()))
			if errors.Join(errs...) != nil {
				renew = now.Add(a.timeout) // an executor that recovers must keep its lease
			}
			if end = a.endFor(errs); end == nil && a.confirm() {
				poll = a.confirmed.Add(settle)
			}
		}
		if now := time.Now(); end == nil && !now.Before(poll) {
			poll = now.Add(a.opts.Interval)
			end = a.poll(ctx)
			if a.strayed { // somebody has changed the rollout: find out now
				renew = now
			}
		}
		switch {
		case a.fault != nil:
			return ending{decision: Aborted, reason: a.fault.Error()}
		case ctx.Err() != nil: // it causes the errors
			continue
		case end != nil:
			return *end
		}
		timer.Reset(time.Until(earlier(renew, poll)))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// limit is when the phase is stopped. A share that cannot be set at all is not retried forever.
func (a *attempt) limit() time.Time {
	if a.giveUp.IsZero() {
		return a.first.Add(max(time.Duration(a.policy.HoldLimit), time.Duration(a.policy.Lease)))
	}
	return a.giveUp
}

// renew sets the share, or renews it.
func (a *attempt) renew(ctx context.Context) []error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return a.hold.renew(ctx, a.percent, fmt.Sprintf("phase %d of %d", a.index+1, len(a.policy.Phases)))
}

// endFor returns how the phase ends after errors of executors; nil if it continues.
func (a *attempt) endFor(errs []error) *ending {
	var taken *takenError
	if err := errors.Join(errs...); errors.As(err, &taken) {
		return &ending{decision: Aborted, reason: taken.Error()}
	}
	var end *ending
	for _, err := range errs {
		if restart := (*fleet.RestartError)(nil); errors.As(err, &restart) {
			err = &retryError{restart.Executor, restart.Reason}
		}
		if retry := (*retryError)(nil); errors.As(err, &retry) {
			e := a.event(PhaseRetried)
			e.Executor, e.Reason = retry.executor, retry.reason
			a.emit(e)
			end = &ending{decision: Interrupted, reason: retry.Error(), retry: true}
		}
	}
	return end
}

// confirm records when all executors have confirmed the share, and reports whether they did just now.
func (a *attempt) confirm() bool {
	if !a.confirmed.IsZero() || !a.hold.confirmed() {
		return false
	}
	a.confirmed = time.Now()
	return true
}

// reading is the result of one poll.
type reading struct {
	reports, counters []fleet.Counters
	// missing names what could not be read.
	missing []string
	active  []evidence.Model
	// quality is the verdict on live quality; nil without a plan.
	quality *quality.Summary
}

// read reads all sources concurrently.
func (a *attempt) read(ctx context.Context) reading {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var s reading
	var reportsErr, countersErr, modelsErr error
	jobs := []func(){func() { s.reports, reportsErr = a.reports.Read(ctx) }}
	if a.opts.Metrics != nil {
		jobs = append(jobs, func() { s.counters, countersErr = a.opts.Metrics.Read(ctx) })
	}
	if a.opts.ActiveModels != nil {
		jobs = append(jobs, func() { s.active, modelsErr = a.opts.ActiveModels(ctx) })
	}
	if a.opts.Quality != nil {
		jobs = append(jobs, func() { s.quality = a.opts.Quality(ctx) })
	}
	_, errs := fleet.Each(jobs, func(job func()) (struct{}, error) { job(); return struct{}{}, nil })
	fleet.Rethrow(errs...)
	if a.opts.Metrics == nil {
		s.counters = s.reports
	}
	for _, err := range a.hold.unheld() {
		s.missing = append(s.missing, "share not held: "+fleet.OneLine(err))
	}
	if !errors.Is(modelsErr, fleet.ErrContradicts) {
		modelsErr = nil // if an ml-engine does not answer, its shadows fail
	}
	for _, err := range []error{reportsErr, countersErr, modelsErr} {
		if err != nil {
			s.missing = append(s.missing, fleet.OneLine(err))
		}
	}
	if why := a.strangers(s); why != "" {
		s.missing = append(s.missing, why)
	}
	a.strayed = !a.confirmed.IsZero() && slices.ContainsFunc(s.reports, func(c fleet.Counters) bool { return c.Percent != a.percent })
	for _, c := range s.reports {
		if err := a.policy.Compares(c.Tolerance, c.Threshold); err != nil {
			s.missing = append(s.missing, fmt.Sprintf("executor %s: %s", c.Executor, fleet.OneLine(err)))
		}
	}
	for _, c := range s.counters {
		if c.Percent != a.percent {
			s.missing = append(s.missing, fmt.Sprintf("executor %s reports that it samples %g %%, not %g %%", c.Executor, c.Percent, a.percent))
		}
	}
	return s
}

// strangers describes counts in Prometheus that belong to a process that is not under control; empty if there are none.
func (a *attempt) strangers(s reading) string {
	if a.opts.Metrics == nil || len(s.reports) < len(a.opts.Executors) {
		return ""
	}
	for _, c := range s.counters {
		if c.Instance != "" && !slices.ContainsFunc(s.reports, func(r fleet.Counters) bool { return r.Instance == c.Instance }) {
			return fmt.Sprintf("the counts of %s belong to a process that is not under control", c.Executor)
		}
	}
	return ""
}

// poll reads the counts, judges them and emits the result.
func (a *attempt) poll(ctx context.Context) *ending {
	s := a.read(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err := a.hold.check(s.reports); err != nil {
		return a.endFor([]error{err})
	}
	if !a.counting.IsZero() {
		if err := a.hold.count(&a.counted, s.counters); err != nil {
			if end := a.endFor([]error{err}); end != nil {
				return end
			}
			if absent := (*absentError)(nil); !errors.As(err, &absent) || len(s.missing) == 0 {
				s.missing = append(s.missing, fleet.OneLine(err))
			}
		}
		a.remember(s.reports)
	} else if why := a.begin(s); why != "" {
		s.missing = append(s.missing, why)
	}
	total := countsOf(a.counted.Sum(), a.percent, a.hold.unsampled())
	known := total
	if a.counting.IsZero() {
		a.early.Rebase(s.counters)
		known = countsOf(a.early.Sum(), a.percent, a.hold.unsampled())
	}
	total.phase.Missing = strings.Join(append(s.missing, total.wrong...), "; ")
	l := a.judge(total, s.quality)
	end := a.ending(s, l, known.phase)
	if end != nil && a.counting.IsZero() { // show the figures that end it
		known.phase.Missing = total.phase.Missing
		l = a.judge(known, s.quality)
	}
	l.Keep = end != nil || time.Since(a.kept) >= time.Duration(a.policy.PhaseDuration)/keptPolls
	a.emitPoll(l)
	if gist := gist(l.Reason); end == nil && !a.counting.IsZero() && l.Left == 0 && gist != a.held {
		a.held = gist
		e := a.event(Held)
		e.Reason = l.Reason
		a.emit(e)
	}
	return end
}

// emitPoll emits the result of a poll.
func (a *attempt) emitPoll(l *Poll) {
	if l.Keep {
		a.kept = time.Now()
	}
	e := a.event(Polled)
	e.Poll = l
	a.last = l
	a.emit(e)
}

// keepLast keeps the newest poll, so that the phase has its final figures.
func (a *attempt) keepLast() {
	if a.last != nil && !a.last.Keep {
		last := *a.last // the view may still show the original
		last.Keep = true
		a.emitPoll(&last)
	}
}

// gist returns a reason without its figures, which change with every poll.
func gist(reason string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789.,", r) {
			return -1
		}
		return r
	}, reason)
}

// begin takes the first counts, or returns why it cannot yet.
func (a *attempt) begin(s reading) string {
	if a.confirmed.IsZero() {
		if len(s.missing) > 0 {
			return ""
		}
		return "the share is not set yet"
	}
	if len(s.missing) > 0 {
		return ""
	}
	for _, c := range s.counters {
		if c.Time.Before(a.confirmed.Add(settle)) {
			return fmt.Sprintf("the counts of %s are from before the share was set", c.Executor)
		}
	}
	a.counted.Begin(s.counters)
	a.answered = make(map[string]uint64)
	a.remember(s.reports)
	a.counting = time.Now()
	if a.giveUp.IsZero() {
		a.giveUp = a.counting.Add(time.Duration(a.policy.PhaseDuration) + time.Duration(a.policy.HoldLimit))
	}
	e := a.event(Counting)
	e.Reason = a.hold.confirmers()
	a.emit(e)
	return ""
}

// remember records how many comparisons each process had when counting began.
func (a *attempt) remember(reports []fleet.Counters) {
	for _, c := range reports {
		if _, ok := a.answered[c.Executor+c.Process]; !ok {
			a.answered[c.Executor+c.Process] = c.Compared()
		}
	}
}

// judge judges the counts and returns them as a poll.
func (a *attempt) judge(c counts, q *quality.Summary) *Poll {
	l := &Poll{Quality: q, Outcomes: c.Outcomes, Sources: c.Sources, Card: a.policy.JudgePhase(c.phase)}
	test := a.policy.Test(c.phase)
	l.Sample = Sample{
		Time: time.Now().UTC(), Percent: a.percent, Requests: c.Requests, Comparisons: c.phase.Comparisons(), Matches: c.phase.Matches,
		Errors: c.phase.Errors, Unseen: c.phase.Unseen, MatchE: test.Match, ErrorE: test.Errors, Verdict: l.Card.Verdict(), Reason: c.phase.Missing,
	}
	if l.Reason == "" {
		l.Reason = why(l.Card)
	}
	if p := c.phase.P95MS; c.phase.P95Missing == "" && !math.IsNaN(p) {
		l.P95MS, l.Latency = &p, &c.Latency
	}
	if a.counting.IsZero() {
		l.Left = a.policy.PhaseDuration
	} else {
		l.Left = gate.Duration(max(0, time.Until(a.counting.Add(time.Duration(a.policy.PhaseDuration)))))
	}
	l.HoldLeft = gate.Duration(max(0, time.Until(a.limit())))
	if n := l.Comparisons; n < a.policy.MinComparisons {
		l.Needed = a.policy.MinComparisons - n
	}
	return l
}

// why returns the reasons of a scorecard in one line.
func why(card gate.Scorecard) string {
	var reasons []string
	for _, r := range card.Results {
		if text := r.Name + ": " + r.Reason; r.Reason != "" {
			reasons = append(reasons, text)
		}
	}
	return strings.Join(reasons, "; ")
}

// ending returns how the phase ends after a poll; nil if it continues. The known counts can abort it even if others are
// missing.
func (a *attempt) ending(s reading, l *Poll, known gate.PhaseCounts) *ending {
	if reason := a.changed(s); reason != "" {
		return &ending{decision: Aborted, reason: reason}
	}
	if q := s.quality; q != nil && q.Verdict == outcome.Fail {
		return &ending{decision: Aborted, reason: gate.LiveQuality + ": " + q.Words() + ": " + strings.Join(q.Reasons, "; ")}
	}
	if reasons := a.policy.Aborts(known); len(reasons) > 0 {
		return &ending{decision: Aborted, reason: strings.Join(reasons, "; ")}
	}
	switch {
	case !a.counting.IsZero() && l.Left == 0 && l.Needed == 0 && l.Verdict.OK():
		return &ending{decision: Passed}
	case l.HoldLeft == 0 && a.counting.IsZero():
		return &ending{decision: Stopped, reason: "the phase could not be started: " + l.Reason}
	case l.HoldLeft == 0:
		return &ending{decision: Stopped, reason: fmt.Sprintf("the hold limit of %s is reached: %s", a.policy.HoldLimit, l.Reason)}
	}
	return nil
}

// changed describes a model or baseline that differs from the confirmed one; empty if there is none.
func (a *attempt) changed(s reading) string {
	for _, m := range s.active {
		if m.Digest != a.opts.Model.Digest {
			return fmt.Sprintf("an ml-engine now serves %s, but the canary is for %s", m, a.opts.Model)
		}
	}
	for _, c := range s.reports {
		if c.Baseline.Digest != a.opts.Baseline.Digest {
			return fmt.Sprintf("executor %s now decides by %s, but the canary compares with %s", c.Executor, c.Baseline, a.opts.Baseline)
		}
		// Until the first comparison of the phase, the model is the one that answered before it.
		if !a.counting.IsZero() && c.Model.Digest != "" && c.Model.Digest != a.opts.Model.Digest && c.Compared() > a.answered[c.Executor+c.Process] {
			return fmt.Sprintf("executor %s now compares %s, but the canary is for %s", c.Executor, c.Model, a.opts.Model)
		}
	}
	return ""
}

// psi reads the drift, which may take a while. The leases are renewed first. If somebody else has taken or stopped the share,
// it returns how the phase ends. Other errors recur at the next renewal.
func (a *attempt) psi(ctx context.Context) (value *float64, reason string, end *ending) {
	if a.opts.PSI == nil {
		return nil, "no ml-engine was named", nil
	}
	if taken := (*takenError)(nil); errors.As(errors.Join(a.renew(ctx)...), &taken) {
		return nil, "", &ending{decision: Aborted, reason: taken.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*a.timeout)
	defer cancel()
	v, err := a.opts.PSI(ctx)
	if err != nil {
		return nil, fleet.OneLine(err), nil
	}
	return &v, "", nil
}
