package gate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var model = strings.Repeat("ab", 32)

// standing is a rollout whose gate is in force until it is demoted.
type standing struct {
	mu      sync.Mutex
	now     Standing
	demoted []string
}

func (s *standing) Gate(time.Time) Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *standing) Demote(by, _, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Phase == InForce {
		s.demoted = append(s.demoted, by+": "+reason)
		s.now.Phase = Demoted
	}
}

// open starts a keeper in the folder with a gate for everything, until the test ends.
func open(t testing.TB, dir string, maxChanged float64) (*Keeper, *standing, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	k, err := Open(Options{Allowed: true, Dir: dir, Timeout: time.Minute, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(k.Stop))
	all, err := shadow.NewSampler("", 100)
	if err != nil {
		t.Fatal(err)
	}
	s := &standing{now: Standing{
		Terms:    &Terms{Limits: decide.Limits{Model: model, Disagreement: 1, High: 1}, All: true, Wait: time.Minute, MaxChanged: maxChanged},
		Revision: 7, Shares: all,
	}}
	k.Govern(s)
	schema, _ := known()
	domain := slices.Repeat([]decide.Range{{Low: -1, High: 1}}, schema.Len())
	k.Ask(func() shadow.Active { return shadow.Active{Digest: model, Schema: schema, Domain: domain} })
	return k, s, log
}

// known returns a schema and a state of it.
func known() (*feature.Schema, []float64) {
	schema, _ := feature.Lookup(feature.DefaultSchema)
	return schema, make([]float64, schema.Len())
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask makes a decision on a request with the scores of baseline and model.
func (k *Keeper) ask(t testing.TB, baseline, score float64) decide.Decision {
	schema, zero := known()
	p := k.Begin(t.Context(), &Case{ID: "r", Arrival: time.Now(), Baseline: baseline, State: shadow.State{Schema: schema, Vector: zero}})
	p.Advise(shadow.Result{Outcome: shadow.Match, Score: score, Digest: model})
	d, _ := p.Decision()
	return d
}

func refusal(t testing.TB, err error) string {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return status.Code(err).String() + " " + info.GetReason()
		}
	}
	return fmt.Sprint(err)
}

// The budget matches a list of all requests, over hours and gaps.
func TestBudgetMatchesAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, 3))
			var b budget
			begin := time.Now()
			b.restore(begin, nil)
			percent := []float64{0.5, 10, 50}[seed%3]
			var requests, changes []int
			refused, granted := 0, 0
			for range 20_000 {
				if rng.IntN(200) == 0 {
					time.Sleep(time.Duration(rng.IntN(int(20 * time.Minute))))
				}
				if rng.IntN(8000) == 0 {
					time.Sleep(3 * time.Hour)
				}
				now := time.Now()
				minute := int(now.Sub(begin) / time.Minute)
				requests = append(requests, minute)
				b.request(now)
				count := func(minutes []int) (n uint64) {
					for i := len(minutes) - 1; i >= 0 && minutes[i] > minute-60; i-- {
						n++
					}
					return n
				}
				if rng.IntN(3) == 0 {
					limit := uint64(100)
					if n := count(requests); n >= 1000 {
						limit = uint64(float64(n) * percent / 100)
					}
					want := count(changes) < limit
					if got := b.change(now, percent); got != want {
						t.Fatalf("seed %d, minute %d: got %v with %d changes of %d requests", seed, minute, got, count(changes), count(requests))
					}
					if want {
						changes = append(changes, minute)
						granted++
					} else {
						refused++
					}
				}
				if sum := b.now(now); sum.Requests != count(requests) || sum.Changed != count(changes) {
					t.Fatalf("seed %d, minute %d: %+v, want %d of %d", seed, minute, sum, count(changes), count(requests))
				}
			}
			if refused < 100 || granted < 100 {
				t.Errorf("seed %d: %d refused, %d granted: too few to tell", seed, refused, granted)
			}
		}
	})
}

