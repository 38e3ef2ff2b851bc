package fleetgroup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup/fleettest"
)

const modelDigest, baselineDigest = fleettest.Model, fleettest.Baseline

// desk is a group with members.
type desk struct {
	net       *grouptest.Network
	signer    *dsse.Signer
	executors map[string]*fleettest.Counter
	members   map[string]*fleettest.Member
	stops     map[string]func()
}

func newDesk(t *testing.T, ids ...string) *desk {
	t.Helper()
	signer, _ := keytest.New(t)
	d := &desk{grouptest.NewNetwork(1), signer, map[string]*fleettest.Counter{}, map[string]*fleettest.Member{}, map[string]func(){}}
	for _, id := range ids {
		e := &fleettest.Counter{}
		m := &fleettest.Member{Executor: e, ID: id, Carrier: d.net.Carrier(), Keys: d.signer.Public()}
		d.executors[id], d.members[id], d.stops[id] = e, m, m.Start(t)
	}
	return d
}

func (d *desk) end() {
	for _, stop := range d.stops {
		stop()
	}
}

func (d *desk) open(t *testing.T) *Group {
	t.Helper()
	g, err := Open(Options{Group: "desk-a", Signer: d.signer, Carrier: d.net.Carrier()})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func observe(percent float64, lease time.Duration) *fleetv1.Record {
	return &fleetv1.Record{Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Percent: percent, Lease: durationpb.New(lease), Holder: "run-1"}
}

func raw(t *testing.T, r *fleetv1.Report) []byte {
	t.Helper()
	b, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func report(id, instance string, sequence uint64) *fleetv1.Report {
	return &fleetv1.Report{
		Group: "desk-a", ExecutorId: id, InstanceId: instance, Sequence: sequence, Nonce: fmt.Sprint(sequence), Shadow: fleettest.Report("process-"+instance, sequence, 0),
		Rollout: &executorv1.GetRolloutResponse{InstanceId: "process-" + instance, Rollout: &executorv1.Rollout{Revision: 1, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF}},
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	start := time.Now()
	type step struct {
		after    time.Duration
		executor string
		instance string
		sequence uint64
		// requests is the number of requests in the newest report at that time; 0 for an executor that is gone. twins reports
		// whether two processes have its id.
		requests uint64
		twins    bool
	}
	for name, steps := range map[string][]step{
		"in order":             {{0, "a", "p", 1, 1, false}, {2 * time.Second, "a", "p", 2, 2, false}},
		"going back":           {{0, "a", "p", 5, 5, false}, {time.Second, "a", "p", 4, 5, false}, {time.Second, "a", "p", 5, 5, false}},
		"a restart":            {{0, "a", "p", 9, 9, false}, {2 * time.Second, "a", "q", 1, 1, false}, {time.Second, "a", "p", 9, 1, false}, {time.Second, "a", "p", 8, 1, false}},
		"two processes":        {{0, "a", "p", 9, 9, false}, {2 * time.Second, "a", "q", 1, 1, false}, {time.Second, "a", "p", 10, 1, true}, {time.Second, "a", "q", 2, 2, true}, {15 * time.Second, "a", "q", 3, 3, false}},
		"the other one stays":  {{0, "a", "p", 9, 9, false}, {2 * time.Second, "a", "q", 1, 1, false}, {20 * time.Second, "a", "p", 20, 20, false}},
		"gone after 15 s":      {{0, "a", "p", 1, 1, false}, {15*time.Second + time.Millisecond, "b", "p", 1, 1, false}},
		"a replay of the past": {{0, "a", "p", 1, 1, false}, {time.Second, "a", "p", 2, 2, false}, {time.Second, "a", "q", 1, 1, false}, {time.Second, "a", "p", 1, 1, false}, {time.Second, "a", "p", 2, 1, false}},
	} {
		t.Run(name, func(t *testing.T) {
			p, now := NewPresence("desk-a"), start
			for i, s := range steps {
				now = now.Add(s.after)
				p.Take(raw(t, report(s.executor, s.instance, s.sequence)), now)
				m, ok := p.Member(s.executor, now)
				if !ok || m.Report.GetShadow().GetRequestsTotal() != s.requests || m.Twins != s.twins || (m.Err != nil) != s.twins {
					t.Errorf("step %d: %v, %d requests, %v", i, ok, m.Report.GetShadow().GetRequestsTotal(), m.Err)
				}
			}
			if name == "gone after 15 s" {
				if all := p.Members(now); len(all) != 1 || all[0].ID != "b" {
					t.Errorf("got %d members", len(all))
				}
			}
		})
	}
}

func TestPresenceRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fleetv1.Report){
		"another group":     func(r *fleetv1.Report) { r.Group = "desk-b" },
		"no executor":       func(r *fleetv1.Report) { r.ExecutorId = "" },
		"a bad name":        func(r *fleetv1.Report) { r.ExecutorId = "a b" },
		"no process":        func(r *fleetv1.Report) { r.InstanceId = "" },
		"no nonce":          func(r *fleetv1.Report) { r.Nonce = "" },
		"no number":         func(r *fleetv1.Report) { r.Sequence = 0 },
		"a long host":       func(r *fleetv1.Report) { r.Host = strings.Repeat("h", 254) },
		"a control in text": func(r *fleetv1.Report) { r.InstanceId = "a\x1b[2J" },
		"too long":          func(r *fleetv1.Report) { r.Trouble = strings.Repeat("x", group.MaxReport) },
	} {
		p := NewPresence("desk-a")
		r := report("a", "p", 1)
		change(r)
		if id := p.Take(raw(t, r), time.Now()); id != "" || p.Refused() != 1 || len(p.Members(time.Now())) != 0 {
			t.Errorf("%s: taken as %q", name, id)
		}
	}
	p := NewPresence("desk-a")
	p.Take([]byte("no report"), time.Now())
	r := report("a", "p", 1)
	r.Shadow.RequestsTotal = 7 // but only one outcome
	p.Take(raw(t, r), time.Now())
	if m, ok := p.Member("a", time.Now()); !ok || !errors.Is(m.Err, fleet.ErrContradicts) || !strings.Contains(m.Trouble(), "7 requests, but 1 outcomes") {
		t.Errorf("a contradiction: %v, %v", ok, m.Err)
	}
	for i := range maxMembers + 10 {
		p.Take(raw(t, report(fmt.Sprintf("e-%d", i), "p", 1)), time.Now())
	}
	if n := len(p.Members(time.Now())); n != maxMembers {
		t.Errorf("%d members", n)
	}
}

// All executors that report obey a record, including those that join later or restart. It lapses if nobody renews it.
func TestPublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a", "b")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		p, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var kept uint64
		if err := p.Change(t.Context(), observe(25, 30*time.Second), func(r uint64) { kept = r }); err != nil {
			t.Fatal(err)
		}
		if kept != p.Last().GetRevision() || kept == 0 {
			t.Errorf("kept %d of %d", kept, p.Last().GetRevision())
		}
		d.stops["b"]()
		d.stops["b"] = d.members["b"].Start(t)
		time.Sleep(3 * time.Second)
		for id, e := range d.executors {
			if e.Percent() != 25 {
				t.Errorf("executor %s is at %g %%", id, e.Percent())
			}
		}
		for range 20 {
			if err := p.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if e := d.executors["a"]; e.Percent() != 25 {
			t.Errorf("after %d renewals at %g %%", p.Last().GetRenewal(), e.Percent())
		}
		time.Sleep(26 * time.Second)
		for id, e := range d.executors {
			if e.Percent() != 0 {
				t.Errorf("executor %s is at %g %% without renewals", id, e.Percent())
			}
		}
		if _, err := g.Publish(t.Context(), Claim{}); err == nil {
			t.Error("two publishers in one process")
		}
	})
}

