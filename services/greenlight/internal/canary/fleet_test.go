package canary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup/fleettest"
)

// grouped makes a fake executor a member of a group.
type grouped struct {
	*fakeExecutor
	fleettest.NoBlocks
}

// Obey implements [member.Executor].
func (g grouped) Obey(r *fleetv1.Record, until time.Time, _ string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance()
	now := &executorv1.Rollout{Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, SetBy: "fleet"}
	if r != nil {
		now = &executorv1.Rollout{Mode: r.GetMode(), Percent: r.GetPercent(), Holder: r.GetHolder(), Reason: r.GetReason(), SetBy: "fleet", Plan: r.GetPlan()}
	}
	if was := g.rollout; was.GetPercent() != now.GetPercent() || was.GetReason() != now.GetReason() {
		now.Revision, now.SetTime = was.GetRevision()+1, timestamppb.Now()
		g.rollout = now
	}
	g.expires = time.Time{}
	if r != nil {
		g.expires = until
	}
	return nil
}

// Kill implements [member.Executor].
func (grouped) Kill(_, _, _ string) error { return nil }

// Report implements [member.Executor].
func (g grouped) Report(ctx context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error) {
	report, err := g.GetShadowReport(ctx, nil)
	rollout, unread := g.GetRollout(ctx, nil)
	return report, rollout, errors.Join(err, unread)
}

// fleetTrial is one run over a group in a test.
type fleetTrial struct {
	*trial

	net     *grouptest.Network
	signer  *dsse.Signer
	members []*fleettest.Member
	stops   []func()
	min     float64
	// psi, which may be nil, replaces PSI in the options.
	psi func(context.Context) (float64, error)
}

// newFleetTrial starts n executors of a group, within a bubble of synctest.
func newFleetTrial(t *testing.T, n int) *fleetTrial {
	t.Helper()
	signer, _ := keytest.New(t)
	tr := &fleetTrial{trial: newTrial(0), net: grouptest.NewNetwork(1), signer: signer, min: 0.9}
	tr.policy.Phases = []float64{10, 100}
	tr.policy.PhaseDuration = gate.Duration(5 * time.Minute)
	tr.policy.HoldLimit = gate.Duration(10 * time.Minute)
	for i := range n {
		f := newFake(fmt.Sprintf("executor-%03d", i))
		m := &fleettest.Member{Executor: grouped{fakeExecutor: f}, ID: f.addr, Carrier: tr.net.Carrier(), Keys: tr.signer.Public()}
		tr.fakes, tr.members, tr.stops = append(tr.fakes, f), append(tr.members, m), append(tr.stops, m.Start(t))
	}
	return tr
}

// end stops the executors.
func (tr *fleetTrial) end() {
	for _, stop := range tr.stops {
		stop()
	}
}