// However many requests are decided concurrently, the model changes exactly as many as it may, and the next one shuts the gate.
func TestBudgetIsExactUnderConcurrency(t *testing.T) {
	for _, tt := range []struct {
		name                string
		others, least, most int
		percent             float64
	}{{"few requests", 0, 100, 100, 50}, {"many", 2000, 105, 110, 5}} {
		t.Run(tt.name, func(t *testing.T) {
			k, s, _ := open(t, t.TempDir(), tt.percent)
			for range tt.others {
				if d := k.ask(t, 0.5, 0.54); !d.ByModel() { // no change
					t.Fatal(d)
				}
			}
			const callers, each = 8, 25
			var mu sync.Mutex
			var group sync.WaitGroup
			got := map[string]int{}
			for range callers {
				group.Go(func() {
					for range each {
						d := k.ask(t, 0.5, 0.7)
						if (d.Score == 0.7) != d.ByModel() || d.Score != 0.7 && d.Score != 0.5 {
							t.Error(d)
						}
						mu.Lock()
						got[d.Reason.String()]++
						mu.Unlock()
					}
				})
			}
			group.Wait()
			// With many requests the limit grows with them: from 105, when they come one by one, to 5 % of all 2,200.
			changed := got[""]
			if changed < tt.least || changed > tt.most || changed+got["budget_spent"] != callers*each {
				t.Errorf("got %v, want %d to %d by the model", got, tt.least, tt.most)
			}
			l := k.Status().GetLatches()
			if len(l) != 1 || l[0].GetLatch() != spent || l[0].GetSetBy() != byExecutor || len(s.demoted) != 1 || !strings.HasPrefix(s.demoted[0], "executor: budget_spent: the model has changed 1") {
				t.Errorf("latches %v, demoted %q", l, s.demoted)
			}
			if st := k.Status(); st.GetHourChanged() != uint64(changed) || st.GetHourRequests() != uint64(tt.others+callers*each) || st.GetOpen() {
				t.Errorf("%v", st)
			}
		})
	}
}

// The count of changed requests survives a stop, a kill and a crash loop. A clock that is set back does not increase the budget.
func TestBudgetSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		k, _, _ := open(t, dir, 50)
		for range 10 {
			if d := k.ask(t, 0.5, 0.7); !d.ByModel() {
				t.Fatalf("start %d: %v", i, d)
			}
		}
		if i%2 == 0 {
			k.Stop()
		} else { // a kill: nothing more is written
			path := filepath.Join(dir, fileName)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			k.Stop()
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	k, s, _ := open(t, dir, 50)
	if sum := k.budget.now(time.Now()); sum.Changed != 100 {
		t.Errorf("%+v, want 100 changes", sum)
	}
	if d := k.ask(t, 0.5, 0.7); d.Reason != decide.BudgetSpent || len(s.demoted) != 1 {
		t.Errorf("%v, %q", d, s.demoted)
	}
	k.Stop()
	// Two hours back, the hour has not passed.
	var b budget
	b.restore(time.Now().Add(-2*time.Hour), k.budget.copy(time.Now()))
	if sum := b.now(b.began.Add(time.Minute)); sum.Changed != 100 {
		t.Errorf("after the clock was set back: %+v", sum)
	}
	b = budget{}
	b.restore(time.Now().Add(2*time.Hour), k.budget.copy(time.Now()))
	if sum := b.now(b.began); sum.Changed != 0 {
		t.Errorf("two hours later: %+v", sum)
	}
}

