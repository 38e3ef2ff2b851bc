package evidencedoc

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// TestFolder builds a whole folder once and runs the tests below on it. Each test restores what it changed.
func TestFolder(t *testing.T) {
	w := newWhole(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *whole)
	}{
		{"is whole", testWhole},
		{"is rendered", testRender},
		{"begins with the verdict", testVerdict},
		{"as HTML", testHTML},
		{"with an edited verdict", testEditedVerdicts},
		{"tampered with", testTampering},
		{"with files swapped and added", testSwappedAndAdded},
		{"with a rebuilt chain", testNewChain},
		{"with a changed count", testChangedCount},
		{"with a changed latency", testChangedLatency},
		{"with a changed decision", testChangedDecision},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			test.run(t, w)
		})
	}
}

// testWhole checks that the folder has every kind of file, so that the other tests cover all of them.
func testWhole(t *testing.T, w *whole) {
	if what := w.found(); what != "" {
		t.Fatalf("the folder does not verify: %s", what)
	}
	f, err := open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if len(f.match(k.pattern)) == 0 {
			t.Errorf("the folder has no %s", k.pattern)
		}
	}
	for _, name := range []string{"eval_result.txt", "daily/ml_daily_reports.csv", "daily/report_2026-06-01.csv", "weekly/summary_2026-W23.md", "promotion.json"} {
		if f.named[name] == nil {
			t.Errorf("the folder has no %s", name)
		}
	}
	if len(f.match("torn/*")) == 0 {
		t.Error("the folder has no torn end of a chain")
	}
}

// testTampering changes every file at several places, one change at a time, and restores it. Every change is found, and the
// first problem names the file. Changes to the chain itself are found too.
func testTampering(t *testing.T, w *whole) {
	rng := rand.New(rand.NewPCG(20260611, 6))
	const flips = 3
	tried := 0
	for _, name := range w.all() {
		right := w.read(name)
		try := func(what string, wrong []byte) {
			t.Helper()
			tried++
			if err := os.WriteFile(w.path(name), wrong, 0o600); err != nil {
				t.Fatal(err)
			}
			got := w.found()
			if got == "" || !strings.HasPrefix(got, name) && !strings.HasPrefix(name, "chain.") {
				t.Errorf("%s of %s: found %q", what, name, got)
			}
		}
		for i := range flips {
			at := rng.IntN(len(right))
			switch i {
			case 0:
				at = 0
			case 1:
				at = len(right) - 1
			}
			wrong := append([]byte(nil), right...)
			wrong[at] ^= byte(1 + rng.IntN(255))
			try("a flipped byte", wrong)
		}
		try("the last byte cut off", right[:len(right)-1])
		try("half cut off", right[:len(right)/2])
		try("all cut off", nil)
		try("a byte more", append(append([]byte(nil), right...), ' '))
		if err := os.Remove(w.path(name)); err != nil {
			t.Fatal(err)
		}
		if got := w.found(); !strings.Contains(got, name) {
			t.Errorf("without %s: found %q", name, got)
		}
		if err := os.WriteFile(w.path(name), right, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.found(); got != "" {
		t.Fatalf("after all files were restored: %s", got)
	}
	t.Logf("found all %d changes in %d files", tried, len(w.all()))
}

// testSwappedAndAdded swaps the files of every pair of neighbours, and adds files.
func testSwappedAndAdded(t *testing.T, w *whole) {
	names := w.all()
	for i, a := range names {
		b := names[(i+1)%len(names)]
		left, right := w.read(a), w.read(b)
		for name, raw := range map[string][]byte{a: right, b: left} {
			if err := os.WriteFile(w.path(name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.found(); got == "" {
			t.Errorf("%s and %s were swapped, but nothing was found", a, b)
		}
		for name, raw := range map[string][]byte{a: left, b: right} {
			if err := os.WriteFile(w.path(name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"canary_run_20260611T000000Z.json", "daily/report_2026-06-03.json", "note.txt", ".hidden", ".lock"} {
		old, err := os.ReadFile(w.path(name))
		if err != nil {
			old = nil
		}
		if err := os.WriteFile(w.path(name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := w.found(); !strings.HasPrefix(got, name) {
			t.Errorf("%s was added: found %q", name, got)
		}
		if name == ".lock" {
			err = os.WriteFile(w.path(name), old, 0o600)
		} else {
			err = os.Remove(w.path(name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := w.found(); got != "" {
		t.Errorf("after all files were restored: %s", got)
	}
}