// group opens the operator's side.
func (tr *fleetTrial) group(t *testing.T, carrier group.Carrier) *fleetgroup.Group {
	t.Helper()
	g, err := fleetgroup.Open(fleetgroup.Options{Group: "desk-a", Signer: tr.signer, Carrier: carrier})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// runGroup runs the phases of the record as one controller.
func (tr *fleetTrial) runGroup(ctx context.Context, t *testing.T, g *fleetgroup.Group, r *Record) *Record {
	t.Helper()
	if r.Fleet == nil {
		r.Fleet = &RecordFleet{Group: "desk-a", MinFleet: tr.min}
	}
	p, err := g.Publish(t.Context(), fleetgroup.Claim{Holder: r.ID, Above: r.Fleet.Revision, Lease: time.Duration(tr.policy.Lease)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	o := tr.options()
	if tr.psi != nil {
		o.PSI = tr.psi
	}
	o.Record, o.Executors, o.Fleet = r, nil, &FleetOptions{Group: g, Publisher: p, Model: testModel.Digest, MinFleet: tr.min}
	got, err := NewController(o).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (tr *fleetTrial) newRecord() *Record {
	return &Record{ID: "run-1", Policy: tr.policy, Phases: []Phase{}, Decision: Running}
}

// addsUp checks that the counts of the executors add up to the counts of each phase.
func addsUp(t *testing.T, r *Record) {
	t.Helper()
	for _, p := range r.Phases {
		if p.Fleet == nil {
			if p.Decision == Passed {
				t.Errorf("phase %d has no counts of the executors", p.Index)
			}
			continue
		}
		requests, outcomes := uint64(0), map[string]uint64{}
		for _, e := range p.Fleet.Executors {
			requests += e.Requests
			for word, n := range e.Outcomes {
				outcomes[word] += n
			}
		}
		if requests != p.Requests {
			t.Errorf("phase %d: the executors have %d requests, the phase has %d", p.Index, requests, p.Requests)
		}
		for word, n := range p.Outcomes {
			if outcomes[word] != n {
				t.Errorf("phase %d: the executors have %d %s, the phase has %d", p.Index, outcomes[word], word, n)
			}
		}
	}
}

// A canary over 200 executors passes. Its counts are the sums of the executors' counts.
func TestFleetHealthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 200)
		tr.policy.PhaseDuration = gate.Duration(time.Minute)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		defer g.Close()
		r := tr.runGroup(t.Context(), t, g, tr.newRecord())
		if r.Decision != Passed || !r.RolledBack || len(r.Phases) != 2 {
			t.Fatalf("got %s %q, rolled back %v, %d phases", r.Decision, r.Reason, r.RolledBack, len(r.Phases))
		}
		tr.atZero(t)
		if stops := tr.stored(t); stops != 0 {
			t.Errorf("a run that has passed has stored %d stops", stops)
		}
		addsUp(t, r)
		for _, p := range r.Phases {
			if p.Fleet.Present != 200 || len(p.Fleet.Executors) != 200 {
				t.Errorf("phase %d: %d of %d executors", p.Index, len(p.Fleet.Executors), p.Fleet.Present)
			}
			var truth uint64
			for _, f := range tr.fakes {
				truth += f.truth[p.Percent]
			}
			n := p.Outcomes[shadow.Match.String()] + p.Outcomes[shadow.Mismatch.String()]
			// The seconds before the first reading and after the last one are not counted.
			if n > truth || float64(n) < 0.7*float64(truth) {
				t.Errorf("phase %d: %d comparisons, want at most %d and at least 70 %% of that", p.Index, n, truth)
			}
		}
		if r.Fleet.Revision == 0 {
			t.Error("the revision of the record is not in the journal")
		}
	})
}

// stored returns how many stops the store has.
func (tr *fleetTrial) stored(t *testing.T) int {
	t.Helper()
	stops, err := tr.net.Carrier().Stops(t.Context())
	if err != nil {
		t.Error(err)
	}
	return len(stops)
}

// endCarrier is a carrier that fails to publish 0 % at the end of a run.
type endCarrier struct {
	*grouptest.Carrier

	// put, which may be nil, replaces Put.
	put func(version uint64) (uint64, error)
	// stopped is called after every stop.
	stopped func()
}

func (c *endCarrier) Put(ctx context.Context, envelope []byte, version uint64) (uint64, error) {
	if c.put != nil {
		return c.put(version)
	}
	return c.Carrier.Put(ctx, envelope, version)
}

func (c *endCarrier) Stop(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error {
	err := c.Carrier.Stop(ctx, kind, envelope)
	c.stopped()
	return err
}

// If 0 % cannot be published at the end, or is not read back, the records are stopped.
func TestFleetEndsByStop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		put  func(version uint64) (uint64, error)
		most time.Duration
	}{
		"0 % is refused": {func(uint64) (uint64, error) { return 0, errors.New("no space is left") }, 2 * group.ReportPeriod},
		"0 % is lost":    {func(version uint64) (uint64, error) { return version + 1, nil }, fleetgroup.StopAfter + 2*group.ReportPeriod},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newFleetTrial(t, 5)
				tr.policy.Lease = gate.Duration(5 * time.Minute)
				defer tr.end()
				c := &endCarrier{Carrier: tr.net.Carrier()}
				c.stopped = func() { c.put = nil } // the refusals end
				g := tr.group(t, c)
				defer g.Close()
				var took time.Duration
				var ending time.Time
				tr.at = func(e Event) {
					switch e.Kind {
					case RollingBack:
						c.put, ending = test.put, e.Time
					case RolledBack, NotRolledBack:
						took = e.Time.Sub(ending)
					}
				}
				r := tr.runGroup(t.Context(), t, g, tr.newRecord())
				if r.Decision != Passed || !r.RolledBack || took > test.most {
					t.Errorf("got %s %q, rolled back %v after %v", r.Decision, r.Reason, r.RolledBack, took)
				}
				if stops := tr.stored(t); stops != 1 {
					t.Errorf("%d stops are stored, want 1", stops)
				}
				tr.atZero(t)
			})
		})
	}
}