// Latches survive restarts with who, why and when. Clearing needs a reason and does not open the gate.
func TestLatches(t *testing.T) {
	dir := t.TempDir()
	k, s, _ := open(t, dir, 10)
	if st := k.Status(); !st.GetAllowed() || !st.GetOpen() || len(st.GetLatches()) != 0 {
		t.Errorf("%v", st)
	}
	for i, tt := range []struct {
		do   func() error
		want string
	}{
		{func() error { return k.Alarm(spent, model, "x", "", "") }, "InvalidArgument GATE_INVALID"},
		{func() error { return k.Alarm(quality, "other", "x", "", "") }, "FailedPrecondition GATE_NOT_SET"},
		{func() error { return k.Clear([]executorv1.GateLatch{quality}, "x", "", "why") }, "FailedPrecondition GATE_NOT_SET"},
		{func() error { return k.Alarm(quality, model, "token:agent", "127.0.0.1:1", "it is worse") }, "<nil>"},
		{func() error { return k.Alarm(drift, model, "token:agent", "", "it moved") }, "<nil>"},
		{func() error { return k.Kill("san:ops", "127.0.0.1:2", "fire") }, "<nil>"},
		{func() error { return k.Kill("token:other", "", "again") }, "<nil>"},
		{func() error { return k.Clear(nil, "x", "", "why") }, "InvalidArgument FIELD_INVALID"},
		{func() error { return k.Clear([]executorv1.GateLatch{quality}, "x", "", "") }, "InvalidArgument FIELD_INVALID"},
		{func() error { return k.Clear([]executorv1.GateLatch{9}, "x", "", "why") }, "InvalidArgument GATE_INVALID"},
		{func() error { return k.Clear([]executorv1.GateLatch{drift, spent}, "x", "", "why") }, "FailedPrecondition GATE_NOT_SET"},
	} {
		if got := refusal(t, tt.do()); got != tt.want {
			t.Errorf("%d: got %s, want %s", i, got, tt.want)
		}
	}
	if want := []string{"token:agent: quality_alarm: it is worse"}; len(s.demoted) != 1 || s.demoted[0] != want[0] {
		t.Errorf("demoted %q, want %q", s.demoted, want)
	}
	before := k.Status().GetLatches()
	k.Stop()
	k, s, _ = open(t, dir, 10)
	after := k.Status().GetLatches()
	if fmt.Sprint(before) != fmt.Sprint(after) || len(after) != 3 || after[0].GetSetBy() != "san:ops" || after[0].GetReason() != "fire" || len(s.demoted) != 1 {
		t.Errorf("got %v and demoted %q, want %v", after, s.demoted, before)
	}
	if got := refusal(t, k.Refused()); got != "FailedPrecondition GATE_LATCHED" {
		t.Error(got)
	}
	if err := k.Clear([]executorv1.GateLatch{killed, quality}, "x", "", "found and fixed"); err != nil {
		t.Fatal(err)
	}
	k.Stop()
	k, _, _ = open(t, dir, 10)
	if l := k.Status().GetLatches(); len(l) != 1 || l[0].GetLatch() != drift {
		t.Errorf("%v", l)
	}
	if err := k.Clear([]executorv1.GateLatch{drift}, "x", "", "over"); err != nil {
		t.Fatal(err)
	}
	if err := k.Refused(); err != nil {
		t.Error(err)
	}
	k.rollout.(*standing).now.Phase = Demoted
	if p := k.Begin(t.Context(), &Case{ID: "x", Arrival: time.Now(), Baseline: 0.5}); p != nil {
		t.Error("all latches of a demoted gate are cleared, and it is still set")
	}
}

// A person who has seen an earlier kill cannot clear a later one, whether or not the latch was cleared in between. The time of
// a kill stays the same across a restart and when the clock is set back.
func TestClearSeen(t *testing.T) {
	dir := t.TempDir()
	k, _, _ := open(t, dir, 10)
	which := []executorv1.GateLatch{killed}
	kill := func() []*timestamppb.Timestamp {
		t.Helper()
		if err := k.Kill("x", "", "why"); err != nil {
			t.Fatal(err)
		}
		l := k.Status().GetLatches()[0]
		return []*timestamppb.Timestamp{cmp.Or(l.GetLastSetTime(), l.GetSetTime())}
	}
	stays := func(seen []*timestamppb.Timestamp) {
		t.Helper()
		if got := refusal(t, k.ClearSeen(which, seen, "x", "", "found")); got != "Aborted GATE_LATCHED" || !k.latched.Load().any() {
			t.Errorf("got %s", got)
		}
	}
	first := kill()
	second := kill()
	stays(first)
	k.Stop()
	k, _, _ = open(t, dir, 10)
	stays(first)
	if got := refusal(t, k.ClearSeen(which, append(first, second...), "x", "", "found")); got != "InvalidArgument FIELD_INVALID" {
		t.Errorf("with two times: %s", got)
	}
	if err := k.ClearSeen(which, second, "x", "", "found"); err != nil || k.latched.Load().any() {
		t.Errorf("got %v", err)
	}
	third := kill()
	stays(second)
	ahead := *k.latched.Load()[killed]
	ahead.Last = time.Now().Add(time.Hour)
	k.latched.Store(&latches{killed: &ahead})
	if at := kill()[0].AsTime(); !at.After(ahead.Last) {
		t.Errorf("set again at %s, before %s", at, ahead.Last)
	}
	stays(third)
}