// admitCounter counts admissions.
type admitCounter struct {
	group.Carrier
	n atomic.Int64
}

func (c *admitCounter) Admit(ctx context.Context, executor string, envelope []byte) error {
	c.n.Add(1)
	return c.Carrier.Admit(ctx, executor, envelope)
}

// Only one of two controllers that start at the same time gets the record.
func TestPublishRace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		counted := &admitCounter{Carrier: d.net.Carrier()}
		g := d.open(t)
		defer g.Close()
		other, err := Open(Options{Group: "desk-a", Signer: d.signer, Carrier: counted})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		first, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
		second, failed := other.Publish(t.Context(), Claim{Holder: "run-2", Lease: 30 * time.Second})
		if err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		defer first.Close()
		defer second.Close()
		keep := func(uint64) {}
		if err := first.Change(t.Context(), observe(10, 30*time.Second), keep); err != nil {
			t.Fatal(err)
		}
		taken := (*TakenError)(nil)
		if err := second.Change(t.Context(), observe(20, 30*time.Second), keep); !errors.As(err, &taken) || !strings.Contains(taken.Reason, "held by run-1") {
			t.Errorf("the second: %v", err)
		}
		// The second controller must not admit executors: they would leave the first.
		for range 20 {
			if err := first.Renew(t.Context()); err != nil {
				t.Errorf("the first: %v", err)
			}
			time.Sleep(time.Second)
		}
		if got, n := d.executors["a"].Percent(), counted.n.Load(); got != 10 || n > 0 {
			t.Errorf("the executor is at %g %%, want the 10 %% of the first; the second has sent %d admissions", got, n)
		}
	})
}