// Executors restart, go and come during a phase. Nothing that was counted is lost, and the phase passes.
func TestFleetComesAndGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 20)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		defer g.Close()
		step := func(d time.Duration, fn func()) func(Event) { return after(0, d, fn) }
		restart := step(time.Minute, func() {
			tr.stops[0]()
			tr.fakes[0].restart()
			tr.stops[0] = tr.members[0].Start(t)
		})
		gone := step(2*time.Minute, func() { tr.stops[1]() })
		come := step(3*time.Minute, func() {
			f := newFake("executor-new")
			m := &fleettest.Member{Executor: grouped{fakeExecutor: f}, ID: f.addr, Carrier: tr.net.Carrier(), Keys: tr.signer.Public()}
			tr.fakes, tr.stops = append(tr.fakes, f), append(tr.stops, m.Start(t))
		})
		tr.at = func(e Event) { restart(e); gone(e); come(e) }
		r := tr.runGroup(t.Context(), t, g, tr.newRecord())
		if r.Decision != Passed || !r.RolledBack {
			t.Fatalf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
		}
		addsUp(t, r)
		p := r.Phases[0]
		if len(p.Fleet.Executors) != 21 || p.Fleet.Present != 20 {
			t.Errorf("%d executors have counted, and %d were present", len(p.Fleet.Executors), p.Fleet.Present)
		}
		for i, low := range map[int]uint64{0: 8000, 1: 3000, 20: 3000} {
			j := slices.IndexFunc(p.Fleet.Executors, func(c ExecutorCounts) bool { return c.Executor == tr.fakes[i].addr })
			if j < 0 || p.Fleet.Executors[j].Requests < low {
				t.Errorf("%s: %+v", tr.fakes[i].addr, p.Fleet.Executors)
			}
		}
		if got := r.Phases[1].Fleet.Present; got != 20 {
			t.Errorf("%d executors were present at the second phase", got)
		}
	})
}

// A phase with reports from too few executors is held, and then stopped.
func TestFleetTooFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 10)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		defer g.Close()
		tr.at = after(0, time.Minute, func() { tr.stops[0](); tr.stops[1]() })
		r := tr.runGroup(t.Context(), t, g, tr.newRecord())
		if r.Decision != Stopped || !strings.Contains(r.Reason, "8 of the 10 executors that were present report 10 %: want 9") || !r.RolledBack {
			t.Fatalf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
		}
		addsUp(t, r)
	})
}

// A bad model aborts the run, and afterwards all executors are at 0 %.
func TestFleetAborts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 10)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		defer g.Close()
		tr.at = after(0, time.Minute, func() {
			for _, f := range tr.fakes {
				f.change(func() { f.health = wrong })
			}
		})
		r := tr.runGroup(t.Context(), t, g, tr.newRecord())
		if r.Decision != Aborted || !strings.Contains(r.Reason, "mismatches") || !r.RolledBack {
			t.Fatalf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
		}
		tr.atZero(t)
		addsUp(t, r)
	})
}

// An operator's stop ends the run. Executors obey the next run.
func TestFleetStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 5)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		defer g.Close()
		other := tr.group(t, tr.net.Carrier())
		defer other.Close()
		tr.at = after(0, time.Minute, func() {
			if err := other.StopNow(t.Context(), fleetv1.StopKind_STOP_KIND_ABORT, "enough"); err != nil {
				t.Error(err)
			}
			for _, s := range Abort(t.Context(), other.Executors(), "enough") {
				if s.Err != nil {
					t.Error(s.Err)
				}
			}
		})
		r := tr.runGroup(t.Context(), t, g, tr.newRecord())
		if r.Decision != Aborted || !strings.Contains(r.Reason, `has stopped it: "enough"`) || !r.RolledBack {
			t.Fatalf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
		}
		tr.atZero(t)
		tr.at = nil
		if r := tr.runGroup(t.Context(), t, g, tr.newRecord()); r.Decision != Passed {
			t.Errorf("the next run: %s %q", r.Decision, r.Reason)
		}
	})
}

