package evidence_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// clock returns a clock that starts at a fixed time and advances by a second with each call.
func clock() func() time.Time {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("TRT", 3*3600))
	var mu sync.Mutex
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return now
	}
}

// open opens a store with a fixed clock that does not wait for others.
func open(t *testing.T, dir string) *evidence.Store {
	t.Helper()
	s, err := evidence.Open(dir, evidence.Options{Now: clock(), Wait: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot returns every file of a folder by name.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(data)
		return err
	}))
	return files
}

// lay creates a folder from a snapshot.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		put(t, dir, name, content)
	}
	return dir
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// verified fails the test unless everything in the folder verifies.
func verified(t *testing.T, dir string) evidence.Report {
	t.Helper()
	report, err := evidence.Verify(dir)
	must(t, err)
	if err := report.Err(); err != nil {
		t.Fatalf("%v (all: %v)", err, report.Problems)
	}
	return report
}

var header = evidence.Header{Schema: "greenlight/offline_report/v1", Source: evidence.Replay}

func TestWriteJSON(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(t.TempDir(), "btc.csv")
	must(t, os.WriteFile(data, []byte("abc"), 0o644))
	in, err := evidence.InputOf(data)
	must(t, err)
	in.Path = "data/btc.csv"
	h := header
	h.Inputs = []evidence.Input{in}
	h.Model = &evidence.Model{Version: "v1.8", Digest: "d1"}
	s := open(t, dir)
	must(t, s.WriteJSON("offline_report.json", h, struct {
		Version string  `json:"version"`
		AUC     float64 `json:"auc"`
		Target  string  `json:"target"`
	}{"v1.8", 0.863, ">= 0.62 & <b>"}))
	const want = `{
  "schema": "greenlight/offline_report/v1",
  "source": "replay",
  "created_time": "2026-03-01T09:00:01Z",
  "inputs": [
    {
      "path": "data/btc.csv",
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }
  ],
  "model": {
    "version": "v1.8",
    "digest": "d1"
  },
  "git": "unknown",
  "version": "v1.8",
  "auc": 0.863,
  "target": ">= 0.62 & <b>"
}
`
	if got := snapshot(t, dir)["offline_report.json"]; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	must(t, s.WriteJSON("daily/empty.json", header, map[string]any{"b": 1, "a": nil}))
	got := snapshot(t, dir)["daily/empty.json"]
	if tail := "\"inputs\": [],\n  \"model\": null,\n  \"git\": \"unknown\",\n  \"a\": null,\n  \"b\": 1\n}\n"; !strings.HasSuffix(got, tail) {
		t.Errorf("got\n%s\nwant the end\n%s", got, tail)
	}
	var read struct {
		evidence.Header
		AUC float64 `json:"auc"`
	}
	must(t, json.Unmarshal([]byte(want), &read))
	if read.Source != evidence.Replay || read.Model.Digest != "d1" || read.AUC != 0.863 {
		t.Errorf("read back %+v", read)
	}
	must(t, s.Close())
	verified(t, dir)
}

