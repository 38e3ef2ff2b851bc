package evidencedoc

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testRender compares the document with the golden file, renders it a second time, and renders it without a registry.
func testRender(t *testing.T, w *whole) {
	got, err := Render(w.dir, Options{Link: "ml", Judge: w.judge})
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "GREEN_EVIDENCE.md")
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the document differs from the golden file (-want +got, -update rewrites it):\n%s", diff)
	}
	again, err := Render(w.dir, Options{Link: "ml", Judge: w.judge})
	if err != nil || string(again) != string(got) {
		t.Errorf("the second rendering differs, %v", err)
	}
	for _, name := range w.all() {
		if filepath.Ext(name) == ".svg" && strings.Count(string(got), "](ml/"+name+")\n") != 1 {
			t.Errorf("%s is not shown exactly once", name)
		}
	}
	// Without the registry, the check in the folder is shown.
	kept, err := Render(w.dir, Options{Link: "ml"})
	if err != nil || !strings.Contains(string(kept), "From [promotion_check.json](ml/promotion_check.json), written 2026-06-11 12:00:00 UTC.") {
		t.Errorf("without a registry: %v", err)
	}
}

// A folder of one file is rendered with a list of missing files. An empty folder and one that does not verify are refused.
func TestPartialFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := Render(dir, Options{}); !errors.Is(err, evidence.ErrBroken) {
		t.Errorf("an empty folder: %v", err)
	}
	store, err := evidence.Open(dir, evidence.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	smoke := traffic.SmokeResult{Total: 10, Succeeded: 10, Answered: 10, Errors: map[string]int{}}
	smoke.SLO = smoke.Judge()
	h := evidence.Header{Schema: traffic.SmokeSchema, Source: evidence.Simulated}
	if err := errors.Join(store.WriteJSON("smoke_1k.json", h, smoke), store.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := Render(dir, Options{Link: "ml"})
	for _, want := range []string{
		"About no model, as of 2026-06-11 12:00:00 UTC", "| smoke success | >= 95 % | 100.0 % (72.2 % to 100.0 %) | 10 | **INCONCLUSIVE** |",
		"`greenlight promote --check` has not been run", "- `offline_report.json`, written by `greenlight train`", "- `daily/report_*.json`",
	} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("got %s, %v: want %q", text, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "smoke_1k.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Render(dir, Options{}); !errors.Is(err, evidence.ErrBroken) || !strings.Contains(err.Error(), "smoke_1k.json: has 2 bytes") {
		t.Errorf("a folder that does not verify: %v", err)
	}
}