// A stop that arrives while the drift is read ends the run: the next phase does not begin.
func TestFleetStoppedInsidePSI(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			tr := newFleetTrial(t, 5)
			defer tr.end()
			g := tr.group(t, tr.net.Carrier())
			defer g.Close()
			other := tr.group(t, tr.net.Carrier())
			defer other.Close()
			stop := func() {
				if _, err := other.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_ABORT, "enough"); err != nil {
					t.Error(err)
				}
			}
			begun := 0
			tr.at = func(e Event) {
				if e.Kind == PhaseBegun {
					begun++
				}
				// The last poll of the phase comes just before the renewal for the drift.
				if !late && e.Kind == Polled && e.Poll.Left == 0 && e.Poll.Verdict.OK() {
					stop()
				}
			}
			tr.psi = func(context.Context) (float64, error) {
				if late {
					stop()
				}
				time.Sleep(time.Second)
				return 0, nil
			}
			r := tr.runGroup(t.Context(), t, g, tr.newRecord())
			if r.Decision != Aborted || !strings.Contains(r.Reason, `has stopped it: "enough"`) || !r.RolledBack {
				t.Errorf("late %v: got %s %q, rolled back %v", late, r.Decision, r.Reason, r.RolledBack)
			}
			if want := map[bool]int{false: 1, true: 2}[late]; begun != want {
				t.Errorf("late %v: %d phases have begun, want %d", late, begun, want)
			}
			tr.atZero(t)
			for _, f := range tr.fakes {
				if f.truth[100] > 0 {
					t.Errorf("late %v: %s has compared %d requests at 100 %%", late, f.addr, f.truth[100])
				}
			}
		})
	}
}

// A second controller is refused while the first renews, and the error names the holder.
func TestFleetSecondController(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 5)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		defer g.Close()
		other := tr.group(t, tr.net.Carrier())
		defer other.Close()
		var refused error
		done := make(chan struct{})
		tr.at = after(0, time.Minute, func() {
			go func() {
				defer close(done)
				_, refused = other.Publish(t.Context(), fleetgroup.Claim{Holder: "run-2", Lease: 30 * time.Second})
			}()
		})
		r := tr.runGroup(t.Context(), t, g, tr.newRecord())
		<-done
		if taken := (*fleetgroup.TakenError)(nil); !errors.As(refused, &taken) || !strings.Contains(taken.Reason, "held by run-1") {
			t.Errorf("got %v", refused)
		}
		if r.Decision != Passed {
			t.Errorf("got %s %q", r.Decision, r.Reason)
		}
	})
}

// A controller that hangs loses the group when the lease lapses. Another one takes over. When the first one continues, it
// aborts its run without touching the other's share.
func TestFleetHungController(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 5)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		defer g.Close()
		other := tr.group(t, tr.net.Carrier())
		defer other.Close()
		hold := make(chan struct{})
		hung := make(chan time.Time, 1)
		tr.at = after(0, time.Minute, func() {
			hung <- time.Now()
			<-hold
		})
		first := make(chan *Record, 1)
		go func() { first <- tr.runGroup(t.Context(), t, g, tr.newRecord()) }()
		since := <-hung
		time.Sleep(time.Until(since.Add(time.Duration(tr.policy.Lease) + time.Second)))
		tr.atZero(t)
		p, err := other.Publish(t.Context(), fleetgroup.Claim{Holder: "run-2", Lease: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if waited := time.Since(since); waited > 3*time.Duration(tr.policy.Lease) {
			t.Errorf("the takeover took %v", waited)
		}
		hold2 := newFleetHold(FleetOptions{Group: other, Publisher: p, MinFleet: 0.9}, terms{holder: "run-2", length: 5 * time.Minute}, func(uint64) {})
		hold2.begin()
		if err := errors.Join(hold2.renew(t.Context(), 20, "taken over")...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		close(hold)
		r := <-first
		if r.Decision != Aborted || !strings.Contains(r.Reason, "held by run-2") || r.RolledBack {
			t.Errorf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
		}
		for _, f := range tr.fakes {
			if got := f.percent(); got != 20 {
				t.Errorf("%s is at %g %%: want that of the second controller", f.addr, got)
			}
		}
	})
}