func TestWriteJSONRefuses(t *testing.T) {
	type inner struct {
		P95  float64 `json:"p95_ms"`
		Skip float64 `json:"-"`
	}
	type body struct {
		inner
		Phases []inner `json:"phases"`
		Named  map[string]any
	}
	with := func(change func(*evidence.Header)) evidence.Header { h := header; change(&h); return h }
	cyclic := map[string]any{}
	cyclic["self"] = cyclic
	tests := []struct {
		name string
		h    evidence.Header
		body any
		want string
	}{
		{"a key of the header", header, map[string]int{"source": 1}, `key "source" belongs to the header`},
		{"a key of the header in other letters", header, struct{ Schema string }{}, `key "Schema" belongs to the header`},
		{"the header itself", header, header, `key "schema" belongs to the header`},
		{"a list", header, []int{1}, "[]int is not a JSON object"},
		{"a number", header, 1.5, "float64 is not a JSON object"},
		{"nothing", header, nil, "<nil> is not a JSON object"},
		{"NaN", header, map[string]float64{"auc": math.NaN()}, `key "auc" is NaN`},
		{"infinity in a list", header, body{Phases: []inner{{}, {P95: math.Inf(-1)}}}, `key "phases[1].p95_ms" is -Inf`},
		{"NaN in an embedded struct", header, body{inner: inner{P95: math.NaN()}}, `key "p95_ms" is NaN`},
		{"NaN behind a pointer in a map", header, body{Named: map[string]any{"b": 1, "a": &[]float64{math.NaN()}}}, `key "Named.a[0]" is NaN`},
		{"a channel", header, map[string]any{"c": make(chan int)}, "unsupported type"},
		{"a cycle", header, cyclic, "cycle"},
		{"a key twice", header, json.RawMessage(`{"a":1,"a":2}`), `key "a" appears twice`},
		{"no schema", with(func(h *evidence.Header) { h.Schema = "" }), map[string]int{}, "schema is empty"},
		{"no source", with(func(h *evidence.Header) { h.Source = "" }), map[string]int{}, `source "" is not live, replay or simulated`},
		{"another source", with(func(h *evidence.Header) { h.Source = "Live" }), map[string]int{}, `source "Live" is not`},
		{"an input without a digest", with(func(h *evidence.Header) { h.Inputs = []evidence.Input{{Path: "x"}} }), map[string]int{}, `input "x" has no SHA-256`},
		{"an input with a digest in capitals", with(func(h *evidence.Header) {
			h.Inputs = []evidence.Input{{Path: "x", SHA256: strings.Repeat("AB", 32)}}
		}), map[string]int{}, `input "x" has no SHA-256`},
	}
	dir := t.TempDir()
	s := open(t, dir)
	before := snapshot(t, dir)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := s.WriteJSON("x.json", tt.h, tt.body)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	if after := snapshot(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("something was written: %v", after)
	}
	must(t, s.WriteJSON("x.json", header, map[string]int{"ok": 1}))
}

func TestNames(t *testing.T) {
	good := []string{"a.txt", "daily/report_2026-03-01.csv", "a/b/c/d.svg", "weekly/summary_2026-W09.md", "no extension", "x..y"}
	bad := []string{
		"", ".", "..", "../a", "a/../../b", "a/..", "/etc/passwd", "a//b", "a/", "./a", ".hidden", "a/.hidden", ".lock",
		"chain.jsonl", "CHAIN.jsonl", "chain.head", "torn/x", "torn", `a\b`, "a\x00b", "a\nb", "a\xff", "x.json",
	}
	dir := t.TempDir()
	s := open(t, dir)
	for _, name := range good {
		if err := s.WriteFile(name, []byte("x")); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range bad {
		if err := s.WriteFile(name, []byte("x")); err == nil {
			t.Errorf("%q was written", name)
		}
	}
	if err := s.WriteJSON("x.txt", header, map[string]int{}); err == nil {
		t.Error("a JSON document was written as .txt")
	}
	must(t, s.Close())
	if got := verified(t, dir); got.Files != len(good) {
		t.Errorf("%d files, want %d", got.Files, len(good))
	}
}

// A name that cannot be written is an error of that write only: the store and the folder stay intact.
func TestWriteInTheWayOfAFolder(t *testing.T) {
	outside := t.TempDir()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.WriteFile("a/b.txt", []byte("1")))
	must(t, os.Symlink(filepath.Join(outside, "x.txt"), filepath.Join(dir, "link.txt")))
	must(t, os.Symlink(outside, filepath.Join(dir, "out")))
	for _, name := range []string{"a", "a/b.txt/c", "link.txt", "out/y.txt", strings.Repeat("n", 300)} {
		if err := s.WriteFile(name, []byte("2")); err == nil {
			t.Errorf("%q was written", name)
		}
	}
	if left := snapshot(t, outside); len(left) != 0 {
		t.Errorf("written outside of the folder: %v", left)
	}
	must(t, os.Remove(filepath.Join(dir, "link.txt")))
	must(t, os.Remove(filepath.Join(dir, "out")))
	must(t, s.WriteFile("c.txt", []byte("3")))
	must(t, s.Close())
	verified(t, dir)
}

func TestFilesMayBeWrittenAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "evidence", "ml")
	for i := range 3 { // a new store each time: the chain continues
		s := open(t, dir)
		must(t, s.WriteFile("a.txt", fmt.Appendf(nil, "version %d", i)))
		must(t, s.WriteFile("b.txt", []byte("the same")))
		must(t, s.Close())
	}
	report := verified(t, dir)
	if report.Lines != 6 || report.Files != 2 || len(report.Head) != 64 {
		t.Errorf("got %+v, want 6 lines, 2 files and the hash of the last line", report)
	}
}

