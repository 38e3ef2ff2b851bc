package rollout

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a keeper with the options, and its log.
func open(t *testing.T, o Options) (*Keeper, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k, log
}

// parse returns the rollout that a start of the keeper reads.
func parse(k *Keeper, raw []byte) (*Rollout, error) {
	f, err := k.file.Parse(raw)
	if err != nil {
		return nil, err
	}
	return f.rollout(time.Now())
}

func must(t *testing.T, k *Keeper, c change) *Rollout {
	t.Helper()
	r, err := k.set(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// refusal returns the code and the reason of an error: "Aborted REVISION_CHANGED".
func refusal(t *testing.T, err error) string {
	t.Helper()
	s := status.Convert(err)
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "executor.greenlight" {
			return s.Code().String() + " " + info.GetReason()
		}
	}
	return fmt.Sprint(err)
}

// canary returns a change as a canary makes it.
func canary(percent float64, lease time.Duration) change {
	return change{percent: percent, mode: observe, lease: lease, holder: "run-1", by: "token", reason: "phase"}
}

func TestSetIsInForceForTheNextRequest(t *testing.T) {
	k, _ := open(t, Options{Percent: 0})
	for i, percent := range []float64{100, 0, 100} {
		mode := observe
		if percent == 0 {
			mode = off
		}
		r := must(t, k, change{percent: percent, mode: mode, by: "loopback", from: "127.0.0.1:1", reason: "because"})
		if got := k.Sampled("any", time.Now()); got != (percent == 100) {
			t.Errorf("%g %%: sampled %v", percent, got)
		}
		want := &executorv1.Rollout{Percent: percent, Mode: mode, Revision: uint64(i + 2), SetBy: "loopback", SetFrom: "127.0.0.1:1", Reason: "because", SetTime: r.proto().GetSetTime()}
		if got := k.Report(); got.String() != want.String() {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// A larger percentage includes the requests of every smaller one, and the share of requests is right.
func TestSharesAreNested(t *testing.T) {
	const n = 20_000
	k, _ := open(t, Options{Salt: "salt"})
	before := make(map[string]bool)
	for _, percent := range []float64{5, 10, 25, 50, 100} {
		must(t, k, change{percent: percent, mode: observe, by: "token"})
		now := make(map[string]bool)
		for i := range n {
			if id := fmt.Sprint("request-", i); k.Sampled(id, time.Now()) {
				now[id] = true
			}
		}
		// Five standard deviations of a binomial.
		p := percent / 100
		if d := float64(len(now)) - p*n; d*d > 25*n*p*(1-p) {
			t.Errorf("%g %%: %d of %d", percent, len(now), n)
		}
		for id := range before {
			if !now[id] {
				t.Fatalf("%s is in the share before and not in %g %%", id, percent)
			}
		}
		before = now
	}
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, log := open(t, Options{Percent: 0})
		reg := prometheus.NewRegistry()
		reg.MustRegister(k)
		first := must(t, k, canary(100, 30*time.Second))
		time.Sleep(20 * time.Second)
		renewed := must(t, k, canary(100, 30*time.Second))
		if renewed.Revision != first.Revision || !renewed.Time.Equal(first.Time) {
			t.Errorf("a renewal is revision %d at %v, want %d at %v", renewed.Revision, renewed.Time, first.Revision, first.Time)
		}
		time.Sleep(29 * time.Second)
		if !k.Sampled("a", time.Now()) {
			t.Error("a lease that was renewed has lapsed")
		}
		if got := gauge(t, reg, "ml_rollout_lease_seconds"); got != 1 {
			t.Errorf("lease of %g s left, want 1", got)
		}
		lapse := time.Now().Add(time.Second)
		// The arrival decides: no timer has to fire first.
		if !k.Sampled("a", lapse.Add(-time.Nanosecond)) || k.Sampled("a", lapse) {
			t.Error("a request at the lapse: want none, and one just before it")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		got := k.Report()
		if got.GetPercent() != 0 || got.GetMode() != off || got.GetRevision() != first.Revision+1 || got.GetSetBy() != "executor" || got.GetHolder() != "" ||
			!strings.Contains(got.GetReason(), "run-1 was not renewed for 30s") || !got.GetSetTime().AsTime().Equal(lapse) {
			t.Errorf("after the lapse: %v", got)
		}
		if !strings.Contains(log.String(), "a lease has lapsed") || gauge(t, reg, "ml_rollout_percent") != 0 || gauge(t, reg, "ml_rollout_lease_seconds") != 0 {
			t.Errorf("the lapse is not logged: %s", log)
		}
		// Its holder may set it again with the new revision.
		_, err := k.set(change{percent: 5, mode: observe, lease: time.Minute, holder: "run-1", expected: first.Revision})
		if got := refusal(t, err); got != "Aborted REVISION_CHANGED" {
			t.Errorf("a change that knows of no lapse: %s", got)
		}
		must(t, k, canary(5, time.Minute))
	})
}

func gauge(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

func TestMetrics(t *testing.T) {
	k, _ := open(t, Options{Percent: 0})
	must(t, k, change{percent: 25, mode: observe, by: "token"})
	want := `
# HELP ml_executor_info Always 1, with the random id of this process: two scrapes with the same id come from one executor.
# TYPE ml_executor_info gauge
ml_executor_info{instance_id="` + k.instance + `"} 1
# HELP ml_gate_percent Percentage of the requests that the model may decide, in [0,100], before the list of symbols; 0 unless the mode is GATED.
# TYPE ml_gate_percent gauge
ml_gate_percent 0
# HELP ml_rollout_lease_seconds Remaining time of the rollout's lease, in seconds; 0 without a lease.
# TYPE ml_rollout_lease_seconds gauge
ml_rollout_lease_seconds 0
# HELP ml_rollout_mode 1 for the current mode of the rollout, 0 for the others.
# TYPE ml_rollout_mode gauge
ml_rollout_mode{mode="gated"} 0
ml_rollout_mode{mode="observe_only"} 1
ml_rollout_mode{mode="off"} 0
# HELP ml_rollout_percent Percentage of the requests that get a shadow, in [0,100]; in mode GATED the gate's observe_percent.
# TYPE ml_rollout_percent gauge
ml_rollout_percent 25
# HELP ml_rollout_state_write_errors_total Failed writes of the rollout to the state folder.
# TYPE ml_rollout_state_write_errors_total counter
ml_rollout_state_write_errors_total 0
`
	if err := testutil.CollectAndCompare(k, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	lease := 30 * time.Second
	for name, tt := range map[string]struct {
		change change
		want   string
	}{
		"more than all":          {change{percent: 100.1, mode: observe}, "InvalidArgument PERCENT_INVALID"},
		"less than none":         {change{percent: -1, mode: observe}, "InvalidArgument PERCENT_INVALID"},
		"some, and off":          {change{percent: 5, mode: off}, "InvalidArgument PERCENT_INVALID"},
		"no mode":                {change{percent: 5}, "InvalidArgument MODE_INVALID"},
		"a mode of the future":   {change{percent: 5, mode: 7}, "InvalidArgument MODE_INVALID"},
		"a short lease":          {change{percent: 5, mode: observe, holder: "run-1", lease: time.Millisecond}, "InvalidArgument LEASE_INVALID"},
		"a long lease":           {change{percent: 5, mode: observe, holder: "run-1", lease: 2 * time.Hour}, "InvalidArgument LEASE_INVALID"},
		"nobody's lease":         {change{percent: 5, mode: observe, lease: lease}, "InvalidArgument FIELD_INVALID"},
		"a holder of nothing":    {change{percent: 5, mode: observe, holder: "run-1"}, "InvalidArgument FIELD_INVALID"},
		"a long holder":          {change{percent: 5, mode: observe, lease: lease, holder: strings.Repeat("x", 129)}, "InvalidArgument FIELD_INVALID"},
		"a long reason":          {change{percent: 5, mode: observe, reason: strings.Repeat("x", 513)}, "InvalidArgument FIELD_INVALID"},
		"another holder":         {change{percent: 5, mode: observe, lease: lease, holder: "run-2"}, "FailedPrecondition LEASE_HELD"},
		"for good, over a lease": {change{percent: 5, mode: observe}, "FailedPrecondition LEASE_HELD"},
		"an old revision":        {change{percent: 5, mode: observe, lease: lease, holder: "run-1", expected: 1}, "Aborted REVISION_CHANGED"},
	} {
		t.Run(name, func(t *testing.T) {
			k, _ := open(t, Options{Percent: 0})
			before := must(t, k, canary(25, lease)).proto()
			_, err := k.set(tt.change)
			if got := refusal(t, err); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if after := k.Report(); after.String() != before.String() {
				t.Errorf("a refused change changed %v to %v", before, after)
			}
		})
	}
}

func TestAbort(t *testing.T) {
	k, _ := open(t, Options{Percent: 0})
	must(t, k, canary(50, time.Minute))
	r, err := k.abort("token", "10.0.0.1:9", "enough")
	if err != nil || r.Percent != 0 || r.Mode != off || r.Holder != "" || k.Sampled("any", time.Now()) {
		t.Fatalf("after the abort: %+v, %v", r, err)
	}
	_, err = k.set(canary(50, time.Minute))
	if got := refusal(t, err); got != "Aborted REVISION_CHANGED" {
		t.Errorf("a renewal by who was aborted: %s", got)
	}
	if r, err = k.abort("token", "", "again"); err != nil || r.Revision != 4 {
		t.Errorf("a second abort: %+v, %v", r, err)
	}
	seen := canary(5, time.Minute)
	seen.expected = r.Revision
	must(t, k, seen)
}

// After a restart a rollout under a lease is 0 %. Only its holder's next renewal restores it.
func TestRestartUnderALease(t *testing.T) {
	for name, tt := range map[string]struct {
		away    time.Duration
		renewed change
		want    float64
		refused string
	}{
		"the holder renews":                {10 * time.Second, canary(50, 30*time.Second), 50, ""},
		"it has seen the revision":         {10 * time.Second, func() change { c := canary(50, 30*time.Second); c.expected = 2; return c }(), 50, ""},
		"the holder changes the share":     {10 * time.Second, canary(25, 30*time.Second), 25, ""},
		"another wants it":                 {10 * time.Second, change{percent: 100, mode: observe, by: "token"}, 0, "FailedPrecondition LEASE_HELD"},
		"the holder renews after the end":  {31 * time.Second, func() change { c := canary(50, 30*time.Second); c.expected = 2; return c }(), 0, "Aborted REVISION_CHANGED"},
		"another wants it after the lapse": {30 * time.Second, change{percent: 100, mode: observe, by: "token"}, 100, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				k, _ := open(t, Options{Percent: 100, Dir: dir})
				before := must(t, k, canary(50, 30*time.Second)).proto()
				k.Stop()
				time.Sleep(tt.away)
				again, _ := open(t, Options{Percent: 100, Dir: dir})
				defer again.Stop()
				if again.Instance() == k.Instance() {
					t.Error("another process has the same id")
				}
				got := again.Report()
				if got.GetPercent() != 0 || got.GetMode() != off || again.Sampled("any", time.Now()) {
					t.Errorf("after %s: %v", tt.away, got)
				}
				if lapsed := tt.away >= 30*time.Second; got.GetAwaitingRenewal() == lapsed || (got.GetHolder() == "run-1") == lapsed || got.GetRevision() == before.GetRevision() == lapsed {
					t.Errorf("after %s: %v", tt.away, got)
				}
				_, err := again.set(tt.renewed)
				if (tt.refused != "" || err != nil) && refusal(t, err) != tt.refused {
					t.Errorf("got %v, want %s", err, tt.refused)
				}
				got = again.Report()
				if got.GetPercent() != tt.want || (tt.want > 0) != again.Sampled("any", time.Now()) && tt.want == 100 || got.GetAwaitingRenewal() && tt.want > 0 {
					t.Errorf("then: %v", got)
				}
				if tt.want == 50 {
					before.LeaseExpireTime = got.GetLeaseExpireTime()
					if got.String() != before.String() {
						t.Errorf("got %v, want %v", got, before)
					}
				}
			})
		})
	}
}

// However often the executor restarts, and however its clock is set, a percentage under a lease ends with the process in
// which its holder last renewed it.
func TestRestartsDoNotGrantTheLeaseAgain(t *testing.T) {
	for name, shift := range map[string]time.Duration{"a right clock": 0, "set back by a day": 24 * time.Hour, "set forward by a day": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				k, _ := open(t, Options{Dir: dir})
				must(t, k, canary(50, 30*time.Second))
				k.Stop()
				path := filepath.Join(dir, fileName)
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				now := time.Now().UTC()
				moved := bytes.ReplaceAll(raw, []byte(now.Add(30*time.Second).Format(time.RFC3339Nano)), []byte(now.Add(30*time.Second+shift).Format(time.RFC3339Nano)))
				if shift != 0 && bytes.Equal(moved, raw) {
					t.Fatalf("no expiry in %s", raw)
				}
				if err := os.WriteFile(path, moved, 0o600); err != nil {
					t.Fatal(err)
				}
				for range 20 {
					again, _ := open(t, Options{Dir: dir})
					if got := again.Report(); got.GetPercent() != 0 {
						t.Fatalf("after a restart: %v", got)
					}
					time.Sleep(10 * time.Second)
					again.Stop()
				}
				last, _ := open(t, Options{Dir: dir})
				time.Sleep(30 * time.Second) // it waits for its holder no longer than the lease
				if got := last.Report(); got.GetHolder() != "" || got.GetAwaitingRenewal() {
					t.Errorf("still held: %v", got)
				}
				last.Stop()
			})
		})
	}
}