// A run whose controller was killed resumes at the same phase, from its journal, with a higher revision.
func TestFleetResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 5)
		defer tr.end()
		g := tr.group(t, tr.net.Carrier())
		ctx, kill := context.WithCancel(t.Context())
		tr.at = after(1, time.Minute, kill)
		carrier := tr.net.Carrier()
		_ = carrier
		tr.runGroup(ctx, t, g, tr.newRecord())
		g.Close()
		r := tr.newRecord()
		r.Fleet = &RecordFleet{Group: "desk-a", MinFleet: tr.min}
		for _, e := range tr.events { // as after a kill -9 in the second phase
			if e.Kind == PhaseEnded && e.Phase == 1 || e.Kind == RollingBack {
				break
			}
			if e.Poll != nil {
				e.Poll.Keep = true
			}
			r.apply(e)
		}
		before := r.Fleet.Revision
		g = tr.group(t, tr.net.Carrier())
		defer g.Close()
		tr.at, tr.events = nil, nil
		r = tr.runGroup(t.Context(), t, g, r)
		if r.Decision != Passed || !slices.Equal(decisions(r), []Decision{Passed, Interrupted, Passed}) || r.Fleet.Revision <= before {
			t.Errorf("got %s %q, %v, revision %d after %d", r.Decision, r.Reason, decisions(r), r.Fleet.Revision, before)
		}
		addsUp(t, r)
	})
}

// A store that is wiped, or rolled back to an older record, does not affect the run.
func TestFleetLostStore(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*grouptest.Network){"wiped": (*grouptest.Network).Wipe, "rolled back": (*grouptest.Network).Rollback} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newFleetTrial(t, 5)
				defer tr.end()
				g := tr.group(t, tr.net.Carrier())
				defer g.Close()
				tr.at = after(1, time.Minute, func() { lose(tr.net) })
				r := tr.runGroup(t.Context(), t, g, tr.newRecord())
				if r.Decision != Passed || !r.RolledBack {
					t.Errorf("got %s %q", r.Decision, r.Reason)
				}
				addsUp(t, r)
			})
		})
	}
}

// While the executors cannot reach the controller, their leases lapse and they are at 0 %. The phase continues afterwards.
func TestFleetPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newFleetTrial(t, 5)
		defer tr.end()
		carrier := tr.net.Carrier()
		g := tr.group(t, carrier)
		defer g.Close()
		tr.at = after(0, time.Minute, func() {
			carrier.Cut()
			time.AfterFunc(time.Duration(tr.policy.Lease)+time.Second, func() { tr.atZero(t) })
			time.AfterFunc(2*time.Minute, carrier.Heal)
		})
		r := tr.runGroup(t.Context(), t, g, tr.newRecord())
		if r.Decision != Passed || !r.RolledBack {
			t.Errorf("got %s %q", r.Decision, r.Reason)
		}
		addsUp(t, r)
	})
}

// The counts of an executor whose counters fall without a restart are ignored.
func TestFleetContradiction(t *testing.T) {
	t.Parallel()
	var span fleet.Span
	read := func(process string, n uint64) fleet.Counters {
		return fleet.Counters{Executor: "a", Process: process, Counts: fleet.Counts{Requests: n, Outcomes: map[string]uint64{"match": n}}}
	}
	span.Begin([]fleet.Counters{read("p", 100)})
	for _, step := range []struct {
		process string
		n, sum  uint64
		fails   bool
	}{{"p", 150, 50, false}, {"p", 120, 50, true}, {"q", 7, 50, false}, {"q", 10, 53, false}, {"r", 1000, 53, false}, {"r", 1001, 54, false}} {
		err := span.Join([]fleet.Counters{read(step.process, step.n)})
		if got := span.Sum().Requests; got != step.sum || (err != nil) != step.fails {
			t.Errorf("%+v: %d, %v", step, got, err)
		}
	}
	span.Leave("a")
	if err := span.Join([]fleet.Counters{read("r", 5000)}); err != nil || span.Sum().Requests != 54 {
		t.Errorf("after a leave: %d, %v", span.Sum().Requests, err)
	}
}