// A record that was signed with another key is watched like a record of another controller.
func TestPublishForeign(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		signer, _ := keytest.New(t)
		session := group.NewSession("desk-a", "somebody", signer, time.Now())
		_, envelope, err := session.Change(observe(10, time.Hour), 0, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c := d.net.Carrier()
		version, err := c.Put(t.Context(), envelope, 0)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		p, err := g.Publish(t.Context(), Claim{Lease: 30 * time.Second})
		if err != nil || time.Since(start) < 30*time.Second || time.Since(start) > 40*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		p.Close()
		time.AfterFunc(10*time.Second, func() {
			_, envelope, err := session.Renew(time.Now())
			if _, put := c.Put(t.Context(), envelope, version); err != nil || put != nil {
				t.Error(err, put)
			}
		})
		taken := (*TakenError)(nil)
		if _, err := g.Publish(t.Context(), Claim{Lease: 30 * time.Second}); !errors.As(err, &taken) || !strings.Contains(taken.Reason, "another key") {
			t.Errorf("got %v", err)
		}
	})
}

// A call whose answer is lost does not lose the record.
func TestPublishLostAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		p, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Change(t.Context(), observe(10, 30*time.Second), func(uint64) {}); err != nil {
			t.Fatal(err)
		}
		d.net.SetFaults(grouptest.Faults{Fail: 0.5})
		failed := 0
		for range 200 {
			err := p.Renew(t.Context())
			if taken := (*TakenError)(nil); errors.As(err, &taken) {
				t.Fatal(err)
			}
			if err != nil {
				failed++
			}
			time.Sleep(time.Second)
		}
		if failed == 0 || failed == 200 {
			t.Errorf("%d of 200 renewals failed", failed)
		}
		d.net.Heal()
		if err := p.Renew(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStops(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]fleetv1.StopKind{"abort": fleetv1.StopKind_STOP_KIND_ABORT, "kill": fleetv1.StopKind_STOP_KIND_KILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, "a", "b")
				defer d.end()
				g, other := d.open(t), d.open(t)
				defer g.Close()
				defer other.Close()
				p, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if err := p.Change(t.Context(), observe(50, time.Hour), func(uint64) {}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := other.StopNow(ctx, kind, "enough"); err != nil {
					t.Fatal(err)
				}
				for _, e := range other.Executors() {
					var err error
					if kind == fleetv1.StopKind_STOP_KIND_KILL {
						_, err = e.Rollouts.KillGate(ctx, &executorv1.KillGateRequest{Reason: "enough"})
					} else {
						_, err = e.Rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{Reason: "enough"})
					}
					if x := d.executors[e.Addr]; err != nil || x.Percent() != 0 || x.Killed() != (kind == fleetv1.StopKind_STOP_KIND_KILL) {
						t.Errorf("executor %s: %v, at %g %%, killed %v", e.Addr, err, x.Percent(), x.Killed())
					}
				}
				taken := (*TakenError)(nil)
				if err := p.Renew(t.Context()); !errors.As(err, &taken) || !strings.Contains(taken.Reason, `has stopped it: "enough"`) {
					t.Errorf("the controller: %v", err)
				}
			})
		})
	}
}

