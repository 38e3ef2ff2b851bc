package evidence_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// writeAndKill returns the possible states of the folder when a write of name is killed after any of its steps.
func writeAndKill(before, after map[string]string, name, temp string) map[string]map[string]string {
	with := func(base map[string]string, change ...string) map[string]string {
		files := maps.Clone(base)
		for i := 0; i < len(change); i += 2 {
			files[change[i]] = change[i+1]
		}
		return files
	}
	content, head := after[name], after["chain.head"]
	staged := with(before, temp, content)
	promised := with(staged, "chain.head", head)
	published := with(before, "chain.head", head, name, content)
	states := map[string]map[string]string{
		"in the temporary file":   with(before, temp, content[:len(content)/2]),
		"1 staged":                staged,
		"in the head's temporary": with(staged, ".chain.head.tmp", head[:10]),
		"2 promised":              promised,
		"3 published":             published,
		"4 appended":              after,
	}
	line := strings.TrimPrefix(after["chain.jsonl"], before["chain.jsonl"])
	for n := 1; n < len(line); n = min(n+23, max(n+1, len(line)-1)) { // also without only the line end
		states[fmt.Sprintf("4 torn after %d", n)] = with(published, "chain.jsonl", before["chain.jsonl"]+line[:n])
	}
	// Some file systems extend the file before they write the bytes.
	states["4 torn with zeros"] = with(published, "chain.jsonl", before["chain.jsonl"]+strings.Repeat("\x00", len(line)))
	return states
}

func TestOpenMendsAKillAfterAnyStep(t *testing.T) {
	tests := []struct {
		name    string
		earlier []string // contents written before
		file    string
		temp    string
	}{
		{"the very first write", nil, "a.txt", ".a.txt.tmp"},
		{"a new file in a sub-folder", []string{"old"}, "daily/b.txt", "daily/.b.txt.tmp"},
		{"a file written again", []string{"old"}, "a.txt", ".a.txt.tmp"},
		{"a file written again unchanged", []string{"new content"}, "a.txt", ".a.txt.tmp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			for _, content := range tt.earlier {
				must(t, s.WriteFile("a.txt", []byte(content)))
			}
			before := snapshot(t, dir)
			must(t, s.WriteFile(tt.file, []byte("new content")))
			must(t, s.Close())
			after := snapshot(t, dir)
			for state, files := range writeAndKill(before, after, tt.file, tt.temp) {
				dir := lay(t, files)
				if got := first(t, dir); got.What == "" && state != "4 appended" {
					t.Errorf("%s: Verify did not see it", state)
				}
				open(t, dir).Close()
				got := snapshot(t, dir)
				switch {
				case state == "in the temporary file", strings.HasPrefix(state, "1"), strings.HasPrefix(state, "in the head"):
					if !maps.Equal(got, before) {
						t.Errorf("%s: got %v, want the state before", state, got)
					}
				case state == "4 torn with zeros":
					if len(got["torn/chain-"+fmt.Sprint(len(tt.earlier)+2)+".txt"]) == 0 || got[tt.file] != "new content" {
						t.Errorf("%s: got %v, want the file and the torn line set aside", state, got)
					}
					verified(t, dir)
				default:
					if !maps.Equal(got, after) {
						t.Errorf("%s: got %v, want the state after", state, got)
					}
				}
				if len(got["chain.jsonl"]) > 0 {
					verified(t, dir)
				}
			}
		})
	}
}

// The repair of a torn line may be killed as well.
func TestOpenRepairsAKilledRepair(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.WriteFile("a.txt", []byte("1")))
	must(t, s.Close())
	before := snapshot(t, dir)
	const tail = `{"seq":2,"time":"1999` // not the start of the line that will describe it
	before["chain.jsonl"] += tail
	dir = lay(t, before)
	open(t, dir).Close()
	verified(t, dir)
	after := snapshot(t, dir)
	if got := after["torn/chain-2.txt"]; got != tail {
		t.Fatalf("set aside %q, want %q", got, tail)
	}
	states := []map[string]string{
		{"torn/.chain-2.txt.tmp": tail[:3]},
		{"torn/chain-2.txt": tail},
		{"torn/chain-2.txt": tail, "chain.head": after["chain.head"]},
		{"torn/chain-2.txt": tail, "chain.head": after["chain.head"], ".chain.jsonl.tmp": "x"},
	}
	for i, state := range states {
		files := maps.Clone(before)
		maps.Copy(files, state)
		dir := lay(t, files)
		open(t, dir).Close()
		verified(t, dir)
		if got := snapshot(t, dir); !maps.Equal(got, after) {
			t.Errorf("state %d: got %v, want %v", i, got, after)
		}
	}
}

