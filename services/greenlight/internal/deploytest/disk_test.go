//go:build linux

package deploytest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// disk is a folder for the files of a process. fill makes writes fail, and free lets them succeed again.
type disk struct {
	dir        string
	fill, free func(*process.Process) error
	// errno is the error of a failed write.
	errno syscall.Errno
	// small is true if writes of small files fail too.
	small bool
}

// filled returns a file system of one megabyte that a ballast file fills.
func filled(t *testing.T) disk {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		need.Missing(t, "a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	return disk{
		dir: dir, errno: syscall.ENOSPC, small: true,
		fill: func(*process.Process) error {
			err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600)
			if errors.Is(err, syscall.ENOSPC) {
				return nil
			}
			return fmt.Errorf("two megabytes fit into a file system of one: %w", err)
		},
		free: func(*process.Process) error { return os.Remove(ballast) },
	}
}

// limited returns a folder whose files have a size limit, which the log of a process exceeds. It needs no privileges.
func limited(t *testing.T) disk {
	t.Helper()
	set := func(soft uint64) func(*process.Process) error {
		return func(p *process.Process) error {
			if err := unix.Prlimit(p.PID(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: soft, Max: unix.RLIM_INFINITY}, nil); err != nil {
				return fmt.Errorf("prlimit: %w", err)
			}
			return nil
		}
	}
	return disk{dir: t.TempDir(), errno: syscall.EFBIG, fill: set(32 << 10), free: set(unix.RLIM_INFINITY)}
}

// desk asks an executor for decisions and checks the answers.
type desk struct {
	t      *testing.T
	p      *process.Process
	client executorv1.DecisionServiceClient
	model  *model.Artifact
	rng    *rand.Rand
	asked  int
}

// decide asks for n decisions. Each must equal the baseline in every bit.
func (d *desk) decide(n int) {
	d.t.Helper()
	for range n {
		x, of := enginetest.Vector(d.rng, d.model.Schema), map[string]float64{}
		for i, f := range d.model.Schema.Features {
			of[f.Name] = x[i]
		}
		var inputs []float64
		for _, name := range d.model.Baseline.Inputs() {
			inputs = append(inputs, of[name])
		}
		id := fmt.Sprint("order-", d.asked)
		resp, err := d.client.Predict(d.t.Context(), &executorv1.PredictRequest{
			RequestId: id, Vector: &executorv1.FeatureVector{Schema: d.model.Schema.Name, Values: x},
		})
		if err != nil {
			d.t.Fatalf("%s: %v", id, err)
		}
		if want := d.model.Baseline.Score(inputs); resp.GetScore() != want {
			d.t.Fatalf("%s: the baseline is %v, want %v", id, resp.GetScore(), want)
		}
		d.asked++
	}
}

// await waits until ok accepts the executor's metrics, readiness and log.
func (d *desk) await(what string, ok func(metrics map[string]float64, ready, log string) bool) {
	d.t.Helper()
	limit := time.Now().Add(time.Minute)
	for {
		ready, err := page(d.t, d.p, "/readyz")
		log, logErr := os.ReadFile(d.p.Log())
		metrics := counts(d.t, d.p)
		if err := errors.Join(err, logErr, d.p.Err()); err != nil {
			d.t.Fatal(err)
		}
		if ok(metrics, ready, string(log)) {
			return
		}
		if time.Now().After(limit) {
			d.t.Fatalf("timeout: %s; rows %v, errors %v, ready %q\n%s", what, metrics["ml_feature_log_rows_total"], metrics[logErrors], ready, log)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// rows counts the readable rows by request ID.
func (d *desk) rows(dir string) map[string]int {
	d.t.Helper()
	ids := map[string]int{}
	for row, err := range featurelog.Read(dir, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)) {
		if err != nil {
			d.t.Fatal(err)
		}
		ids[row.RequestID]++
	}
	return ids
}

// The metrics that MLEvidenceWriteFailed reads.
const (
	logErrors     = "ml_feature_log_write_errors_total"
	rolloutErrors = "ml_rollout_state_write_errors_total"
)

// A full disk costs rows of the feature log at worst. Metrics, readiness and log report it, and decisions do not change.
// When there is room again, every waiting row is written exactly once.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	_, alerts := shipped(t)
	for _, metric := range []string{logErrors, rolloutErrors, "ml_drift_state_write_errors_total"} {
		if !strings.Contains(alerts["MLEvidenceWriteFailed"].Expr, metric) {
			t.Errorf("no alert reads %s", metric)
		}
	}
	bin := need.Programs(t, filepath.Join(deploy, ".."), "executor", "ml-engine")
	models := enginetest.Registry(t, "v1.8.1", "v1")
	a, err := model.OpenRegistry(models).Load("test/v1")
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]func(*testing.T) disk{"file system": filled, "file size limit": limited} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // mostly waits for log lines that come every ten seconds
			disk := of(t)
			logs := filepath.Join(disk.dir, "rows")
			p, err := process.Start(t.Context(), filepath.Join(bin, "executor"), t.TempDir(), "--baseline", "heuristic="+filepath.Join(models, "test", "v1", model.BaselineFile),
				"--engine-addr", "127.0.0.1:1", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--insecure-control",
				"--feature-log", logs, "--feature-log-interval", "100ms", "--state-dir", filepath.Join(disk.dir, "state"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Stop(10 * time.Second) })
			conn, err := rpc.Dial(p.Addr("grpc"), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			d := &desk{t: t, p: p, client: executorv1.NewDecisionServiceClient(conn), model: a, rng: rand.New(rand.NewPCG(7, 7))}
			d.trial(disk, logs, executorv1.NewRolloutServiceClient(conn))
		})
	}
}

