package canary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// DefaultMinFleet is the fraction of the executors that a phase needs by default.
const DefaultMinFleet = 0.9

// FleetOptions describe a group under control.
type FleetOptions struct {
	Group     *fleetgroup.Group
	Publisher *fleetgroup.Publisher
	// Model is the digest of the model under trial. It is information for people only.
	Model string
	// MinFleet is the fraction of the executors present at the start of a phase that the phase needs, in (0,1].
	MinFleet float64
}

// RecordFleet is the group of a run.
type RecordFleet struct {
	Group string `json:"group"`
	// MinFleet is the fraction of the executors present at the start of a phase that the phase needs, in (0,1].
	MinFleet float64 `json:"min_fleet"`
	// Revision is the highest revision that the run has issued; 0 before the first.
	Revision uint64 `json:"revision"`
}

// PhaseFleet has the counts of the executors of a group in a phase.
type PhaseFleet struct {
	// Present is the number of executors that were present at its start.
	Present   int              `json:"present"`
	Executors []ExecutorCounts `json:"executors"`
}

// ExecutorCounts are the counts of one executor in a phase.
type ExecutorCounts struct {
	Executor string `json:"executor"`
	Requests uint64 `json:"requests"`
	// Outcomes has the counts that are not 0.
	Outcomes map[string]uint64 `json:"outcomes"`
	Sources  evidence.Sources  `json:"sources,omitempty"`
	// Latency is nil if it is unknown.
	Latency *fleet.Histogram `json:"latency_ms,omitempty"`
}

// Needed returns how many executors a phase needs if the given number is present at its start.
func (f *RecordFleet) Needed(present int) int { return fleetgroup.Needed(f.MinFleet, present) }

// fleetHold holds the share of a group through the group's record.
type fleetHold struct {
	FleetOptions
	terms

	// keep journals a revision before it is published.
	keep func(revision uint64)

	// percent is the percentage in the record of this attempt; issued reports whether there is a record. err is why the last call
	// failed.
	percent float64
	issued  bool
	err     error
	// touched reports whether a record was published. Its lease has lapsed by until.
	touched bool
	until   time.Time
	// began are the executors that were present when the record was published.
	began map[string]bool
	// obey has, by executor id, the first report in which the executor's process obeyed the record.
	obey map[string]obeying
}

// obeying is the first report of a process that obeys the record.
type obeying struct {
	instance string
	sequence uint64
	at       time.Time
}

func newFleetHold(o FleetOptions, common terms, keep func(uint64)) *fleetHold {
	return &fleetHold{FleetOptions: o, terms: common, keep: keep}
}

// renewals implements [holder].
func (*fleetHold) renewals() int { return group.PollsPerLease }

// begin implements [holder].
func (h *fleetHold) begin() {
	h.issued, h.err, h.began, h.obey = false, nil, map[string]bool{}, map[string]obeying{}
}

// renew implements [holder].
func (h *fleetHold) renew(ctx context.Context, percent float64, what string) []error {
	h.err = held(h.publish(ctx, percent, what))
	return []error{h.err}
}

func (h *fleetHold) publish(ctx context.Context, percent float64, what string) error {
	h.touched, h.until = true, time.Now().Add(h.length) // a call that failed may still take effect
	if h.issued {
		return h.Publisher.Renew(ctx)
	}
	for _, m := range h.Group.Members(time.Now()) {
		h.began[m.ID] = true
	}
	if len(h.began) == 0 {
		return errors.New("no executor of the group reports")
	}
	before := h.Publisher.Last()
	err := h.Publisher.Change(ctx, &fleetv1.Record{
		Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Percent: percent, Lease: durationpb.New(h.length), Plan: h.plan,
		ModelDigest: h.Model, Holder: h.holder, Reason: h.mark + what,
	}, h.keep)
	h.percent, h.issued = percent, h.Publisher.Last() != before
	return err
}

// watch notes which executors obey the record now, and returns their reports.
func (h *fleetHold) watch(now time.Time) []fleetgroup.Member {
	members := h.Group.Members(now)
	obey := make(map[string]obeying, len(members))
	members = slices.DeleteFunc(members, func(m fleetgroup.Member) bool {
		if !h.obeys(m) {
			return true
		}
		r := m.Report
		was, ok := h.obey[m.ID]
		if !ok || was.instance != r.GetInstanceId() {
			was = obeying{r.GetInstanceId(), r.GetSequence(), m.At}
		}
		obey[m.ID] = was
		return false
	})
	h.obey = obey
	return members
}

// obeys reports whether the report of an executor confirms the share.
func (h *fleetHold) obeys(m fleetgroup.Member) bool {
	r := m.Report.GetRollout().GetRollout()
	return h.issued && m.Err == nil && m.Report.GetRevision() == h.Publisher.Last().GetRevision() && r.GetPercent() == h.percent &&
		r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY && m.Report.GetShadow().GetSamplePercent() == h.percent
}