// A chain or a head that is cut anywhere is completed, set aside or refused, and what is accepted verifies.
func TestOpenAfterAnyCut(t *testing.T) {
	whole := small(t)
	lines := strings.SplitAfter(whole["chain.jsonl"], "\n")
	last := len(whole["chain.jsonl"]) - len(lines[len(lines)-2])
	dir := lay(t, whole)
	for _, name := range []string{"chain.jsonl", "chain.head"} {
		for cut := range len(whole[name]) {
			if cut > last && cut%61 > 0 && cut < len(whole[name])-1 {
				continue // completing a write takes a dozen syncs
			}
			files := maps.Clone(whole)
			files[name] = whole[name][:cut]
			put(t, dir, name, files[name])
			s, err := evidence.Open(dir, evidence.Options{})
			if name == "chain.head" || cut < last { // more than a torn append can lose
				if !errors.Is(err, evidence.ErrBroken) || !strings.Contains(err.Error(), "chain.head") {
					t.Fatalf("%s cut at %d: got %v, want %v", name, cut, err, evidence.ErrBroken)
				}
				if after := snapshot(t, dir); !maps.Equal(after, files) {
					t.Fatalf("%s cut at %d: a refused folder was changed", name, cut)
				}
				put(t, dir, name, whole[name])
				continue
			}
			must(t, err)
			must(t, s.Close())
			verified(t, dir)
			if after := snapshot(t, dir); !maps.Equal(after, whole) {
				t.Fatalf("%s cut at %d: got %v, want what was there before", name, cut, after)
			}
		}
	}
}

func TestOpenDoesNotBuryABreak(t *testing.T) {
	files := small(t)
	lines := strings.SplitAfter(files["chain.jsonl"], "\n")
	tests := []struct {
		name   string
		change map[string]string
	}{
		{"a changed line", map[string]string{"chain.jsonl": strings.Replace(files["chain.jsonl"], `"size":18`, `"size":19`, 1)}},
		{"two lines removed at the end", map[string]string{"chain.jsonl": strings.Join(lines[:5], "")}},
		{"an empty chain", map[string]string{"chain.jsonl": ""}},
		{"an invalid head", map[string]string{"chain.head": "x"}},
		{"an empty head", map[string]string{"chain.head": ""}},
		{"the last line removed and its file changed", map[string]string{
			"chain.jsonl": strings.Join(lines[:6], ""), "eval_result.txt": "AUC 0.99: PASS\n",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := maps.Clone(files)
			maps.Copy(changed, tt.change)
			dir := lay(t, changed)
			_, err := evidence.Open(dir, evidence.Options{})
			if !errors.Is(err, evidence.ErrBroken) {
				t.Fatalf("got %v, want %v", err, evidence.ErrBroken)
			}
			if after := snapshot(t, dir); !maps.Equal(after, changed) {
				t.Errorf("Open changed the folder: %v", after)
			}
			// The lock has been released.
			if _, err := evidence.Verify(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// Open does not accept a file that got into the folder in another way.
func TestOpenDoesNotAdoptFiles(t *testing.T) {
	dir := lay(t, small(t))
	put(t, dir, "report.json", `{"auc": 0.99}`)
	put(t, dir, "new.txt", "x")
	open(t, dir).Close()
	report, err := evidence.Verify(dir)
	must(t, err)
	if len(report.Problems) != 2 || report.Problems[0].File != "report.json" || report.Problems[1].File != "new.txt" {
		t.Errorf("got %v, want report.json and new.txt", report.Problems)
	}
}