// A stop between Publish and the first record, or between two records, is not overridden even though the next record has a
// higher revision. The controller may still publish 0 %.
func TestStopBeforeChange(t *testing.T) {
	t.Parallel()
	for _, kind := range []fleetv1.StopKind{fleetv1.StopKind_STOP_KIND_ABORT, fleetv1.StopKind_STOP_KIND_KILL} {
		for _, first := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, "a")
				defer d.end()
				g, other := d.open(t), d.open(t)
				defer g.Close()
				defer other.Close()
				if err := other.StopNow(t.Context(), kind, "of an earlier run"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				p, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				change := func(percent float64) error {
					return p.Change(t.Context(), observe(percent, 30*time.Second), func(uint64) {})
				}
				if !first {
					if err := change(10); err != nil {
						t.Fatalf("after the stop of an earlier run: %v", err)
					}
					time.Sleep(3 * time.Second)
				}
				if _, err := other.Stop(t.Context(), kind, "enough"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				taken := (*TakenError)(nil)
				if err := change(20); !errors.As(err, &taken) || !strings.Contains(taken.Reason, `has stopped it: "enough"`) {
					t.Errorf("%v, first %v: %v", kind, first, err)
				}
				time.Sleep(5 * time.Second)
				if got := d.executors["a"].Percent(); got != 0 {
					t.Errorf("%v, first %v: the executor is at %g %%", kind, first, got)
				}
				off := &fleetv1.Record{Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Lease: durationpb.New(30 * time.Second)}
				if err := p.Change(t.Context(), off, func(uint64) {}); err != nil {
					t.Errorf("0 %%: %v", err)
				}
			})
		}
	}
}

// A stop that arrives while a controller waits for another controller's record also stops the waiting controller.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	for _, kind := range []fleetv1.StopKind{fleetv1.StopKind_STOP_KIND_ABORT, fleetv1.StopKind_STOP_KIND_KILL} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, "a")
			defer d.end()
			g, other := d.open(t), d.open(t)
			defer g.Close()
			defer other.Close()
			first, err := other.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
			if err == nil {
				defer first.Close()
				err = first.Change(t.Context(), observe(10, 30*time.Second), func(uint64) {})
			}
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(10*time.Second, func() {
				if _, err := other.Stop(t.Context(), kind, "enough"); err != nil {
					t.Error(err)
				}
			})
			p, err := g.Publish(t.Context(), Claim{Holder: "run-2", Lease: 30 * time.Second}) // the first is not renewed
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if err := p.Change(t.Context(), observe(20, 30*time.Second), func(uint64) {}); !errors.As(err, new(*TakenError)) {
				t.Errorf("%v: got %v", kind, err)
			}
		})
	}
}

// A kill that was signed with another key is not ignored. It does not prevent a controller from publishing 0 %.
func TestKillOfAnotherKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		p, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if kill, err := g.StoredKill(t.Context()); kill != nil || err != nil {
			t.Errorf("without one: %v, %v", kill, err)
		}
		signer, _ := keytest.New(t)
		for _, kind := range []fleetv1.StopKind{fleetv1.StopKind_STOP_KIND_ABORT, fleetv1.StopKind_STOP_KIND_KILL} {
			envelope, err := group.Stop(signer, "desk-a", "somebody", kind, group.MaxRevision, "enough", time.Now())
			if err == nil {
				err = d.net.Carrier().Stop(t.Context(), kind, envelope)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if kill, err := g.StoredKill(t.Context()); kill != nil || err == nil || !strings.Contains(err.Error(), "another key") {
			t.Errorf("got %v, %v", kill, err)
		}
		if err := g.DropKill(t.Context(), "some id"); err == nil {
			t.Error("it was removed")
		}
		if err := p.Change(t.Context(), observe(20, 30*time.Second), func(uint64) {}); !errors.As(err, new(*TakenError)) || !strings.Contains(err.Error(), "another key") {
			t.Errorf("a record: %v", err)
		}
		if err := p.Change(t.Context(), &fleetv1.Record{Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Lease: durationpb.New(time.Minute), Holder: "run-1"}, func(uint64) {}); err != nil {
			t.Errorf("0 %%: %v", err)
		}
	})
}

