package evidencedoc

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testRender compares the document with the golden file, renders it a second time, and renders it without a registry.
func testRender(t *testing.T, w *whole) {
	doc, err := Render(w.dir, Options{Link: "ml", Judge: w.judge})
	if err != nil {
		t.Fatal(err)
	}
	got := string(doc.Markdown)
	golden := filepath.Join("testdata", "GREEN_EVIDENCE.md")
	if *update {
		if err := os.WriteFile(golden, doc.Markdown, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the document differs from the golden file (-want +got, -update rewrites it):\n%s", diff)
	}
	again, err := Render(w.dir, Options{Link: "ml", Judge: w.judge})
	if err != nil || string(again.Markdown) != got {
		t.Errorf("the second rendering differs, %v", err)
	}
	for _, name := range w.all() {
		if filepath.Ext(name) == ".svg" && strings.Count(got, "](ml/"+name+")\n") != 1 {
			t.Errorf("%s is not shown exactly once", name)
		}
	}
	// Without the registry, the check in the folder is shown.
	kept, err := Render(w.dir, Options{Link: "ml"})
	if err != nil || !strings.Contains(string(kept.Markdown), "From [promotion_check.json](ml/promotion_check.json), written 2026-06-11 12:00:00 UTC.") {
		t.Errorf("without a registry: %v", err)
	}
}

// testVerdict renders the folder with different checks. The first sentence must be enough for a reader who reads nothing else.
func testVerdict(t *testing.T, w *whole) {
	f, err := open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	row := func(name string, v gate.Verdict, reason string) promote.Row {
		return promote.Row{Result: gate.Result{Name: name, Verdict: v, Reason: reason}}
	}
	auc, phases, confirmation := row("AUC", gate.Pass, ""), row("canary phases", gate.Fail, "25 %: not begun; the soak is too old."), row(promote.Confirmation, gate.Inconclusive, "not confirmed")
	for name, test := range map[string]struct {
		rows []promote.Row
		// without are the files that the folder lacks.
		without string
		want    string
	}{
		"open":        {[]promote.Row{auc, phases, confirmation}, promote.PromotionName, "**v1.8.1-rc1 may not go live**: 2 of 3 requirements are open; first: canary phases: 25 %: not begun."},
		"unconfirmed": {[]promote.Row{auc, confirmation}, promote.PromotionName, "**v1.8.1-rc1 may go live as soon as a person confirms it**: the other 1 requirements are met."},
		"met":         {[]promote.Row{auc}, promote.PromotionName, "**v1.8.1-rc1 may go live**: all 1 requirements are met."},
		"promoted":    {[]promote.Row{auc, phases}, "", "**v1.8.1-rc1 was promoted to v1.8.1 on 2026-06-11.** Judged again, 1 of 2 requirements is open; first: canary phases: 25 %: not begun."},
		"rolled back": {[]promote.Row{auc}, "", "**v1.8.1-rc1 was promoted to v1.8.1 on 2026-06-11, and rolled back on 2026-06-13.** Judged again, all 1 requirements are met."},
		"unknown":     {nil, promote.CheckName, "**It is unknown whether v1.8.1-rc1 may go live**: `greenlight promote --check` has not been run, and no model was given."},
	} {
		some := &folder{dir: f.dir, files: f.files, named: maps.Clone(f.named)}
		delete(some.named, test.without)
		if name == "rolled back" {
			for at, digest := range map[string]string{"2026-06-10": w.artifact.Digest(), "2026-06-12": strings.Repeat("f", 64), "2026-06-13": w.artifact.Digest()} {
				raw := fmt.Appendf(nil, `{"start_time":"%sT00:00:00Z","engines":[{"from":{"digest":"%s"}}]}`, at, digest)
				some.files = append(slices.Clip(some.files), &file{name: "rollback_" + at + ".json", raw: raw})
			}
		}
		p := page{folder: some, link: "ml"}
		var judge func(string, time.Time) (*promote.Check, error)
		if test.rows != nil {
			judge = func(model string, _ time.Time) (*promote.Check, error) {
				return &promote.Check{From: model, To: "v1.8.1", Digest: w.artifact.Digest(), Blockers: test.rows}, nil
			}
		}
		if err := p.opening(judge, evidence.Report{}); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(p.out.String(), "\n"); lines[0] != "# Evidence v1.8.1-rc1" || lines[2] != test.want {
			t.Errorf("%s: the document begins with %q, want %q", name, lines[:3], test.want)
		}
		open, met := strings.Index(p.out.String(), "| canary phases |"), strings.Index(p.out.String(), "| AUC |")
		if strings.Contains(name, "open") && !(0 < open && open < met) {
			t.Errorf("%s: the open requirement is at %d and the one that is met at %d", name, open, met)
		}
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
	doc, err := Render(dir, Options{Link: "ml"})
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc.Markdown)
	for _, want := range []string{
		"About no model, as of 2026-06-11 12:00:00 UTC", "| smoke success | >= 95 % | 100.0 % (72.2 % to 100.0 %) | 10 | **INCONCLUSIVE** |",
		"`greenlight promote --check` has not been run", "- `offline_report.json`, written by `greenlight train`", "- `daily/report_*.json`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s: want %q", text, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "smoke_1k.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Render(dir, Options{}); !errors.Is(err, evidence.ErrBroken) || !strings.Contains(err.Error(), "smoke_1k.json: has 2 bytes") {
		t.Errorf("a folder that does not verify: %v", err)
	}
}