// A rollout without a lease continues after a restart.
func TestRestartWithoutALease(t *testing.T) {
	dir := t.TempDir()
	k, _ := open(t, Options{Dir: dir})
	want := must(t, k, change{percent: 25, mode: observe, by: "token", reason: "for good"}).proto()
	k.Stop()
	again, _ := open(t, Options{Dir: dir})
	if got := again.Report(); got.String() != want.String() {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUnreadableFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty":          "",
		"no JSON":        "{",
		"another schema": `{"schema":"x","percent":50,"mode":"observe_only","revision":3}`,
		"no share":       `{"schema":"greenlight/rollout/v1","percent":500,"mode":"observe_only","revision":3}`,
		"no mode":        `{"schema":"greenlight/rollout/v1","percent":50,"mode":"decide","revision":3}`,
		"half a lease":   `{"schema":"greenlight/rollout/v1","percent":50,"mode":"observe_only","revision":3,"holder":"x","lease_s":30}`,
		"last revision":  `{"schema":"greenlight/rollout/v1","percent":50,"mode":"observe_only","revision":18446744073709551615}`,
		"a giant":        strings.Repeat(" ", 64<<10+1),
		"no revision":    `{"schema":"greenlight/rollout/v1","percent":50,"mode":"observe_only"}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			k, log := open(t, Options{Percent: 100, Dir: dir})
			if got := k.Report(); got.GetPercent() != 0 || got.GetMode() != off {
				t.Errorf("got %v, want 0 %%", got)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, fileName+".unusable-*"))
			if len(aside) != 1 || !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), aside[0]) {
				t.Fatalf("set aside %v, log %s", aside, log)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != content {
				t.Errorf("what was set aside is %q, %v", kept, err)
			}
			k.Stop()
			again, _ := open(t, Options{Percent: 100, Dir: dir})
			if got := again.Report(); got.GetPercent() != 0 || got.GetMode() != off {
				t.Errorf("0 %% until somebody sets it, but a second start has %v", got)
			}
		})
	}
}

// unwritable makes the rollout impossible to write in the folder.
func unwritable(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "."+fileName+".tmp", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestUnwritableFolder(t *testing.T) {
	dir := t.TempDir()
	k, _ := open(t, Options{Dir: dir})
	before := must(t, k, canary(50, time.Minute)).proto()
	unwritable(t, dir)
	_, err := k.set(canary(100, time.Minute))
	if got := refusal(t, err); got != "Internal STATE_NOT_WRITTEN" || k.Report().String() != before.String() || k.Trouble() != "" {
		t.Errorf("a change that cannot be written: %s, and %v is in force", got, k.Report())
	}
	_, err = k.abort("token", "", "stop")
	if got := refusal(t, err); got != "Internal STATE_NOT_WRITTEN" || k.Sampled("any", time.Now()) || k.Percent() != 0 {
		t.Errorf("an abort that cannot be written: %s, and %g %% is in force", got, k.Percent())
	}
	if got := k.Trouble(); got != "the rollout is not written" {
		t.Errorf("trouble: %q", got)
	}
	if n := k.writeErrors.Load(); n != 2 {
		t.Errorf("%d failed writes are counted, want 2", n)
	}
}

// An error that reports "nothing was changed" is still true after a restart.
func TestRefusedChangeIsNotInForceAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, _ := open(t, Options{Dir: dir})
		before := must(t, k, change{percent: 10, mode: observe, by: "token"}).proto()
		restarted := func() string {
			raw, err := os.ReadFile(k.file.Path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := parse(k, raw)
			if err != nil {
				t.Fatal(err)
			}
			return r.proto().String()
		}
		for name, fail := range map[string]func(*testing.T, string) func(){
			"the file cannot be synced": durabletest.FailFiles, "the folder cannot be synced": durabletest.FailFolders,
		} {
			repair := fail(t, dir)
			_, err := k.set(change{percent: 100, mode: observe, by: "token"})
			if got := refusal(t, err); got != "Internal STATE_NOT_WRITTEN" || k.Report().String() != before.String() {
				t.Errorf("%s: got %s, and %v is in force", name, got, k.Report())
			}
			unknown := strings.Contains(err.Error(), "unknown")
			if !unknown && !strings.Contains(err.Error(), "nothing was changed") || unknown != (k.Trouble() != "") {
				t.Errorf("%s: got %v, trouble %q", name, err, k.Trouble())
			}
			if got := restarted(); got != before.String() {
				t.Errorf("%s: a restart would find %s, want %s", name, got, before)
			}
			repair()
			time.Sleep(2 * writePeriod)
			synctest.Wait()
			if k.Trouble() != "" || restarted() != before.String() {
				t.Errorf("%s, after the repair: trouble %q, and a restart would find %s", name, k.Trouble(), restarted())
			}
		}
		k.Stop()
	})
}

// A change on a hung disk delays no abort, report or lapse, and does not override the abort later.
func TestAbortDoesNotWaitForAHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, _ := open(t, Options{Dir: dir})
		must(t, k, canary(50, time.Minute))
		release := durabletest.Hang(t, dir)
		answered := make(chan error, 1)
		go func() {
			_, err := k.set(canary(100, time.Minute))
			answered <- err
		}()
		synctest.Wait()
		aborted := make(chan error, 1)
		go func() {
			_, err := k.abort("token", "", "stop")
			aborted <- err
		}()
		synctest.Wait()
		if k.Sampled("any", time.Now()) || k.Report().GetPercent() != 0 {
			t.Error("the abort waits for the disk")
		}
		if got := refusal(t, <-aborted); got != "Internal STATE_NOT_WRITTEN" || k.Trouble() == "" {
			t.Errorf("the abort was answered with %s, trouble %q", got, k.Trouble())
		}
		if _, err := k.set(change{percent: 10, mode: observe, by: "token"}); refusal(t, err) != "Internal STATE_NOT_WRITTEN" {
			t.Errorf("another change while the disk hangs: got %v", err)
		}
		release()
		if got := refusal(t, <-answered); got != "Aborted REVISION_CHANGED" {
			t.Errorf("the change that was overtaken: got %s", got)
		}
		time.Sleep(2 * writePeriod)
		synctest.Wait()
		raw, err := os.ReadFile(k.file.Path)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parse(k, raw); err != nil || r.Percent != 0 || r.Reason != "stop" || k.Trouble() != "" || k.Percent() != 0 {
			t.Errorf("on disk: %+v, %v; trouble %q", r, err, k.Trouble())
		}
		k.Stop()
	})
}

// A concurrent reader sees one rollout or the other, never a mixture.
func TestChangesUnderLoad(t *testing.T) {
	k, _ := open(t, Options{Percent: 100, Salt: "salt"})
	stop := make(chan struct{})
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				k.Sampled("request", time.Now())
				if r := k.Report(); (r.GetPercent() == 0) != (r.GetMode() == off) {
					t.Errorf("a mixture: %v", r)
					return
				}
			}
		})
	}
	for i := range 2_000 {
		if i%2 == 0 {
			must(t, k, change{mode: off})
		} else {
			must(t, k, change{percent: 100, mode: observe})
		}
		if got := k.Sampled("request", time.Now()); got != (i%2 == 1) {
			t.Fatalf("change %d is not in force for the next request", i)
		}
	}
	close(stop)
	requests.Wait()
}

func BenchmarkSampled(b *testing.B) {
	k, err := Open(Options{Percent: 50, Salt: "salt", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(k.Stop)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		k.Sampled("SIM-PERP-1736121660000", now)
	}
}

// An abort that a full disk refused is written once there is space, or at shutdown. So is a lapse. A later change replaces
// it.
func TestUnwrittenAbortIsRetried(t *testing.T) {
	percentOf := func(t *testing.T, k *Keeper) float64 {
		t.Helper()
		raw, err := os.ReadFile(k.file.Path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parse(k, raw)
		if err != nil {
			t.Fatal(err)
		}
		return r.Percent
	}
	room := func(t *testing.T, dir string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(dir, "."+fileName+".tmp")); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]func(t *testing.T, k *Keeper, dir string) (want float64){
		"room": func(t *testing.T, _ *Keeper, dir string) float64 {
			time.Sleep(10*writePeriod + writePeriod/2) // between two retries
			room(t, dir)
			time.Sleep(writePeriod)
			return 0
		},
		"stop": func(t *testing.T, k *Keeper, dir string) float64 {
			room(t, dir)
			k.Stop()
			return 0
		},
		"set": func(t *testing.T, k *Keeper, dir string) float64 {
			room(t, dir)
			must(t, k, change{percent: 10, mode: observe, by: "token"})
			time.Sleep(3 * writePeriod)
			return 10
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				k, log := open(t, Options{Dir: dir})
				defer k.Stop()
				must(t, k, change{percent: 50, mode: observe, by: "token"})
				unwritable(t, dir)
				if _, err := k.abort("token", "", "stop"); err == nil {
					t.Fatal("the abort was written")
				}
				if got := percentOf(t, k); got != 50 {
					t.Fatalf("before: %v %% on disk", got)
				}
				want := test(t, k, dir)
				synctest.Wait()
				if got := percentOf(t, k); got != want || k.Percent() != want {
					t.Errorf("%v %% on disk and %v %% in force, want %v", got, k.Percent(), want)
				}
				if n := strings.Count(log.String(), "the rollout is not written"); n != 1 {
					t.Errorf("logged %d times: %s", n, log)
				}
			})
		})
	}
}