// An earlier controller that ends late aborts its own records, but not the run that has taken over.
func TestLateEndOfAnEarlierController(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g, other := d.open(t), d.open(t)
		defer g.Close()
		defer other.Close()
		publish := func(g *Group, holder string) *Publisher {
			p, err := g.Publish(t.Context(), Claim{Holder: holder, Lease: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Change(t.Context(), observe(10, 30*time.Second), func(uint64) {}); err != nil {
				t.Fatal(err)
			}
			return p
		}
		first := publish(g, "run-1")
		defer first.Close()
		second := publish(other, "run-2") // the first is not renewed
		defer second.Close()
		if err := g.StopUpTo(t.Context(), first.Last().GetRevision(), "the end"); err != nil {
			t.Fatal(err)
		}
		if err := second.Renew(t.Context()); err != nil {
			t.Error(err)
		}
		// It does not replace a person's stop either.
		if _, err := other.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_ABORT, "enough"); err != nil {
			t.Fatal(err)
		}
		if err := g.StopUpTo(t.Context(), first.Last().GetRevision(), "the end"); err != nil {
			t.Fatal(err)
		}
		if err := second.Renew(t.Context()); !errors.As(err, new(*TakenError)) {
			t.Errorf("after the stop of a person: %v", err)
		}
	})
}

// An executor that is cut off cannot be read back, and the error names it.
func TestStopNotReadBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		d.stops["a"]()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := g.Executors()[0].Rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{})
		if err == nil || !strings.Contains(err.Error(), "no report of executor a confirms that it is at 0 %") {
			t.Errorf("got %v", err)
		}
		keyless := &Group{Options: Options{Group: "desk-a", Carrier: d.net.Carrier()}, Presence: NewPresence("desk-a")}
		if err := keyless.StopNow(ctx, fleetv1.StopKind_STOP_KIND_ABORT, "x"); !errors.Is(err, ErrNoKey) {
			t.Errorf("without a key: %v", err)
		}
	})
}

// stopCarrier is a carrier whose first stops fail.
type stopCarrier struct {
	*grouptest.Carrier

	fails int
	err   error
}

func (c *stopCarrier) Stop(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error {
	if c.fails--; c.fails >= 0 {
		return c.err
	}
	return c.Carrier.Stop(ctx, kind, envelope)
}

// hungRecord is a carrier that hangs when it is asked for the record, and records when it sends stops.
type hungRecord struct {
	*grouptest.Carrier

	sent []time.Time
}

func (c *hungRecord) Record(ctx context.Context) ([]byte, uint64, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

func (c *hungRecord) Stop(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error {
	c.sent = append(c.sent, time.Now())
	return c.Carrier.Stop(ctx, kind, envelope)
}

// A stop does not wait for the store.
func TestStopIsSentAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		signer, _ := keytest.New(t)
		c := &hungRecord{Carrier: grouptest.NewNetwork(1).Carrier()}
		g := &Group{Options: Options{Group: "desk-a", Signer: signer, Carrier: c}}
		start := time.Now()
		if at, err := g.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_KILL, "enough"); err != nil || !at.Equal(start) {
			t.Errorf("%v, at %v", err, at)
		}
		if len(c.sent) != 1 || !c.sent[0].Equal(start) {
			t.Errorf("begun at %v, sent at %v", start, c.sent)
		}
	})
}

// Executors also obey a stop if their record has a revision far above this clock.
func TestStopOfAHighRevision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g, other := d.open(t), d.open(t)
		defer g.Close()
		defer other.Close()
		p, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: time.Hour, Above: uint64(time.Now().Add(24 * time.Hour).UnixMilli())})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Change(t.Context(), observe(50, time.Hour), func(uint64) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		before := d.executors["a"].Percent()
		if _, err := other.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_ABORT, "enough"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if after := d.executors["a"].Percent(); before != 50 || after != 0 {
			t.Errorf("at %g %% before the stop and at %g %% after it, want 50 and 0", before, after)
		}
	})
}