// A kill while an earlier one is being cleared stays.
func TestKillDuringAClear(t *testing.T) {
	dir := t.TempDir()
	k, _, _ := open(t, dir, 10)
	if err := k.Kill("x", "", "first"); err != nil {
		t.Fatal(err)
	}
	first := k.latched.Load()[killed]
	release := durabletest.Hang(t, dir)
	cleared := make(chan error)
	go func() { cleared <- k.Clear([]executorv1.GateLatch{killed}, "x", "", "why") }()
	for k.saver.Hold(time.Millisecond) == nil { // until Clear holds it
		k.saver.Release()
	}
	again := make(chan error)
	go func() { again <- k.Kill("y", "", "second") }()
	for k.latched.Load()[killed] == first {
		time.Sleep(time.Millisecond)
	}
	release()
	if got := refusal(t, <-cleared); got != "Aborted GATE_LATCHED" {
		t.Error(got)
	}
	if err := <-again; err != nil {
		t.Error(err)
	}
	k.Stop()
	k, _, _ = open(t, dir, 10)
	if l := k.Status().GetLatches(); len(l) != 1 || l[0].GetReason() != "first" {
		t.Errorf("after a restart: %v", l)
	}
}

// The kill file takes effect at the next decision, and within a second in the status, and its latch stays.
func TestKillFile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := open(t, dir, 10)
		file := filepath.Join(dir, killName)
		if d := k.ask(t, 0.5, 0.51); !d.ByModel() {
			t.Errorf("%v", d)
		}
		write(t, file, "")
		if d := k.ask(t, 0.5, 0.51); d.Reason != decide.Killed {
			t.Errorf("%v", d)
		}
		if got := refusal(t, k.Clear([]executorv1.GateLatch{killed}, "x", "", "why")); got != "FailedPrecondition GATE_LATCHED" {
			t.Error(got)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if d := k.ask(t, 0.5, 0.51); d.Reason != decide.Killed {
			t.Errorf("without the file: %v", d)
		}
		if err := k.Clear([]executorv1.GateLatch{killed}, "x", "", "why"); err != nil {
			t.Error(err)
		}
		s.now.Phase, s.demoted = InForce, nil
		if d := k.ask(t, 0.5, 0.51); !d.ByModel() {
			t.Errorf("%v", d)
		}
		// Without a request it takes effect within a second. A dangling link counts as a file, too.
		if err := os.Symlink("nothing", file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.demoted) != 1 || !strings.HasPrefix(s.demoted[0], "file: killed: "+file) {
			t.Errorf("demoted %q", s.demoted)
		}
	})
}

