package member

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test with a network, an operator and one executor, under a clock that only waits move.
func bubble(t *testing.T, run func(n *grouptest.Network, o *operator, r *running)) {
	t.Helper()
	signer := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		n := grouptest.NewNetwork(1)
		o := operate(t, n, signer, map[uint64]issued{})
		run(n, o, start(t, n, signer.Public(), "executor-1", t.TempDir()))
	})
}

func TestFollowsTheRecord(t *testing.T) {
	bubble(t, func(_ *grouptest.Network, o *operator, r *running) {
		time.Sleep(5 * time.Second)
		r.wants(0)
		if got := o.reported("executor-1"); got.GetSession() != "" || got.GetTrouble() == "" || got.GetHost() != "host" || got.GetNonce() == "" {
			t.Errorf("the first report is %v", got)
		}
		o.change(10)
		time.Sleep(2 * group.ReportPeriod)
		r.wants(10)
		time.Sleep(time.Hour)
		r.wants(10)
		o.change(20)
		r.wants(20)
		got := o.reported("executor-1")
		time.Sleep(group.ReportPeriod)
		next := o.reported("executor-1")
		if next.GetTrouble() != "" || next.GetSession() != o.session.ID() || next.GetRevision() != o.revision() ||
			next.GetShadow().GetSamplePercent() != 20 || next.GetSequence() != got.GetSequence()+1 || next.GetNonce() == got.GetNonce() {
			t.Errorf("the report is %v", next)
		}
		o.change(0)
		r.wants(0)
		if why := r.Trouble(); why != "" {
			t.Errorf("at 0 %% as ordered: %q", why)
		}
	})
}

// Whatever happens to operator or carrier, the share ends within the lease, and comes back once both work.
func TestShareEndsWithoutRenewals(t *testing.T) {
	for what, fault := range map[string]func(*grouptest.Network, *operator, *running){
		"operator dies":        func(_ *grouptest.Network, o *operator, _ *running) { o.stop() },
		"executor is cut":      func(_ *grouptest.Network, _ *operator, r *running) { r.carrier.Cut() },
		"executor hangs":       func(_ *grouptest.Network, _ *operator, r *running) { r.carrier.Hang() },
		"operator is cut":      func(_ *grouptest.Network, o *operator, _ *running) { o.carrier.Cut() },
		"operator hangs":       func(_ *grouptest.Network, o *operator, _ *running) { o.carrier.Hang() },
		"everything is lost":   func(n *grouptest.Network, _ *operator, _ *running) { n.SetFaults(grouptest.Faults{Lose: 1, Fail: 1}) },
		"halves":               func(n *grouptest.Network, _ *operator, r *running) { n.Split(r.carrier) },
		"store is wiped, dead": func(n *grouptest.Network, o *operator, _ *running) { o.stop(); n.Wipe() },
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(n *grouptest.Network, o *operator, r *running) {
				o.change(10)
				time.Sleep(time.Minute)
				r.wants(10)
				fault(n, o, r)
				begin := time.Now()
				for _, wait := range []time.Duration{lease, time.Hour} {
					time.Sleep(wait)
					for range 100 {
						if what != "halves" { // new renewals would come over
							n.Replay()
						}
					}
					r.wants(0)
				}
				if why := r.Trouble(); why == "" {
					t.Error("no trouble is reported")
				}
				o.lock()
				dead := o.all[o.session.Last().GetRevision()].last.Before(begin.Add(time.Minute))
				o.unlock()
				n.Heal()
				time.Sleep(time.Minute)
				if dead {
					r.wants(0)
				} else {
					r.wants(10)
				}
			})
		})
	}
}

// A watch that has stalled costs a poll at most, and is created again.
func TestStalledWatch(t *testing.T) {
	bubble(t, func(_ *grouptest.Network, o *operator, r *running) {
		o.change(10)
		time.Sleep(time.Minute)
		r.carrier.Stall()
		time.Sleep(time.Hour)
		r.wants(10)
		o.change(20)
		time.Sleep(lease / group.PollsPerLease)
		r.wants(20)
	})
}