// A stop is retried, and the operator is informed.
func TestStopDelivery(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fails int
		err   error
		said  string
		want  string
	}{
		"stored at the third try": {2, errors.New("no connection"), "stop      sent to group desk-a and stored", ""},
		"not stored": {
			1000, fmt.Errorf("%w: no leader", group.ErrNotStored), "stop      sent to group desk-a, not stored: executors that start later will not see it",
			"group desk-a: the stop is not stored: no leader",
		},
		"not sent": {1000, errors.New("no connection"), "", "the stop of group desk-a was not sent: no connection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, "a")
				defer d.end()
				g, err := Open(Options{Group: "desk-a", Signer: d.signer, Carrier: &stopCarrier{d.net.Carrier(), test.fails, test.err}})
				if err != nil {
					t.Fatal(err)
				}
				defer g.Close()
				begun, used := time.Now(), false
				said := ""
				b := Brake{fleetv1.StopKind_STOP_KIND_ABORT, "enough", func(format string, args ...any) { said += fmt.Sprintf(format, args...) }}
				got := g.Brake(t.Context(), b, func() error { used = true; return nil })
				if said != test.said || used != (said != "") || fmt.Sprint(got) != cmp.Or(test.want, "<nil>") {
					t.Errorf("said %q, read back: %v, error %v", said, used, got)
				}
				if took := time.Since(begun); took > stopTimeout {
					t.Errorf("it took %v", took)
				}
				// Reading the executors back does not send another stop.
				if at, err := g.stopOnce(t.Context(), b.Kind, ""); used && (err != nil || at.After(begun)) {
					t.Errorf("another stop: at %v, %v", at.Sub(begun), err)
				}
			})
		})
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		p, err := g.Publish(t.Context(), Claim{Holder: "run-1", Lease: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Change(t.Context(), observe(50, 10*time.Second), func(uint64) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := g.Reset(ctx, "a"); err == nil || !strings.Contains(err.Error(), "is at 50 %: end the rollout first") {
			t.Errorf("above 0 %%: %v", err)
		}
		// The canary continues after an abort that only its executor has seen: its next renewal arrives before the next report.
		if err := g.StopNow(ctx, fleetv1.StopKind_STOP_KIND_ABORT, "nervous"); err != nil {
			t.Error(err)
		}
		d.net.Wipe()
		renewing, end := context.WithCancel(ctx)
		var renewals sync.WaitGroup
		renewals.Go(func() {
			for renewing.Err() == nil {
				if err := p.Renew(ctx); err != nil {
					t.Error(err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		time.Sleep(2 * group.ReportPeriod)
		if got := d.executors["a"].Percent(); got != 0 {
			t.Errorf("at %g %% after an abort", got)
		}
		if err := g.Reset(ctx, "a"); err != nil {
			t.Errorf("while a canary runs: %v", err)
		}
		time.Sleep(2 * group.ReportPeriod)
		if got := d.executors["a"].Percent(); got != 50 {
			t.Errorf("at %g %% after the reset", got)
		}
		end()
		renewals.Wait()
		time.Sleep(10 * time.Second)
		d.net.Wipe() // otherwise the executor sees the record again immediately
		time.Sleep(20 * time.Second)
		if m, _ := g.Member("a", time.Now()); m.Report.GetRevision() == 0 {
			t.Fatal("nothing was seen")
		}
		if err := g.Reset(ctx, "a"); err != nil {
			t.Error(err)
		}
		if err := g.Reset(ctx, "nobody"); err == nil || !strings.Contains(err.Error(), "does not report") {
			t.Errorf("nobody: %v", err)
		}
	})
}

// If the executor is aborted while a reset waits, the next command does not lift that abort.
func TestResetMeetsAnAbort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		executor := d.net.Carrier() // it reports, and obeys nothing
		var sequence atomic.Uint64
		var revision atomic.Uint64
		revision.Store(7)
		reporting, end := context.WithCancel(t.Context())
		var reports sync.WaitGroup
		reports.Go(func() {
			for reporting.Err() == nil {
				r := report("a", "1", sequence.Add(1))
				r.Rollout.Rollout.Revision, r.Rollout.Rollout.SetBy = revision.Load(), "token:desk"
				if err := executor.PublishReport(t.Context(), "a", raw(t, r)); err != nil {
					t.Error(err)
				}
				time.Sleep(group.ReportPeriod)
			}
		})
		g := d.open(t)
		defer g.Close()
		time.AfterFunc(3*group.ReportPeriod, func() { revision.Store(8) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := g.Reset(ctx, "a")
		if err == nil || !strings.Contains(err.Error(), "executor a was changed during the reset: its rollout was set to 0 %, OFF, by token:desk") {
			t.Errorf("got %v", err)
		}
		end()
		reports.Wait()
	})
}

// The clients of the group answer from reports. They refuse what a single executor cannot do, and say what to do instead.
func TestClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		time.Sleep(time.Second)
		e := g.Executors()[0]
		c, err := e.Counters(t.Context())
		if err != nil || c.Executor != "a" || c.Requests != 100 || time.Since(c.Time) < time.Second {
			t.Errorf("%+v, %v: want the time of the report", c, err)
		}
		if r, err := e.Rollout(t.Context()); err != nil || r.GetRollout().GetPercent() != 0 {
			t.Errorf("%v, %v", r, err)
		}
		s := (&fleet.Services{Executors: g.Executors()}).Snapshot(t.Context())
		if x := s.Executors[0]; x.Err() != nil || x.Ahead != 0 {
			t.Errorf("%v, %v ahead", x.Err(), x.Ahead)
		}
		_, set := e.Rollouts.SetRollout(t.Context(), &executorv1.SetRolloutRequest{})
		_, watch := e.Shadows.WatchComparisons(t.Context(), &executorv1.WatchComparisonsRequest{})
		_, predict := e.Decisions.Predict(t.Context(), &executorv1.PredictRequest{})
		_, both := e.Decisions.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{})
		_, decide := e.Decisions.Decide(t.Context())
		_, quotes := e.Decisions.ObserveQuotes(t.Context())
		for i, err := range []error{set, watch, predict, both, decide, quotes} {
			if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "the executor can only be reached through its group: ") {
				t.Errorf("call %d: %v", i, err)
			}
		}
		d.stops["a"]()
		time.Sleep(group.Presence + time.Second)
		if _, err := e.Counters(t.Context()); status.Code(errors.Unwrap(err)) != codes.Unavailable || len(g.Executors()) != 0 {
			t.Errorf("after it has gone: %v", err)
		}
	})
}

