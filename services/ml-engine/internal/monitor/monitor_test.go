package monitor_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// A restart continues from the counts, a crash loses at most a minute, and an unusable file is set aside.
func TestRestart(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(4, 0))
		rows := func(tr *trial) uint64 { return tr.drift(&mlenginev1.GetDriftRequest{}).GetRows() }

		tr := open(t, a, dir, false)
		tr.observe(rng, 100, true, time.Time{})
		if _, err := monitor.Open(monitor.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "owns") {
			t.Errorf("the folder of another: got %v", err)
		}
		tr.stop()

		tr = open(t, a, dir, false)
		if got := rows(tr); got != 100 {
			t.Errorf("after a restart: got %d rows, want 100", got)
		}
		tr.observe(rng, 50, false, time.Time{})
		time.Sleep(61 * time.Second)
		tr.observe(rng, 7, false, time.Time{})
		copied := t.TempDir() // what a crash would leave
		name := only(t, dir)
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		tr.stop()

		tr = open(t, a, copied, false)
		if got := rows(tr); got != 150 {
			t.Errorf("after a crash: got %d rows, want the 150 of a minute ago", got)
		}
		tr.stop()

		raw[len(raw)/2] ^= 1
		if err := os.WriteFile(filepath.Join(copied, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		tr = open(t, a, copied, false)
		if got := rows(tr); got != 0 || !strings.Contains(tr.log.String(), "level=ERROR") || !strings.Contains(tr.log.String(), "set_aside_as") {
			t.Errorf("a corrupt file: got %d rows, log %s", got, tr.log)
		}
		if aside, err := filepath.Glob(filepath.Join(copied, "*.unusable-*")); err != nil || len(aside) != 1 {
			t.Errorf("set aside: got %v, %v", aside, err)
		}
		tr.stop()
	})
}

// A model that becomes active again continues its counts, even across a restart. Metrics show only the active model.
func TestSwap(t *testing.T) {
	a, b := enginetest.Artifact(t, "v1.8.1", "v1"), enginetest.Artifact(t, "v1.8.1", "v2")
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rng, reg := rand.New(rand.NewPCG(4, 0)), prometheus.NewRegistry()
		tr := open(t, a, dir, false)
		tr.RegisterMetrics(reg)
		activate := func(tr *trial, m *model.Artifact) {
			t.Helper()
			w, err := tr.Watch(m)
			if err != nil {
				t.Fatal(err)
			}
			tr.Activate(w)
			tr.model, tr.watch = m, w
		}
		check := func(tr *trial, rows uint64) {
			t.Helper()
			got := tr.drift(&mlenginev1.GetDriftRequest{})
			if got.GetRows() != rows || got.GetModelDigest() != tr.model.Digest() {
				t.Errorf("got %d rows of %.8s, want %d of %.8s", got.GetRows(), got.GetModelDigest(), rows, tr.model.Digest())
			}
		}
		counted := func() (rows float64) { // only of the active model
			t.Helper()
			mark := "@" + tr.model.Manifest.Files[model.ReferenceFile][:8]
			for series, n := range scrape(t, reg) {
				family, labels, _ := strings.Cut(series, " ")
				if family != "ml_feature_bin_total" && family != "ml_feature_reference_ratio" {
					continue
				}
				if !strings.Contains(labels, mark) {
					t.Fatalf("%s is not of the active model, whose bins end in %s", series, mark)
				}
				if family == "ml_feature_bin_total" && strings.HasSuffix(labels, " score") {
					rows += n
				}
			}
			return rows
		}
		for _, step := range []struct {
			model   *model.Artifact
			observe int
			rows    uint64
		}{{a, 10, 10}, {b, 20, 20}, {a, 5, 15}, {b, 1, 21}} {
			activate(tr, step.model)
			tr.observe(rng, step.observe, true, time.Time{})
			check(tr, step.rows)
			if got := counted(); got != float64(step.rows) {
				t.Errorf("ml_feature_bin_total: got %v, want %d", got, step.rows)
			}
		}
		tr.stop()

		tr = open(t, b, dir, false)
		check(tr, 21)
		activate(tr, a)
		check(tr, 15)
		tr.stop()
	})
}

