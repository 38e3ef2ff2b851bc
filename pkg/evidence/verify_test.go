package evidence_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// small returns a small folder with every kind of content: JSON with inputs, sub-folders, history and a torn line set
// aside.
func small(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.WriteFile("daily/report.csv", []byte("psi,status\n0.1,ok\n")))
	must(t, s.WriteJSON("report.json", header, map[string]any{"auc": 0.86}))
	must(t, s.WriteFile("daily/report.csv", []byte("psi,status\n0.2,warn\n")))
	must(t, s.Close())
	chain, err := os.OpenFile(filepath.Join(dir, "chain.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = chain.WriteString(`{"seq":`)
	must(t, errors.Join(err, chain.Close()))
	s = open(t, dir)
	in, err := evidence.InputOf(filepath.Join(dir, "report.json"))
	must(t, err)
	h := header
	h.Inputs = []evidence.Input{in}
	must(t, s.WriteJSON("eval_result.json", h, map[string]any{"result": "PASS"}))
	must(t, s.WriteFile("empty.txt", nil))
	must(t, s.WriteFile("eval_result.txt", []byte("AUC 0.86: PASS\n")))
	must(t, s.Close())
	verified(t, dir)
	files := snapshot(t, dir)
	if len(files) != 9 { // six of evidence, chain, head and lock
		t.Fatalf("files: %q, want 9", slices.Sorted(maps.Keys(files)))
	}
	return files
}

// first returns the first problem of a folder.
func first(t *testing.T, dir string) evidence.Problem {
	t.Helper()
	report, err := evidence.Verify(dir)
	must(t, err)
	if report.OK() || len(report.Problems) == 0 {
		return evidence.Problem{}
	}
	if err := report.Err(); !errors.Is(err, evidence.ErrBroken) || !strings.Contains(err.Error(), report.Problems[0].String()) {
		t.Errorf("Err() = %v, want the first problem", err)
	}
	return report.Problems[0]
}

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	files := small(t)
	dir := lay(t, files)
	flips := 0
	for name, content := range files {
		for i := range len(content) {
			for _, mask := range []byte{0x01, 0x20, 0x80} { // 0x20 flips the case of a letter
				flips++
				changed := []byte(content)
				changed[i] ^= mask
				put(t, dir, name, string(changed))
				got := first(t, dir)
				line := 0
				if name == "chain.jsonl" {
					line = 1 + strings.Count(content[:i], "\n")
				}
				if got.File != name || got.Line != line {
					t.Fatalf("%s byte %d ^ %#x: found %+v, want it in %s line %d", name, i, mask, got, name, line)
				}
			}
		}
		put(t, dir, name, content)
	}
	verified(t, dir)
	if flips < 3*1000 {
		t.Errorf("only %d flips were tried", flips)
	}
}

func TestVerifyFindsEveryTruncation(t *testing.T) {
	files := small(t)
	dir := lay(t, files)
	for name, content := range files {
		for size := 0; size < len(content); size += 1 + size%4 {
			put(t, dir, name, content[:size])
			if got := first(t, dir); got.What == "" {
				t.Fatalf("%s cut to %d bytes was not found", name, size)
			}
			put(t, dir, name, content+content[:size+1])
			if got := first(t, dir); got.What == "" {
				t.Fatalf("%s with %d bytes more was not found", name, size+1)
			}
		}
		put(t, dir, name, content)
		must(t, os.Remove(filepath.Join(dir, name)))
		if got := first(t, dir); got.What == "" && name != ".lock" {
			t.Errorf("%s removed was not found", name)
		}
		put(t, dir, name, content)
	}
	verified(t, dir)
}