// A file that cannot be read, or has impossible content, is a kill.
func TestUnreadableState(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "cut off": `{"schema":"greenlight/gate/v1","latches":[`, "another schema": `{"schema":"greenlight/gate/v9"}`,
		"unknown latch": `{"schema":"greenlight/gate/v1","latches":[{"latch":"tired"}]}`,
		"twice":         `{"schema":"greenlight/gate/v1","latches":[{"latch":"killed"},{"latch":"killed"}]}`,
		"no latch":      `{"schema":"greenlight/gate/v1","latches":[{"latch":"unspecified"}]}`,
		"minutes":       `{"schema":"greenlight/gate/v1","hour":[{"minute":-1}]}`,
		"minute twice":  `{"schema":"greenlight/gate/v1","hour":[{"minute":1},{"minute":61}]}`,
		"counts":        `{"schema":"greenlight/gate/v1","hour":[{"minute":1,"changed":18446744073709551615}]}`,
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, fileName), content)
		k, s, _ := open(t, dir, 10)
		l := k.Status().GetLatches()
		if len(l) != 1 || l[0].GetLatch() != killed || l[0].GetReason() != "gate.json could not be read" || len(s.demoted) != 1 {
			t.Errorf("%s: %v, demoted %q", name, l, s.demoted)
		}
		k.Stop()
		k, _, _ = open(t, dir, 10)
		if l := k.Status().GetLatches(); len(l) != 1 {
			t.Errorf("%s: after a restart: %v", name, l)
		}
		if aside, _ := filepath.Glob(filepath.Join(dir, "*unusable*")); len(aside) != 1 {
			t.Errorf("%s: set aside as %q", name, aside)
		}
		k.Stop()
	}
}

// A lost counter kills the gate once, and does not reduce the counts in the state, whether of a spent budget or of an unwritten
// latch.
func TestLostCounter(t *testing.T) {
	broken := durabletest.BrokenCounters()
	broken["missing"] = nil
	for name, content := range broken {
		for _, counter := range []string{counterName, setsName} {
			t.Run(counter+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				k, _, _ := open(t, dir, 50)
				for range 7 {
					k.ask(t, 0.5, 0.7)
				}
				if err := errors.Join(k.Alarm(drift, model, "x", "", "moved"), k.Clear([]executorv1.GateLatch{drift}, "x", "", "over")); err != nil {
					t.Fatal(err)
				}
				k.Stop()
				path, reason := filepath.Join(dir, counter), counter+" could not be read"
				if content != nil {
					write(t, path, string(content))
				} else if err := os.Remove(path); err != nil {
					t.Fatal(err)
				} else {
					reason = counter + " is missing"
				}
				for start := range 2 { // the second one finds the latch in the state
					k, s, log := open(t, dir, 50)
					l := k.Status().GetLatches()
					if len(l) != 1 || l[0].GetLatch() != killed || l[0].GetSetBy() != byExecutor || l[0].GetReason() != reason || len(s.demoted) != 1 {
						t.Errorf("start %d: %v, demoted %q", start, l, s.demoted)
					}
					aside, err := filepath.Glob(path + ".unusable-*")
					if err != nil || (content != nil) != (len(aside) == 1) {
						t.Errorf("start %d: set aside as %q, %v", start, aside, err)
					}
					if logged := strings.Contains(log.String(), "level=ERROR"); logged != (start == 0) || logged && content != nil && !strings.Contains(log.String(), "set_aside_as="+aside[0]) {
						t.Errorf("start %d: the log is %s", start, log)
					}
					if changed, sets := k.budget.total.Load(), k.sets.Load(); changed != 7 || sets != 1 || k.Status().GetHourChanged() != 7 {
						t.Errorf("start %d: %d changes, %d latches set, want 7, 1; %v", start, changed, sets, k.Status())
					}
					k.Stop()
				}
				// A person clears it. Later changes and unwritten latches are not forgotten.
				k, s, _ := open(t, dir, 50)
				if err := k.Clear([]executorv1.GateLatch{killed}, "x", "", "looked into"); err != nil {
					t.Fatal(err)
				}
				s.now.Phase = InForce
				repair := durabletest.FailFiles(t, dir)
				k.ask(t, 0.5, 0.7)
				_ = k.Kill("x", "", "why")
				after := t.TempDir()
				if err := os.CopyFS(after, os.DirFS(dir)); err != nil { // as a kill of the process leaves it
					t.Fatal(err)
				}
				repair()
				k.Stop()
				k, _, _ = open(t, after, 50)
				if l := k.Status().GetLatches(); len(l) != 1 || l[0].GetLatch() != killed || k.Status().GetHourChanged() != 8 {
					t.Errorf("after a kill: %v, %v", l, k.Status())
				}
				k.Stop()
			})
		}
	}
}