// Alarms and clears reach an executor even if most messages are lost, and return once a report shows them.
func TestGateCommands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		e, x := g.Executors()[0].Rollouts, d.executors["a"]
		quality := executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM
		alarm := &executorv1.RaiseGateAlarmRequest{Alarm: quality, ModelDigest: modelDigest, Reason: "worse"}
		clearing := &executorv1.ClearGateLatchesRequest{Latches: []executorv1.GateLatch{quality}, LastSetTimes: []*timestamppb.Timestamp{timestamppb.Now()}, Reason: "fixed"}
		if _, err := e.RaiseGateAlarm(t.Context(), alarm); err == nil || !strings.Contains(err.Error(), "has no gate for the model") {
			t.Errorf("without a gate: %v", err)
		}
		if _, err := e.ClearGateLatches(t.Context(), clearing); err == nil || !strings.Contains(err.Error(), "nothing was cleared") {
			t.Errorf("without the latch: %v", err)
		}
		x.Change(func() { x.Gate = &executorv1.Gate{ModelDigest: modelDigest, AllSymbols: true} })
		time.Sleep(group.ReportPeriod)
		d.net.SetFaults(grouptest.Faults{Lose: 0.5})
		for range 5 {
			got, err := e.RaiseGateAlarm(t.Context(), alarm)
			if l := got.GetGate().GetLatches(); err != nil || len(l) != 1 || l[0].GetSetBy() != Issuer() || l[0].GetReason() != "worse" {
				t.Fatalf("alarm: %v, %v", got, err)
			} else {
				clearing.LastSetTimes[0] = cmp.Or(l[0].GetLastSetTime(), l[0].GetSetTime())
			}
			if now, err := e.ClearGateLatches(t.Context(), clearing); err != nil || len(now.GetGate().GetLatches()) != 0 {
				t.Fatalf("clear: %v, %v", now, err)
			}
		}
		d.net.Heal()
		x.Change(func() { x.Fails = errors.New("the disk is full") })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := e.RaiseGateAlarm(ctx, alarm); err == nil || !strings.Contains(err.Error(), "no report of executor a confirms it") || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("one that fails: %v", err)
		}
		g.Signer = nil
		if _, err := e.RaiseGateAlarm(ctx, alarm); err == nil || !strings.Contains(err.Error(), "--fleet-key") {
			t.Errorf("without a key: %v", err)
		}
	})
}