// A watch that hangs is created again, also if all records are refused: a reset comes by the watch alone.
func TestHungWatchWithOldRecords(t *testing.T) {
	bubble(t, func(_ *grouptest.Network, o *operator, r *running) {
		o.lock()
		o.all[uint64(time.Now().Add(24*time.Hour).UnixMilli())] = issued{} // by a clock that was a day ahead
		o.unlock()
		o.change(10)
		time.Sleep(time.Minute)
		r.wants(10)
		r.carrier.Hang()
		r.restart()
		o.lock()
		clear(o.all)
		o.unlock()
		o.begin()
		o.change(20) // with a lower revision
		r.carrier.Heal()
		time.Sleep(time.Minute)
		r.wants(0)
		report := o.reported("executor-1")
		reset, err := o.session.Command(&fleetv1.Admission{Reset_: true}, report, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := o.carrier.Admit(t.Context(), "executor-1", reset); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.wants(20)
	})
}

func TestStops(t *testing.T) {
	signer := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		n := grouptest.NewNetwork(1)
		o := operate(t, n, signer, map[uint64]issued{})
		r := start(t, n, signer.Public(), "executor-1", t.TempDir())
		stop := func(kind fleetv1.StopKind) {
			t.Helper()
			s, err := group.Stop(signer, name, "test", kind, o.revision(), "why", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := o.carrier.Stop(t.Context(), kind, s); err != nil {
				t.Fatal(err)
			}
		}
		o.change(10)
		time.Sleep(time.Minute)
		stop(fleetv1.StopKind_STOP_KIND_ABORT)
		r.wants(0)
		time.Sleep(time.Minute) // renewals go on
		r.wants(0)
		r.restart()
		time.Sleep(time.Minute)
		r.wants(0)
		o.change(20)
		time.Sleep(10 * time.Second)
		r.wants(20)
		r.carrier.Stall() // the poll finds the stop
		stop(fleetv1.StopKind_STOP_KIND_KILL)
		time.Sleep(10 * time.Second)
		r.wants(0)
		r.carrier.Heal()
		r.restart()
		time.Sleep(time.Minute)
		r.wants(0)
		r.fake.mu.Lock()
		if got := strings.Join(r.fake.kills, ", "); got != "group:desk-a why" {
			t.Errorf("kills: %q, want one", got)
		}
		r.fake.mu.Unlock()
		// An abort of this executor alone.
		o.change(30)
		time.Sleep(10 * time.Second)
		r.wants(30)
		r.abort()
		r.wants(0)
		time.Sleep(10 * time.Second)
		r.wants(0)
		r.restart()
		time.Sleep(time.Minute)
		r.wants(0)
		o.change(40)
		time.Sleep(10 * time.Second)
		r.wants(0)
		o.begin()
		o.change(50)
		time.Sleep(10 * time.Second)
		r.wants(50)
		r.restart()
		time.Sleep(10 * time.Second)
		r.wants(50)
		r.Killed()
		r.wants(0)
		o.change(60)
		time.Sleep(10 * time.Second)
		r.wants(0)
		o.begin()
		o.change(70)
		time.Sleep(10 * time.Second)
		r.wants(70)
	})
}

// A state that cannot be read aborts the executor, also if the process is killed at once.
func TestDamagedStateAndAKill(t *testing.T) {
	signer := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		n := grouptest.NewNetwork(1)
		o := operate(t, n, signer, map[uint64]issued{})
		r := start(t, n, signer.Public(), "executor-1", t.TempDir())
		o.change(10)
		time.Sleep(10 * time.Second)
		r.wants(10)
		r.stop()
		r.fake.rest()
		path := filepath.Join(r.opts.Dir, fileName)
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.open(r.opts.Keys, r.opts.ID, r.opts.Dir)
		killed, err := os.ReadFile(path) // as it is on disk then
		if err != nil {
			t.Fatal(err)
		}
		r.stop()
		if err := os.WriteFile(path, killed, 0o600); err != nil {
			t.Fatal(err)
		}
		r.restart()
		time.Sleep(time.Minute)
		r.wants(0)
		o.begin()
		o.change(20)
		time.Sleep(10 * time.Second)
		r.wants(20)
	})
}