func TestOneWriterAtATime(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if _, err := evidence.Open(dir, evidence.Options{}); !errors.Is(err, evidence.ErrLocked) {
			t.Errorf("got %v, want %v", err, evidence.ErrLocked)
		}
		if waited := time.Since(start); waited != evidence.DefaultWait {
			t.Errorf("waited %v, want %v", waited, evidence.DefaultWait)
		}
		start = time.Now()
		if _, err := evidence.Open(dir, evidence.Options{Wait: -1}); !errors.Is(err, evidence.ErrLocked) || time.Since(start) != 0 {
			t.Errorf("got %v after %v, want %v at once", err, time.Since(start), evidence.ErrLocked)
		}
		if _, err := evidence.Verify(dir); !errors.Is(err, evidence.ErrLocked) {
			t.Errorf("Verify during a write: %v, want %v", err, evidence.ErrLocked)
		}
		time.AfterFunc(time.Second, func() { first.Close() })
		second, err := evidence.Open(dir, evidence.Options{})
		must(t, err)
		must(t, second.Close())
	})
	must(t, first.Close()) // closing twice is fine
	if err := first.WriteFile("a.txt", nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %v, want %v", err, os.ErrClosed)
	}
}

func TestConcurrentWrites(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 5 {
				if err := s.WriteFile(fmt.Sprintf("w%d/f%d.txt", i%4, j%3), fmt.Appendf(nil, "%d %d", i, j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	must(t, s.Close())
	if got := verified(t, dir); got.Lines != 40 {
		t.Errorf("%d lines, want 40", got.Lines)
	}
}

// After a failure between the steps the store stops: the next Open completes what is on disk.
func TestStoreStopsWhenAStepFails(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.WriteFile("a.txt", []byte("1")))
	chain := filepath.Join(dir, "chain.jsonl")
	data, err := os.ReadFile(chain)
	must(t, err)
	must(t, os.Remove(chain))
	if err := s.WriteFile("a.txt", []byte("2")); err == nil {
		t.Fatal("written without a chain")
	}
	must(t, os.WriteFile(chain, data, 0o644))
	if err := s.WriteFile("b.txt", []byte("3")); err == nil || !strings.Contains(err.Error(), "must be reopened") {
		t.Errorf("got %v, want a store that says that it must be reopened", err)
	}
	must(t, s.Close())
	open(t, dir).Close()
	verified(t, dir)
	if got := snapshot(t, dir); got["a.txt"] != "2" || slices.Contains([]string{"3"}, got["b.txt"]) {
		t.Errorf("got %v, want the interrupted write and no other", got)
	}
}

func TestOpenDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	s, err := evidence.Open("", evidence.Options{})
	must(t, err)
	must(t, s.WriteFile("a.txt", []byte("1")))
	must(t, s.Close())
	if got := verified(t, ""); got.Dir != evidence.DefaultDir || got.Files != 1 {
		t.Errorf("got %+v, want one file in %s", got, evidence.DefaultDir)
	}
}

func TestInputOf(t *testing.T) {
	if _, err := evidence.InputOf(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := evidence.InputOf(t.TempDir()); err == nil {
		t.Error("a folder has a digest")
	}
}

// Figures are never more live than claimed, and a single request can make them less live.
func TestLeastLiveSource(t *testing.T) {
	for _, tt := range []struct {
		claimed evidence.Source
		seen    evidence.Sources
		want    evidence.Source
	}{
		{evidence.Live, nil, evidence.Live},
		{evidence.Live, evidence.Sources{evidence.Live: 5, evidence.Replay: 0, evidence.Simulated: 0}, evidence.Live},
		{evidence.Live, evidence.Sources{evidence.Live: 1e6, evidence.Replay: 1}, evidence.Replay},
		{evidence.Live, evidence.Sources{evidence.Replay: 9, evidence.Simulated: 1}, evidence.Simulated},
		{evidence.Replay, evidence.Sources{evidence.Live: 9}, evidence.Replay},
		{evidence.Replay, evidence.Sources{evidence.Simulated: 1}, evidence.Simulated},
		{evidence.Simulated, evidence.Sources{evidence.Live: 9}, evidence.Simulated},
	} {
		if got := tt.seen.Least(tt.claimed); got != tt.want {
			t.Errorf("claimed %s, seen %v: got %s, want %s", tt.claimed, tt.seen, got, tt.want)
		}
	}
}