// enough returns an error unless enough of the executors that were present obey the record.
func (h *fleetHold) enough() error {
	n := 0
	for id := range h.began {
		if _, ok := h.obey[id]; ok {
			n++
		}
	}
	if want := fleetgroup.Needed(h.MinFleet, len(h.began)); n < want {
		return fmt.Errorf("%d of the %d executors that were present report %g %%: want %d%s", n, len(h.began), h.percent, want, h.troubles())
	}
	return nil
}

// maxShown bounds how many executors an error names.
const maxShown = 3

// troubles describes executors that do not obey the record.
func (h *fleetHold) troubles() string {
	var all []string
	for _, m := range h.Group.Members(time.Now()) {
		if why := m.Trouble(); why != "" {
			all = append(all, fmt.Sprintf("executor %s: %s", m.ID, why))
		}
	}
	return listed(all)
}

// listed returns the first few texts, each after a semicolon.
func listed(all []string) string {
	if n := len(all); n > maxShown {
		all = append(slices.Clone(all[:maxShown]), fmt.Sprintf("and %d more", n-maxShown))
	}
	if len(all) == 0 {
		return ""
	}
	return "; " + strings.Join(all, "; ")
}

// confirmed implements [holder].
func (h *fleetHold) confirmed() bool {
	h.watch(time.Now())
	return h.issued && h.enough() == nil
}

// confirmers implements [holder].
func (h *fleetHold) confirmers() string {
	return fmt.Sprintf("%d executors (%d were present at the start)", len(h.obey), len(h.began))
}

// unheld implements [holder].
func (h *fleetHold) unheld() []error {
	if h.err != nil {
		return []error{h.err}
	}
	return nil
}

// Read implements [Source]. It returns the counters of the executors that obeyed the record in an earlier report already,
// received at least [settle] before this one: their shadows of the previous share have ended.
func (h *fleetHold) Read(context.Context) ([]fleet.Counters, error) {
	var all []fleet.Counters
	for _, m := range h.watch(time.Now()) {
		since := h.obey[m.ID]
		if m.Report.GetSequence() > since.sequence && !m.At.Before(since.at.Add(settle)) {
			all = append(all, fleet.CountersOf(m.ID, m.Report.GetShadow(), m.At))
		}
	}
	return all, h.enough()
}

// check implements [holder]. Executors of a group may restart.
func (*fleetHold) check([]fleet.Counters) error { return nil }

// count implements [holder]. Executors that no longer obey the record count up to their last report that did.
func (h *fleetHold) count(span *fleet.Span, all []fleet.Counters) error {
	for _, one := range span.Each() {
		if _, ok := h.obey[one.Executor]; !ok {
			span.Leave(one.Executor)
		}
	}
	return span.Join(all)
}

// counted implements [holder].
func (h *fleetHold) counted(span *fleet.Span) *PhaseFleet {
	p := &PhaseFleet{Present: len(h.began), Executors: []ExecutorCounts{}}
	for _, one := range span.Each() {
		c := ExecutorCounts{Executor: one.Executor, Requests: one.Requests, Outcomes: map[string]uint64{}, Sources: one.Sources}
		for word, n := range one.Outcomes {
			if n > 0 {
				c.Outcomes[word] = n
			}
		}
		if one.Latency.Known() {
			c.Latency = &one.Latency
		}
		p.Executors = append(p.Executors, c)
	}
	return p
}

// unsampled implements [holder]: a brief lapse of one executor's lease must not hold a phase forever.
func (h *fleetHold) unsampled() float64 { return 1 - h.MinFleet }

// release implements [holder]. It leaves the record of another controller alone.
func (h *fleetHold) release(ctx context.Context, timeout time.Duration, why string) (err error) {
	if !h.touched {
		return nil
	}
	var missing []string
	if broken := fleet.Guard(func() {
		missing, err = h.Publisher.Release(ctx, fleetgroup.Release{Holder: h.holder, Reason: h.mark + why, Timeout: timeout, Until: h.until, Keep: h.keep})
	}); broken != nil {
		return broken
	}
	if err = held(err); errors.As(err, new(*takenError)) || err == nil && len(missing) == 0 {
		return err
	}
	for i, id := range missing {
		missing[i] = fmt.Sprintf("executor %s: no report confirms 0 %%", id)
	}
	return fmt.Errorf("group %s: 0 %% was not read back%s%s", h.Group.Group(), listed(missing), because(err))
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + fleet.OneLine(err)
}

// held converts an error of a publisher to an error of a holder.
func held(err error) error {
	if taken := (*fleetgroup.TakenError)(nil); errors.As(err, &taken) {
		return &takenError{"group " + taken.Group, taken.Reason}
	}
	return err
}