// With an unreadable state on a failing disk the start fails, and the next start does not forget it.
func TestUnreadableStateOnAFailingDisk(t *testing.T) {
	dir := t.TempDir()
	k, _, _ := open(t, dir, 50)
	k.Stop()
	write(t, filepath.Join(dir, fileName), "")
	repair := durabletest.FailFiles(t, dir)
	for range 2 {
		if k, err := Open(Options{Allowed: true, Dir: dir, Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}); err == nil {
			t.Error("the gate begins without the latch on disk")
			k.Stop()
		}
	}
	repair()
	for range 2 {
		k, _, _ = open(t, dir, 50)
		if l := k.Status().GetLatches(); len(l) != 1 || l[0].GetReason() != fileName+" could not be read" {
			t.Errorf("%v", l)
		}
		k.Stop()
	}
}

// A missing state kills the gate if a counter shows that there was one, and the changes count.
func TestMissingState(t *testing.T) {
	for name, was := range map[string]func(k *Keeper){
		"a change": func(k *Keeper) { k.ask(t, 0.5, 0.7) },
		"a latch": func(k *Keeper) {
			_ = errors.Join(k.Alarm(drift, model, "x", "", "moved"), k.Clear([]executorv1.GateLatch{drift}, "x", "", "over"))
		},
		"nothing": nil,
	} {
		dir, want := t.TempDir(), 0
		k, _, _ := open(t, dir, 50)
		if was != nil {
			was(k)
			want = 1
		}
		changed := k.budget.total.Load()
		k.Stop()
		if err := os.Remove(filepath.Join(dir, fileName)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			k, _, log := open(t, dir, 50)
			l := k.Status().GetLatches()
			if len(l) != want || want == 1 && (l[0].GetLatch() != killed || l[0].GetReason() != fileName+" is missing") || k.Status().GetHourChanged() != changed {
				t.Errorf("%s: %v\n%s", name, k.Status(), log)
			}
			k.Stop()
		}
	}
}