// A kill is on disk as obeyed only after the gate was killed: until then a restart obeys it again.
func TestKillIsSavedLast(t *testing.T) {
	signer := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		n := grouptest.NewNetwork(1)
		o := operate(t, n, signer, map[uint64]issued{})
		r := start(t, n, signer.Public(), "executor-1", t.TempDir())
		saved := func() int {
			if err := r.Keep(time.Second); err != nil {
				t.Error(err)
			}
			return len(r.written.Follower.Kills)
		}
		r.fake.killing = func() error {
			if n := saved(); n != 0 {
				t.Errorf("%d kills are on disk before the gate was killed", n)
			}
			return errors.New("the disk is full")
		}
		s, err := group.Stop(signer, name, "test", fleetv1.StopKind_STOP_KIND_KILL, 1, "why", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := o.carrier.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_KILL, s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if n := saved(); n != 0 {
			t.Errorf("%d kills are on disk after the gate could not be killed", n)
		}
		r.stop()
		r.fake.killing = nil
		r.restart()
		time.Sleep(10 * time.Second)
		if n := saved(); n != 1 || len(r.fake.kills) != 2 {
			t.Errorf("%d kills are on disk, and the gate was killed %d times", n, len(r.fake.kills))
		}
	})
}

// A kill reaches an executor that was away, also if an abort was sent since, as at the end of every canary.
func TestKillWhileAway(t *testing.T) {
	signer := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		n := grouptest.NewNetwork(1)
		o := operate(t, n, signer, map[uint64]issued{})
		for _, restarted := range []bool{true, false} {
			r := start(t, n, signer.Public(), fmt.Sprint("executor-", restarted), t.TempDir())
			o.change(10)
			time.Sleep(time.Minute)
			r.carrier.Cut()
			if restarted {
				r.stop()
			}
			for _, kind := range []fleetv1.StopKind{fleetv1.StopKind_STOP_KIND_KILL, fleetv1.StopKind_STOP_KIND_ABORT} {
				s, err := group.Stop(signer, name, "test", kind, o.revision(), kind.String(), time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if err := o.carrier.Stop(t.Context(), kind, s); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
			}
			r.carrier.Heal()
			if restarted {
				r.restart()
			}
			time.Sleep(time.Minute)
			r.wants(0)
			r.fake.mu.Lock()
			if got := len(r.fake.kills); got != 1 {
				t.Errorf("restarted %v: %d kills, want 1", restarted, got)
			}
			r.fake.mu.Unlock()
			r.stop()
			n.Wipe()
		}
	})
}

// Blocks are published in order, once each, whatever is in between.
func TestBlocks(t *testing.T) {
	bubble(t, func(n *grouptest.Network, o *operator, r *running) {
		published := func() (all int) {
			if err := o.carrier.Blocks(t.Context(), func([]byte) { all++ }); err != nil {
				t.Fatal(err)
			}
			return all
		}
		for range 3 {
			r.fake.close()
		}
		time.Sleep(5 * time.Second)
		if got := published(); got != 3 {
			t.Errorf("%d blocks are published, want 3", got)
		}
		r.carrier.Hang()
		r.fake.close()
		r.fake.close()
		time.Sleep(time.Minute)
		if got := testutil.ToFloat64(metric(r.Member, "ml_fleet_blocks_waiting")); got != 2 {
			t.Errorf("%g blocks wait, want 2", got)
		}
		r.carrier.Heal()
		r.restart()
		time.Sleep(5 * time.Second)
		if got := published(); got != 5 {
			t.Errorf("%d blocks are published, want 5", got)
		}
		n.Wipe() // what was acknowledged is not sent again
		r.restart()
		time.Sleep(5 * time.Second)
		if got := published(); got != 0 {
			t.Errorf("%d blocks are published again", got)
		}
	})
}

// metric returns a collector of one metric without labels.
func metric(h *Member, name string) prometheus.Collector { return only{h, name} }

type only struct {
	*Member

	name string
}

func (o only) Collect(to chan<- prometheus.Metric) {
	all := make(chan prometheus.Metric, 100)
	o.Member.Collect(all)
	close(all)
	for m := range all {
		if strings.Contains(m.Desc().String(), `"`+o.name+`"`) {
			to <- m
		}
	}
}