func (d *desk) trial(disk disk, logs string, rollouts executorv1.RolloutServiceClient) {
	t := d.t
	t.Helper()
	written := func(n int) func(map[string]float64, string, string) bool {
		return func(m map[string]float64, ready, _ string) bool {
			return m["ml_feature_log_rows_total"] == float64(n) && !strings.Contains(ready, "not written")
		}
	}
	d.decide(100)
	d.await("100 rows are written", written(100))

	if err := disk.fill(d.p); err != nil {
		t.Fatal(err)
	}
	d.decide(2000)
	d.await("the full disk is reported", func(m map[string]float64, ready, log string) bool {
		return m[logErrors] > 0 && strings.HasPrefix(ready, "baseline heuristic-test") && strings.Contains(ready, "; the feature log is not written") &&
			strings.Contains(log, "the feature log is not written") && strings.Contains(log, disk.errno.Error())
	})
	if disk.small {
		// A larger rollout is refused if it cannot be stored. An abort takes effect anyway.
		_, err := rollouts.SetRollout(t.Context(), &executorv1.SetRolloutRequest{Percent: 50, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY})
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("set: %v", err)
		}
		if _, err = rollouts.AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{Reason: "the disk is full"}); status.Code(err) != codes.Internal {
			t.Errorf("abort: %v", err)
		}
		d.await("the rollout is not written", func(m map[string]float64, ready, _ string) bool {
			return m[rolloutErrors] >= 2 && m["ml_rollout_percent"] == 0 && strings.Contains(ready, "; the rollout is not written")
		})
	}
	for id, n := range d.rows(logs) { // a file is complete or absent
		if n != 1 {
			t.Errorf("%s was written %d times while the disk is full", id, n)
		}
	}
	d.decide(100)

	if err := disk.free(d.p); err != nil {
		t.Fatal(err)
	}
	d.await("all waiting rows are written", written(d.asked))
	d.await("the log reports the recovery", func(_ map[string]float64, _, log string) bool {
		return strings.Contains(log, "the feature log is written again") && strings.Contains(log, "the rollout is written again") == disk.small
	})
	rows := d.rows(logs)
	for i := range d.asked {
		if id := fmt.Sprint("order-", i); rows[id] != 1 {
			t.Fatalf("%s was written %d times, of %d rows", id, rows[id], len(rows))
		}
	}

	// Rows that still wait at shutdown are lost, and the program reports that.
	kept := d.asked
	if err := disk.fill(d.p); err != nil {
		t.Fatal(err)
	}
	d.decide(2000)
	if err := d.p.Stop(20 * time.Second); err == nil || !strings.Contains(err.Error(), "rows were not written") {
		t.Errorf("stop on a full disk: %v", err)
	}
	if got := len(d.rows(logs)); got < kept || got >= d.asked {
		t.Errorf("%d rows are left of %d, of which the disk had room for %d", got, d.asked, kept)
	}
}

// If ml-engine cannot save its drift counts, the last saved counts stay, and it continues to score.
func TestFullDiskOfDrift(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	bin := need.Programs(t, filepath.Join(deploy, ".."), "ml-engine")
	disk := filled(t)
	models := enginetest.Registry(t, "v1.8.1", "v1")
	a, err := model.OpenRegistry(models).Load("test/v1")
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(disk.dir, "state")
	rng := rand.New(rand.NewPCG(7, 7))
	// run starts the engine, reads how many rows it has counted, lets it score n vectors, and stops it.
	run := func(n int, before func(*process.Process) error) (known float64, err error) {
		t.Helper()
		p, err := process.Start(t.Context(), filepath.Join(bin, "ml-engine"), t.TempDir(), "--models", models, "--model", "test/v1", "--state-dir", state,
			"--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Stop(10 * time.Second) }()
		known = counts(t, p)["ml_psi_samples overall"]
		conn, err := rpc.Dial(p.Addr("grpc"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for range n {
			x := enginetest.Vector(rng, a.Schema)
			resp, err := mlenginev1.NewScoringServiceClient(conn).Predict(context.WithoutCancel(t.Context()), &mlenginev1.PredictRequest{
				RequestId: "r", Vector: &mlenginev1.FeatureVector{Schema: a.Schema.Name, Values: x},
			})
			if err != nil || resp.GetScore() != a.Scorer.Score(x) {
				t.Fatalf("score %v, want %v: %v", resp.GetScore(), a.Scorer.Score(x), err)
			}
			if before != nil {
				if err := before(p); err != nil {
					t.Fatal(err)
				}
				before = nil
			}
		}
		return known, p.Stop(10 * time.Second)
	}
	if _, err := run(200, nil); err != nil {
		t.Fatal(err)
	}
	if known, err := run(100, disk.fill); known != 200 || err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("%v rows are counted; stop on a full disk: %v", known, err)
	}
	if err := disk.free(nil); err != nil {
		t.Fatal(err)
	}
	if known, err := run(1, nil); known != 200 || err != nil {
		t.Errorf("%v rows are counted after the disk was full, want the 200 saved before: %v", known, err)
	}
}