// With a lost counter on a failing disk the start fails, and the next start does not forget it.
func TestLostCounterOnAFailingDisk(t *testing.T) {
	dir := t.TempDir()
	k, _, _ := open(t, dir, 50)
	k.Stop()
	write(t, filepath.Join(dir, setsName), "7 bytes")
	repair := durabletest.FailFiles(t, dir)
	if _, err := Open(Options{Allowed: true, Dir: dir, Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("the gate begins without its counter")
	}
	repair()
	k, _, _ = open(t, dir, 50)
	defer k.Stop()
	if l := k.Status().GetLatches(); len(l) != 1 || l[0].GetReason() != setsName+" is missing" {
		t.Errorf("%v", l)
	}
}

// If a power cut restores an older counter, later latches and changes do not fall below the counts in the state.
func TestOlderCounter(t *testing.T) {
	dir, after := t.TempDir(), t.TempDir()
	k, s, _ := open(t, dir, 50)
	_ = k.Kill("x", "", "why")
	_ = k.Clear([]executorv1.GateLatch{killed}, "x", "", "over")
	s.now.Phase = InForce
	k.ask(t, 0.5, 0.7)
	k.Stop()
	for _, name := range []string{counterName, setsName} {
		c, err := durable.CreateCounter(filepath.Join(dir, name), 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	k, _, _ = open(t, dir, 50)
	repair := durabletest.FailFiles(t, dir)
	k.ask(t, 0.5, 0.7)
	_ = k.Kill("x", "", "again")
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil { // as a kill of the process leaves it
		t.Fatal(err)
	}
	repair()
	k.Stop()
	k, _, _ = open(t, after, 50)
	defer k.Stop()
	if l := k.Status().GetLatches(); len(l) != 1 || k.Status().GetHourChanged() != 2 {
		t.Errorf("%v, %v; want a latch and 2 changes", l, k.Status())
	}
}

// A latch that could not be written to a full disk is not forgotten if the process is killed or the file is lost.
func TestLatchThatIsNotWritten(t *testing.T) {
	killing := func(k *Keeper) { _ = k.Kill("x", "", "why") }
	alarm := func(k *Keeper) { _ = k.Alarm(drift, model, "x", "", "why") }
	for name, tt := range map[string]struct {
		before  func(k *Keeper)
		lost    func(k *Keeper)
		removed bool
		want    int
	}{
		"kill":             {nil, killing, false, 1},
		"alarm":            {nil, alarm, false, 1},
		"alarm after kill": {killing, alarm, false, 1},
		"none":             {nil, nil, false, 0},
		"the file":         {killing, nil, true, 1},
		"cleared":          {func(k *Keeper) { killing(k); _ = k.Clear([]executorv1.GateLatch{killed}, "x", "", "why") }, nil, false, 0},
	} {
		dir, after := t.TempDir(), t.TempDir()
		k, _, _ := open(t, dir, 10)
		if tt.before != nil {
			tt.before(k)
		}
		repair := durabletest.FailFiles(t, dir)
		if tt.lost != nil {
			tt.lost(k)
		}
		if err := os.CopyFS(after, os.DirFS(dir)); err != nil { // as a kill of the process leaves it
			t.Fatal(err)
		}
		repair()
		if tt.removed {
			if err := os.Remove(filepath.Join(after, fileName)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			k, s, _ := open(t, after, 10)
			if l := k.Status().GetLatches(); len(l) != tt.want || len(s.demoted) != tt.want || tt.want == 1 && l[0].GetLatch() != killed {
				t.Errorf("%s: %v, demoted %q", name, l, s.demoted)
			}
			k.Stop()
		}
	}
}

// A kill takes effect even if the disk fails, and the call reports the failure. A latch that cannot be cleared on disk stays.
func TestFailingDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k, s, _ := open(t, dir, 10)
		repair := durabletest.FailFiles(t, dir)
		if got := refusal(t, k.Kill("x", "", "why")); got != "Internal STATE_NOT_WRITTEN" {
			t.Error(got)
		}
		if d := k.ask(t, 0.5, 0.51); d.Reason != decide.Killed || len(s.demoted) != 1 || k.Trouble() == "" {
			t.Errorf("%v, demoted %q, %q", d, s.demoted, k.Trouble())
		}
		if got := refusal(t, k.Clear([]executorv1.GateLatch{killed}, "x", "", "why")); got != "Internal STATE_NOT_WRITTEN" || k.Refused() == nil {
			t.Error(got)
		}
		repair()
		time.Sleep(writePeriod)
		synctest.Wait()
		if k.Trouble() != "" {
			t.Error(k.Trouble())
		}
		if err := k.Clear([]executorv1.GateLatch{killed}, "x", "", "why"); err != nil {
			t.Error(err)
		}
	})
}

// Terms that are out of range are refused, and valid ones survive a round trip through their record.
func TestTerms(t *testing.T) {
	valid := func() *executorv1.Gate { return &executorv1.Gate{ModelDigest: model, AllSymbols: true} }
	for name, change := range map[string]func(*executorv1.Gate, *float64, *float64){
		"digest":          func(g *executorv1.Gate, _, _ *float64) { g.ModelDigest = strings.ToUpper(model) },
		"short digest":    func(g *executorv1.Gate, _, _ *float64) { g.ModelDigest = model[:63] },
		"observe":         func(g *executorv1.Gate, _, _ *float64) { g.ObservePercent = new(100.1) },
		"observe NaN":     func(g *executorv1.Gate, _, _ *float64) { g.ObservePercent = new(math.NaN()) },
		"percent":         func(g *executorv1.Gate, p, _ *float64) { g.ObservePercent, *p = new(5.0), 5.1 },
		"low":             func(g *executorv1.Gate, _, _ *float64) { g.MinScore = new(-0.1) },
		"high":            func(g *executorv1.Gate, _, _ *float64) { g.MaxScore = new(1.1) },
		"low over high":   func(g *executorv1.Gate, _, _ *float64) { g.MinScore, g.MaxScore = new(0.6), new(0.5) },
		"no changes":      func(g *executorv1.Gate, _, _ *float64) { g.MaxChangedPercent = new(0.0) },
		"changes":         func(g *executorv1.Gate, _, _ *float64) { g.MaxChangedPercent = new(100.5) },
		"wait 0":          func(g *executorv1.Gate, _, _ *float64) { g.WaitBudget = &durationpb.Duration{} },
		"wait":            func(g *executorv1.Gate, _, _ *float64) { g.WaitBudget = durationpb.New(61 * time.Millisecond) },
		"invalid wait":    func(g *executorv1.Gate, _, _ *float64) { g.WaitBudget = &durationpb.Duration{Seconds: 1, Nanos: -1} },
		"cap 0":           func(_ *executorv1.Gate, _, d *float64) { *d = 0 },
		"both symbols":    func(g *executorv1.Gate, _, _ *float64) { g.Symbols = []string{"S"} },
		"no symbols":      func(g *executorv1.Gate, _, _ *float64) { g.AllSymbols = false },
		"an empty symbol": func(g *executorv1.Gate, _, _ *float64) { g.AllSymbols, g.Symbols = false, []string{"S", ""} },
		"a long symbol": func(g *executorv1.Gate, _, _ *float64) {
			g.AllSymbols, g.Symbols = false, []string{strings.Repeat("x", 65)}
		},
		"one twice": func(g *executorv1.Gate, _, _ *float64) { g.AllSymbols, g.Symbols = false, []string{"S", "T", "S"} },
		"too many": func(g *executorv1.Gate, _, _ *float64) {
			g.AllSymbols = false
			for i := range 1001 {
				g.Symbols = append(g.GetSymbols(), fmt.Sprint(i))
			}
		},
	} {
		g, percent, d := valid(), 5.0, 0.2
		change(g, &percent, &d)
		if terms, err := TermsOf(g, percent, d, 60*time.Millisecond); err == nil {
			t.Errorf("%s: got %+v", name, terms)
		}
	}
	many := valid()
	many.AllSymbols, many.WaitBudget, many.MinScore = false, durationpb.New(1234567), new(0.25)
	for i := range 1000 {
		many.Symbols = append(many.GetSymbols(), fmt.Sprint(1000-i))
	}
	for _, g := range []*executorv1.Gate{valid(), many} {
		terms, err := TermsOf(g, 5, 0.2, 60*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(terms.Record())
		if err != nil {
			t.Fatal(err)
		}
		var record Record
		if err := json.Unmarshal(raw, &record); err != nil {
			t.Fatal(err)
		}
		back, err := record.Terms(5, 0.2)
		if err != nil || !back.Equal(terms) {
			t.Errorf("got %+v (%v), want %+v", back, err, terms)
		}
		if again, err := TermsOf(terms.Proto(), 5, 0.2, 60*time.Millisecond); err != nil || !again.Equal(terms) {
			t.Errorf("got %+v (%v), want %+v", again, err, terms)
		}
	}
	terms, _ := TermsOf(valid(), 5, 0.2, 60*time.Millisecond)
	if want := (&Terms{Limits: decide.Limits{Model: model, Disagreement: 0.2, High: 1}, Observe: 100, All: true, Wait: 5 * time.Millisecond, MaxChanged: 10}); !terms.Equal(want) {
		t.Errorf("the defaults are %+v, want %+v", terms, want)
	}
}

// Every reason and outcome has its counterpart in the contract, with the same number.
func TestContract(t *testing.T) {
	for n, name := range executorv1.FallbackReason_name {
		if want := strings.ToUpper(decide.Reason(n).String()); n > 0 && name != "FALLBACK_REASON_"+want {
			t.Errorf("reason %d is %s, and %s in the contract", n, want, name)
		}
	}
	if got, want := len(executorv1.FallbackReason_name), len(decide.Reasons())+1; got != want {
		t.Errorf("%d reasons in the contract, want %d", got, want)
	}
	for _, o := range shadow.Outcomes() {
		if _, known := failures[o]; !known {
			t.Errorf("outcome %s has no reason", o)
		}
		if o != shadow.NotSampled && !o.Compared() && failures[o].String() != o.String() {
			t.Errorf("outcome %s is reason %s", o, failures[o])
		}
	}
}