// Clearing a kill does not clear a later kill that the sender has not seen, whether the executor obeys the later kill before
// or after the clear, and even though the command is repeated after later reports.
func TestClearLeavesALaterKill(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		between time.Duration
		lose    float64
	}{
		"before the clear": {0, 0},
		"after it":         {300 * time.Millisecond, 0},
		"while it is lost": {time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, "a")
				defer d.end()
				g := d.open(t)
				defer g.Close()
				x := d.executors["a"]
				kill := func(reason string) {
					if err := x.Kill("person", "", reason); err != nil {
						t.Error(err)
					}
				}
				kill("first")
				time.Sleep(2 * group.ReportPeriod)
				m, _ := g.Member("a", time.Now())
				seen := m.Report.GetRollout().GetGate().GetLatches()
				if len(seen) != 1 {
					t.Fatalf("the latches are %v", seen)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cleared := make(chan error)
				if test.between == 0 {
					kill("second")
				}
				d.net.SetFaults(grouptest.Faults{Lose: test.lose})
				go func() {
					_, err := g.Executors()[0].Rollouts.ClearGateLatches(ctx, &executorv1.ClearGateLatchesRequest{
						Latches: []executorv1.GateLatch{seen[0].GetLatch()}, LastSetTimes: []*timestamppb.Timestamp{seen[0].GetSetTime()}, Reason: "found",
					})
					cleared <- err
				}()
				if test.between > 0 {
					time.Sleep(test.between)
					kill("second")
				}
				d.net.Heal()
				if err := <-cleared; err == nil || !strings.Contains(err.Error(), "the latch killed was set again at ") {
					t.Errorf("the clear: %v", err)
				}
				time.Sleep(time.Minute)
				if !x.Killed() {
					t.Error("the second kill is gone")
				}
			})
		})
	}
}

// The listing, its table and its page show what the reports say. Texts from executors appear as plain text.
func TestListing(t *testing.T) {
	t.Parallel()
	g := &Group{Options: Options{Group: "desk-a"}, Presence: NewPresence("desk-a")}
	now := time.Now()
	r := report("a", "p", 7)
	r.Host, r.Trouble, r.Revision, r.Renewal, r.Session = "<script>alert(1)</script>", "not renewed\x1b[2J", 12, 3, "s"
	r.Shadow.SamplePercent, r.Rollout.Rollout.Percent, r.Rollout.Rollout.Mode = 25, 25, executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	g.Take(raw(t, r), now.Add(-2*time.Second))
	g.Take(raw(t, report("b", "p", 5)), now.Add(-time.Second))
	l := g.Listing(now)
	if l.Requests != 12 || l.Sampled != 1 || l.Troubled != 1 || len(l.Executors) != 2 || l.Executors[0].AgeMS != 2000 || !l.Executors[0].Admitted {
		t.Errorf("%+v", l)
	}
	var out bytes.Buffer
	if err := l.Table(&out, 1); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 5 || strings.Contains(out.String(), "\x1b") || !strings.HasPrefix(lines[0], "group desk-a: 2 executors, 1 of them above 0 %, 1 with trouble; 12 requests") ||
		!strings.Contains(lines[2], "25 %") || !strings.Contains(lines[2], "12.3") || !strings.Contains(lines[2], "2.0 s") || lines[3] != "and 1 more" {
		t.Errorf("got\n%s", out.String())
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	body := w.Body.String()
	if w.Code != 200 || strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;") || !strings.Contains(body, `http-equiv="refresh"`) {
		t.Errorf("%d\n%s", w.Code, body)
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(body, "<style>"+style+"</style>") || !strings.Contains(policy, "default-src 'none'; style-src 'sha256-") || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("policy %q of\n%s", policy, body)
	}
}

// Lines writes a line when an executor appears, changes or disappears, and no line otherwise.
func TestLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a", "b")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Lines(ctx, &out) }()
		time.Sleep(10 * time.Second)
		d.stops["b"]()
		time.Sleep(20 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[0], "a (host-of-a) at 0 %, OFF, revision 0, admitted false: no record of the group was seen") ||
			!strings.Contains(lines[2], "b is gone: no report for 15s") {
			t.Errorf("got\n%s", out.String())
		}
	})
}