// The number of watches in memory is bounded. With a folder, a model that becomes active again continues its counts.
func TestFewModelsAreKept(t *testing.T) {
	for name, want := range map[string]uint64{"in memory": 0, "in a folder": 3} {
		t.Run(name, func(t *testing.T) {
			var dir string
			if want > 0 {
				dir = t.TempDir()
			}
			models := make([]*model.Artifact, 12)
			for i := range models {
				models[i] = enginetest.Artifact(t, "v1.8.1", fmt.Sprint("v", i))
			}
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(4, 1))
				tr := open(t, models[0], dir, false)
				defer tr.stop()
				first := tr.watch
				tr.observe(rng, 3, false, time.Time{})
				for _, m := range append(models[1:], models[10], models[0]) {
					w, err := tr.Watch(m)
					if err != nil {
						t.Fatal(err)
					}
					tr.Activate(w)
					tr.model, tr.watch = m, w
				}
				if tr.watch == first {
					t.Error("the first model is still in memory")
				}
				if got := tr.drift(&mlenginev1.GetDriftRequest{}).GetRows(); got != want {
					t.Errorf("the first model has %d rows, want %d", got, want)
				}
			})
		})
	}
}

// A file with the name of one model and the counts of another is set aside.
func TestForeignState(t *testing.T) {
	a, b := enginetest.Artifact(t, "v1.8.1", "v1"), enginetest.Artifact(t, "v1.8.1", "v2")
	from, to := t.TempDir(), t.TempDir()
	rng := rand.New(rand.NewPCG(4, 0))
	for dir, m := range map[string]*model.Artifact{from: a, to: b} {
		tr := open(t, m, dir, false)
		tr.observe(rng, 3, true, time.Time{})
		tr.stop()
	}
	if err := os.Rename(filepath.Join(from, only(t, from)), filepath.Join(to, only(t, to))); err != nil {
		t.Fatal(err)
	}
	tr := open(t, b, to, false)
	defer tr.stop()
	if got := tr.drift(&mlenginev1.GetDriftRequest{}).GetRows(); got != 0 || !strings.Contains(tr.log.String(), "another profile") {
		t.Errorf("got %d rows, log %s", got, tr.log)
	}
	if aside, err := filepath.Glob(filepath.Join(to, "*.unusable-*")); err != nil || len(aside) != 1 {
		t.Errorf("set aside: got %v, %v", aside, err)
	}
}

// only returns the single visible file of the folder.
func only(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v, %v, want one file", files, err)
	}
	return filepath.Base(files[0])
}

// A folder that cannot be written is logged and counted, and loses no rows.
func TestUnwritable(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		tr := open(t, a, dir, false)
		tr.RegisterMetrics(reg)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		tr.observe(rand.New(rand.NewPCG(4, 0)), 5, true, time.Time{})
		time.Sleep(190 * time.Second)
		synctest.Wait() // until the saver has logged
		if got := scrape(t, reg)["ml_drift_state_write_errors_total"]; got < 2 || !strings.Contains(tr.log.String(), "the drift counts are not written") || tr.Trouble() == "" {
			t.Errorf("got %v write errors, trouble %q, log %s", got, tr.Trouble(), tr.log)
		}
		if got := tr.drift(&mlenginev1.GetDriftRequest{}).GetRows(); got != 5 {
			t.Errorf("got %d rows, want 5", got)
		}
		if err := tr.Stop(t.Context()); err == nil {
			t.Error("stop: got no error")
		}
	})
}

// Handlers count while scrapes read and the saver saves.
func TestConcurrent(t *testing.T) {
	tr := open(t, enginetest.Artifact(t, "v1.8.1", "v1"), t.TempDir(), false)
	reg := prometheus.NewRegistry()
	tr.RegisterMetrics(reg)
	var load sync.WaitGroup
	for g := range 4 {
		load.Go(func() { tr.observe(rand.New(rand.NewPCG(uint64(g), 0)), 2000, g%2 == 0, time.Time{}) })
	}
	for range 5 {
		scrape(t, reg)
		tr.drift(&mlenginev1.GetDriftRequest{History: true, Bins: true})
	}
	load.Wait()
	if got := tr.drift(&mlenginev1.GetDriftRequest{}).GetRows(); got != 8000 {
		t.Errorf("got %d rows, want 8000", got)
	}
	tr.stop()
}