func TestVerifyFindsChangedLines(t *testing.T) {
	files := small(t)
	lines := slices.Collect(strings.Lines(files["chain.jsonl"]))
	if len(lines) != 7 {
		t.Fatalf("the folder has %d lines, want 7", len(lines))
	}
	last := len(lines) - 1
	for i := range lines {
		removed := slices.Delete(slices.Clone(lines), i, i+1)
		doubled := slices.Insert(slices.Clone(lines), i, lines[i])
		swapped := slices.Clone(lines)
		swapped[i], swapped[last] = lines[last], lines[i]
		tests := []struct {
			name  string
			lines []string
			want  string
		}{
			{"removed", removed, fmt.Sprintf("chain.jsonl line %d", i+1)},
			{"doubled", doubled, fmt.Sprintf("chain.jsonl line %d", i+2)},
			{"swapped", swapped, fmt.Sprintf("chain.jsonl line %d", i+1)},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s %d", tt.name, i+1), func(t *testing.T) {
				if i == last && tt.name == "swapped" {
					return // swapped with itself
				}
				if i == last && tt.name == "removed" {
					tt.want = "chain.head: has line 7 about eval_result.txt"
				}
				dir := lay(t, files)
				put(t, dir, "chain.jsonl", strings.Join(tt.lines, ""))
				if got := first(t, dir).String(); !strings.HasPrefix(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

// A file whose line was removed was written by greenlight: the problem must not ask to move it out.
func TestVerifyNamesTheFileOfTheLostLine(t *testing.T) {
	dir := lay(t, small(t))
	lines := strings.SplitAfter(snapshot(t, dir)["chain.jsonl"], "\n")
	put(t, dir, "chain.jsonl", strings.Join(lines[:len(lines)-2], ""))
	report, err := evidence.Verify(dir)
	must(t, err)
	var got []string
	for _, p := range report.Problems {
		got = append(got, p.String())
	}
	if want := "eval_result.txt: not in the chain: its line is in chain.head alone"; !slices.Contains(got, want) {
		t.Errorf("got %q, want %q among them", got, want)
	}
}

func TestVerifyNamesWhatDoesNotHold(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string
	}{
		{"an extra file", func(t *testing.T, dir string) { put(t, dir, "daily/new.csv", "x") }, "daily/new.csv: not in the chain"},
		{"a hidden file", func(t *testing.T, dir string) { put(t, dir, ".note", "x") }, ".note: not in the chain"},
		{"a temporary file", func(t *testing.T, dir string) { put(t, dir, "daily/.a.csv.tmp", "x") }, "daily/.a.csv.tmp: not in the chain: left by a write that was cut short"},
		{"something in the lock", func(t *testing.T, dir string) { put(t, dir, ".lock", "x") }, ".lock: is not an empty file"},
		{"an older version", func(t *testing.T, dir string) { put(t, dir, "daily/report.csv", "psi,status\n0.1,ok\n") }, "daily/report.csv: is an older version than line 3 of chain.jsonl says"},
		{"another size", func(t *testing.T, dir string) { put(t, dir, "empty.txt", "x") }, "empty.txt: has 1 bytes, line 6 of chain.jsonl says 0"},
		{"a missing file", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "empty.txt"))) }, "empty.txt: missing; it is in line 6 of chain.jsonl"},
		{"a link in place of a file", func(t *testing.T, dir string) {
			must(t, os.Rename(filepath.Join(dir, "empty.txt"), filepath.Join(t.TempDir(), "empty.txt")))
			must(t, os.Symlink("eval_result.txt", filepath.Join(dir, "empty.txt")))
		}, "empty.txt: cannot be read: is not a regular file"},
		{"no chain", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "chain.jsonl"))) }, "chain.jsonl: missing"},
		{"an empty chain", func(t *testing.T, dir string) { put(t, dir, "chain.jsonl", "") }, "chain.jsonl: empty"},
		{"no head", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "chain.head"))) }, "chain.head: missing"},
		{"a torn line", func(t *testing.T, dir string) {
			data := snapshot(t, dir)["chain.jsonl"]
			put(t, dir, "chain.jsonl", data+`{"seq":8`)
		}, "chain.jsonl line 8: torn"},
	}
	files := small(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := lay(t, files)
			tt.change(t, dir)
			if got := first(t, dir).String(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Files that systems and editors leave in any folder are listed and ignored. Every other file that is not in the chain
// is a problem with advice.
func TestVerifyIgnoresLitterAlone(t *testing.T) {
	files := small(t)
	for name, by := range map[string]string{
		".DS_Store": "macOS", "._report.csv": "macOS", "daily/.DS_Store": "macOS", "Thumbs.db": "Windows", "desktop.ini": "Windows",
		"report.json~": "an editor", ".report.json.swp": "an editor", "#report.json#": "an editor", ".#report.csv": "an editor",
		".gitignore": "git", "notes/.DS_Store": "macOS",
	} {
		dir := lay(t, files)
		put(t, dir, name, "x")
		report := verified(t, dir)
		if len(report.Ignored) != 1 || report.Ignored[0].File != name || !strings.Contains(report.Ignored[0].What, by+" left it here") {
			t.Errorf("%s: ignored %v, want it, left by %s", name, report.Ignored, by)
		}
	}
	for _, name := range []string{"extra.json", "._report.json", ".report.json", "REPORT.JSON", "note.txt", "canary_run_x.json", "x.swp", "DS_Store", "notes/a.txt"} {
		dir := lay(t, files)
		put(t, dir, name, "{}")
		if p := first(t, dir); p.File != name || !strings.Contains(p.What, "is not evidence; move it out of the folder") {
			t.Errorf("%s: got %q, want it named with what to do", name, p)
		}
	}
	dir := lay(t, files)
	for i := range 30 {
		put(t, dir, fmt.Sprintf("copy/deep/%02d.json", i), "{}")
	}
	report, err := evidence.Verify(dir)
	must(t, err)
	if len(report.Problems) != 1 || !strings.HasPrefix(report.Problems[0].String(), "copy/: a folder with 30 files that are not in the chain, such as copy/deep/00.json") {
		t.Errorf("a folder of files: got %v, want one problem", report.Problems)
	}
}

// A saved head detects what the folder alone cannot show: a line removed from its end, with its file.
func TestPinFindsADroppedTail(t *testing.T) {
	dir := lay(t, small(t))
	head := verified(t, dir).Head
	pin := func(head string) string {
		report, err := evidence.Verify(dir)
		must(t, err)
		report.Pin(head)
		if report.OK() {
			return ""
		}
		return report.Err().Error()
	}
	for _, h := range []string{head, head[:12], head[:40]} {
		if got := pin(h); got != "" {
			t.Errorf("the head %s: %s", h, got)
		}
	}
	for h, want := range map[string]string{
		"": "want the head that greenlight evidence verify printed", head[:11]: "want the head", head + "00": "want the head", "z" + head[1:]: "want the head",
		strings.Repeat("0", 64): "lines were removed, or the folder was rebuilt",
	} {
		if got := pin(h); !strings.Contains(got, want) {
			t.Errorf("the head %q: got %q, want %q", h, got, want)
		}
	}
	must(t, os.Remove(filepath.Join(dir, "eval_result.txt")))
	raw, err := os.ReadFile(filepath.Join(dir, "chain.jsonl"))
	must(t, err)
	kept := strings.SplitAfter(string(raw), "\n")
	kept = kept[:len(kept)-2]
	put(t, dir, "chain.jsonl", strings.Join(kept, ""))
	put(t, dir, "chain.head", kept[len(kept)-1])
	older := verified(t, dir).Head
	if got := pin(head); !strings.Contains(got, "lines were removed") {
		t.Errorf("a dropped tail: got %q", got)
	}
	s := open(t, dir)
	must(t, s.WriteFile("new.txt", []byte("x")))
	must(t, s.Close())
	if got := pin(older); !strings.Contains(got, "has the requested head "+older[:12]+": 1 line was written since") {
		t.Errorf("a folder that was written to: got %q", got)
	}
}

func TestVerifyWithoutData(t *testing.T) {
	empty := t.TempDir()
	if report, err := evidence.Verify(empty); err != nil || report.OK() || report.Err() == nil {
		t.Errorf("an empty folder: %+v, %v, want one that is not OK", report, err)
	}
	open(t, empty).Close()
	if report, err := evidence.Verify(empty); err != nil || report.OK() {
		t.Errorf("a store without files: %+v, %v, want one that is not OK", report, err)
	}
	if _, err := evidence.Verify(filepath.Join(empty, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v, want %v", err, fs.ErrNotExist)
	}
	if (evidence.Report{}).OK() || (evidence.Report{}).Err() == nil {
		t.Error("the zero report is OK")
	}
}

func TestVerifyChangesNothing(t *testing.T) {
	dir := lay(t, small(t))
	put(t, dir, "daily/.a.csv.tmp", "x")
	before := snapshot(t, dir)
	first(t, dir)
	if after := snapshot(t, dir); !maps.Equal(before, after) {
		t.Errorf("got %v, want %v", after, before)
	}
}

func TestVerifyInputs(t *testing.T) {
	tests := []struct {
		name  string
		write func(t *testing.T, dir string, s *evidence.Store) evidence.Input
		stale string
		want  string
	}{
		{"the unchanged file", func(t *testing.T, dir string, s *evidence.Store) evidence.Input {
			in, err := evidence.InputOf(filepath.Join(dir, "a.txt"))
			must(t, err)
			return in
		}, "", ""},
		{"a file of another folder", func(t *testing.T, dir string, s *evidence.Store) evidence.Input {
			return evidence.Input{Path: "../data/a.txt", SHA256: strings.Repeat("ab", 32)}
		}, "", ""},
		{"a digest that no version had", func(t *testing.T, dir string, s *evidence.Store) evidence.Input {
			return evidence.Input{Path: filepath.Join(dir, "a.txt"), SHA256: strings.Repeat("ab", 32)}
		}, "", "b.json: says its input a.txt has SHA-256 abababababab; no version of it has"},
		{"an older version", func(t *testing.T, dir string, s *evidence.Store) evidence.Input {
			in, err := evidence.InputOf(filepath.Join(dir, "a.txt"))
			must(t, err)
			must(t, s.WriteFile("a.txt", []byte("2")))
			return in
		}, "b.json: was computed from an older version of a.txt (6b86b273ff34, now d4735e3a265e)", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			must(t, s.WriteFile("a.txt", []byte("1")))
			h := header
			h.Inputs = []evidence.Input{tt.write(t, dir, s)}
			must(t, s.WriteJSON("b.json", h, map[string]int{}))
			must(t, s.Close())
			t.Chdir(t.TempDir()) // the working directory must not matter
			report, err := evidence.Verify(dir)
			must(t, err)
			got, stale := "", ""
			if len(report.Problems) > 0 {
				got = report.Problems[0].String()
			}
			if len(report.Stale) > 0 {
				stale = report.Stale[0].String()
			}
			if got != tt.want || stale != tt.stale {
				t.Errorf("got %q, stale %q, want %q, stale %q", got, stale, tt.want, tt.stale)
			}
		})
	}
}

// Verify reports every change of a chain; only the chain as written verifies.
func FuzzVerifyChain(f *testing.F) {
	dir := f.TempDir()
	s, err := evidence.Open(dir, evidence.Options{Now: clock()})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if err := s.WriteFile(fmt.Sprintf("f%d.txt", i), []byte("x")); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	chain := filepath.Join(dir, "chain.jsonl")
	right, err := os.ReadFile(chain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(right)
	f.Add(right[:len(right)/2])
	f.Add([]byte("{}\n{}\n"))
	f.Add([]byte(`{"seq":1,"prev":"x","hash":"y"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		must(t, os.WriteFile(chain, data, 0o644))
		report, err := evidence.Verify(dir)
		must(t, err)
		if report.OK() != (string(data) == string(right)) {
			t.Errorf("OK = %v for %q", report.OK(), data)
		}
	})
}