func TestMetrics(t *testing.T) {
	bubble(t, func(n *grouptest.Network, o *operator, r *running) {
		if problems, err := testutil.CollectAndLint(r.Member); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v (%v)", problems, err)
		}
		o.change(10)
		time.Sleep(time.Minute)
		value := func(name string) float64 { return testutil.ToFloat64(metric(r.Member, name)) }
		if connected, revision := value("ml_fleet_connected"), value("ml_fleet_record_revision"); connected != 1 || revision != float64(o.revision()) {
			t.Errorf("connected %g, revision %g", connected, revision)
		}
		if age := value("ml_fleet_renewal_age_seconds"); age > 6 {
			t.Errorf("the renewal is %g s old", age)
		}
		n.Forge()
		r.carrier.Cut()
		time.Sleep(time.Minute)
		if connected, age := value("ml_fleet_connected"), value("ml_fleet_renewal_age_seconds"); connected != 0 || age < 60 {
			t.Errorf("connected %g, renewal %g s old", connected, age)
		}
		if sum := r.refused[group.Invalid].Load() + r.refused[group.Untrusted].Load(); sum == 0 {
			t.Error("a forged message is not counted")
		}
		if !strings.Contains(r.Trouble(), "cannot be reached") {
			t.Errorf("trouble: %q", r.Trouble())
		}
	})
}

func TestRefusedRecord(t *testing.T) {
	bubble(t, func(_ *grouptest.Network, o *operator, r *running) {
		r.fake.mu.Lock()
		r.fake.refuse = errors.New("the gate is shut")
		r.fake.mu.Unlock()
		o.change(10)
		time.Sleep(10 * time.Second)
		r.wants(0)
		if got := o.reported("executor-1").GetTrouble(); got != "the gate is shut" {
			t.Errorf("the report says %q", got)
		}
		r.fake.mu.Lock()
		r.fake.refuse = nil
		r.fake.mu.Unlock()
		time.Sleep(group.ReportPeriod)
		r.wants(10)
	})
}

// A state that cannot be read may have had an abort: only a run that begins afterwards counts.
func TestUnusableState(t *testing.T) {
	bubble(t, func(_ *grouptest.Network, o *operator, r *running) {
		o.change(10)
		time.Sleep(time.Minute)
		r.wants(10)
		r.stop()
		path := filepath.Join(r.opts.Dir, fileName)
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.restart()
		time.Sleep(time.Minute)
		r.wants(0)
		o.change(15)
		time.Sleep(10 * time.Second)
		r.wants(0)
		o.begin()
		o.change(20)
		time.Sleep(10 * time.Second)
		r.wants(20)
		// Renewals alone write nothing.
		r.stop()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r.restart()
		time.Sleep(time.Hour)
		r.wants(20)
		r.stop()
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("renewals have changed the file: %s (%v)", after, err)
		}
	})
}

// TestChaos lets everything go wrong. At every step each share is at most that of the newest record that the executor has seen,
// and its last renewal was issued within the lease. In the end all work again.
func TestChaos(t *testing.T) {
	for _, size := range []struct{ seeds, executors, steps int }{{15, 1, 300}, {1, 50, 60}} {
		for seed := range size.seeds {
			t.Run(fmt.Sprintf("%d executors, seed %d", size.executors, seed), func(t *testing.T) {
				signer := newSigner(t)
				synctest.Test(t, func(t *testing.T) { chaos(t, signer, uint64(seed), size.executors, size.steps) })
			})
		}
	}
}

