package evidence_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// FuzzOpen opens a folder with an arbitrary chain and head. It is refused and left unchanged, or its chain is valid
// afterwards and still has at least its complete lines.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	s, err := evidence.Open(dir, evidence.Options{Now: clock()})
	if err != nil {
		f.Fatal(err)
	}
	for _, content := range []string{"1", "2"} {
		if err := s.WriteFile("a.txt", []byte(content)); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		return string(raw)
	}
	chain, head := read("chain.jsonl"), read("chain.head")
	first := chain[:strings.IndexByte(chain, '\n')+1]
	f.Add(chain, head, "")
	f.Add(chain[:len(chain)-10], head, "")
	f.Add(first, head, "2")
	f.Add(first, first, "")
	f.Add(chain+`{"seq":3`, head, "")
	f.Add("", "", "x")
	f.Fuzz(func(t *testing.T, chain, head, staged string) {
		files := map[string]string{"a.txt": "2", "chain.jsonl": chain, "chain.head": head}
		if chain == "" && head == "" {
			delete(files, "a.txt") // a file without a chain is never valid
		}
		if staged != "" {
			files[".a.txt.tmp"] = staged
		}
		dir := lay(t, files)
		s, err := evidence.Open(dir, evidence.Options{Now: clock(), Wait: -1})
		if err != nil {
			if !errors.Is(err, evidence.ErrBroken) {
				t.Fatalf("got %v", err)
			}
			after := snapshot(t, dir)
			delete(after, ".lock") // the lock was held during the check
			if !maps.Equal(after, files) {
				t.Fatalf("refused (%v), and changed: %v", err, after)
			}
			return
		}
		must(t, s.Close())
		report, err := evidence.Verify(dir)
		must(t, err)
		after := snapshot(t, dir)["chain.jsonl"]
		whole := chain[:strings.LastIndexByte(chain, '\n')+1]
		if !strings.HasPrefix(after, whole) {
			t.Fatalf("the chain is %q and was %q", after, chain)
		}
		for _, p := range report.Problems {
			if p.File != "a.txt" && after != "" { // Verify compares files with the chain
				t.Fatalf("opened, but %v; the chain is %q and was %q", p, after, chain)
			}
		}
	})
}

// FuzzDocument writes arbitrary JSON as the body of a file. It is refused and nothing is written, or it reads back
// unchanged, with its header, and the folder verifies.
func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"auc":0.7,"n":3,"nested":{"a":[1,null,"<"]}}`), "note")
	f.Add([]byte(`{"Source":"live"}`), "")
	f.Add([]byte(`{"a":1,"a":2}`), "\u2028")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body []byte, git string) {
		s, err := evidence.Open(dir, evidence.Options{Now: clock(), Wait: -1})
		must(t, err)
		before := snapshot(t, dir)
		h := header
		h.Git = git
		var want map[string]any
		err = s.WriteJSON("x.json", h, json.RawMessage(body))
		must(t, s.Close())
		if err != nil {
			if after := snapshot(t, dir); !maps.Equal(after, before) {
				t.Fatalf("refused (%v), and written", err)
			}
			return
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("%q was written, and is no object: %v", body, err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "x.json"))
		must(t, err)
		var back evidence.Header
		got := map[string]any{}
		must(t, errors.Join(json.Unmarshal(raw, &back), json.Unmarshal(raw, &got)))
		if back.Source != h.Source || back.Schema != h.Schema || (back.Git != git && utf8.ValidString(git)) {
			t.Fatalf("the header is %+v, want %+v", back, h)
		}
		for key, v := range want {
			if !reflect.DeepEqual(got[key], v) {
				t.Fatalf("key %q is %v, want %v", key, got[key], v)
			}
		}
		verified(t, dir)
	})
}