func chaos(t *testing.T, signer *dsse.Signer, seed uint64, executors, steps int) {
	rng := rand.New(rand.NewPCG(seed, 3))
	n := grouptest.NewNetwork(seed)
	all := map[uint64]issued{}
	o := operate(t, n, signer, all)
	var members []*running
	for i := range executors {
		members = append(members, start(t, n, signer.Public(), fmt.Sprint("executor-", i), t.TempDir()))
	}
	reached := 0
	check := func(step int) {
		t.Helper()
		synctest.Wait()
		o.lock()
		defer o.unlock()
		for _, m := range members {
			r := m.fake.inForce()
			if r == nil {
				continue
			}
			reached++
			m.mu.Lock()
			seen := m.follower.State()
			m.mu.Unlock()
			if age := time.Since(all[r.GetRevision()].last); age > lease {
				t.Fatalf("step %d: %s obeys %g %%, whose last renewal was issued %v ago", step, m.opts.ID, r.GetPercent(), age)
			}
			if newest := all[seen.Revision].percent; r.GetPercent() > newest {
				t.Fatalf("step %d: %s obeys %g %%, and the newest record that it has seen has %g %%", step, m.opts.ID, r.GetPercent(), newest)
			}
			if r.GetRevision() <= seen.Held {
				t.Fatalf("step %d: %s obeys revision %d, and %d is held", step, m.opts.ID, r.GetRevision(), seen.Held)
			}
		}
	}
	for step := range steps {
		switch m := members[rng.IntN(executors)]; rng.IntN(12) {
		case 0, 1, 2:
			n.Chaos()
		case 3:
			o.change(float64(rng.IntN(11) * 10))
		case 4: // another controller
			o.stop()
			o = operate(t, n, signer, all)
			o.change(10)
		case 5:
			m.restart()
		case 6:
			if rng.IntN(2) == 0 {
				m.abort()
			} else {
				m.Killed()
			}
		case 7:
			n.Heal()
		default:
			time.Sleep(time.Duration(rng.Int64N(int64(lease))))
		}
		check(step)
	}
	n.Heal()
	time.Sleep(time.Second)
	o.begin() // aborts of single executors hold for the sessions before
	o.change(50)
	time.Sleep(2 * lease)
	check(steps)
	for _, m := range members {
		m.wants(50)
	}
	if reached == 0 {
		t.Error("no share was ever in force: the test shows nothing")
	}
}

// A carrier that hangs delays neither an order nor the stop.
func TestStopWithHungCarrier(t *testing.T) {
	bubble(t, func(_ *grouptest.Network, o *operator, r *running) {
		o.change(10)
		time.Sleep(10 * time.Second)
		r.carrier.Hang()
		time.Sleep(10 * time.Second)
		begin := time.Now()
		r.Hold()
		r.Killed()
		r.wants(0)
		r.stop()
		if took := time.Since(begin); took > 0 {
			t.Errorf("a hold and a stop take %v", took)
		}
		if _, _, err := o.carrier.Record(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// An executor without a group has the series of one, all 0, so that a rule can tell a missing series from none.
func TestMetricsWithoutAGroup(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister((*Member)(nil))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			series[f.GetName()]++
			if v := m.GetGauge().GetValue() + m.GetCounter().GetValue(); v != 0 {
				t.Errorf("%s is %g", f.GetName(), v)
			}
		}
	}
	if want := len(group.Reasons()); len(series) != 5 || series["ml_fleet_refused_total"] != want {
		t.Errorf("got %v, want five metrics, and %d reasons", series, want)
	}
}

// A command is obeyed once, also if it is sent again. The failure of one is in the reports for as long as they count.
func TestCommands(t *testing.T) {
	bubble(t, func(n *grouptest.Network, o *operator, r *running) {
		time.Sleep(5 * time.Second)
		clearing := &fleetv1.Admission{
			Clear: []executorv1.GateLatch{executorv1.GateLatch_GATE_LATCH_KILLED}, LastSetTimes: []*timestamppb.Timestamp{timestamppb.Now()}, Reason: "found",
		}
		command := func(c *fleetv1.Admission) string {
			t.Helper()
			report := o.reported("executor-1")
			e, err := o.session.Command(c, report, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := o.carrier.Admit(t.Context(), "executor-1", e); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				n.Replay()
			}
			time.Sleep(group.ReportPeriod)
			return report.GetNonce()
		}
		answers := func(nonce string) {
			t.Helper()
			if got := o.reported("executor-1").GetCommandNonce(); got != nonce {
				t.Errorf("the report says that %q was obeyed, want %q", got, nonce)
			}
		}
		answers("")
		first := command(clearing)
		answers(first)
		r.fake.mu.Lock()
		if len(r.fake.commands) != 1 {
			t.Errorf("%d commands were obeyed, want 1", len(r.fake.commands))
		}
		r.fake.failing = errors.New("the disk is full")
		r.fake.mu.Unlock()
		command(clearing)
		answers(first)
		if got := o.reported("executor-1").GetTrouble(); got != "a command of test was not obeyed: the disk is full" {
			t.Errorf("the trouble is %q", got)
		}
		time.Sleep(group.Presence)
		if got := o.reported("executor-1").GetTrouble(); strings.Contains(got, "disk") {
			t.Errorf("the trouble stays: %q", got)
		}
		answers(command(&fleetv1.Admission{Reset_: true})) // the first record has not come yet
	})
}
