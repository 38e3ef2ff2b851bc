package evidence_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// signer returns the key at path and creates a missing one.
func signer(path string) (*dsse.Signer, error) {
	if _, err := os.Lstat(path); err != nil {
		if err := dsse.NewKey(path); err != nil {
			return nil, err
		}
	}
	return dsse.ReadSigner(path)
}

func jsonLine(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return append(data, '\n')
}

func newKey(t *testing.T) *dsse.Signer {
	t.Helper()
	s, err := signer(filepath.Join(t.TempDir(), "key.pem"))
	must(t, err)
	return s
}

// record writes text files to the folder, which is signed if there is a key.
func record(t *testing.T, dir string, opts evidence.Options, names ...string) {
	t.Helper()
	s, err := evidence.Open(dir, opts)
	must(t, err)
	for _, name := range names {
		must(t, s.WriteFile(name, []byte("content of "+name)))
	}
	must(t, s.Close())
}

// trusted returns the first problem of the folder, with the keys trusted; empty if there is none.
func trusted(t *testing.T, dir string, keys dsse.Keys) string {
	t.Helper()
	report, err := evidence.Verify(dir)
	must(t, err)
	must(t, report.Trust(keys))
	if len(report.Problems) == 0 {
		return ""
	}
	return report.Problems[0].String()
}

func TestTrust(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	signed := evidence.Options{Seal: evidence.Seal{Signer: ours}}
	rebuilt := func(opts evidence.Options) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			record(t, dir, opts, "a.txt", "b.txt", "c.txt")
		}
	}
	// forge appends a line like an attacker who can write to the folder but has no key.
	forge := func(t *testing.T, dir string) {
		seals, err := os.ReadFile(filepath.Join(dir, "chain.sig.jsonl"))
		must(t, err)
		must(t, os.Remove(filepath.Join(dir, "chain.sig.jsonl")))
		record(t, dir, evidence.Options{}, "d.txt")
		must(t, os.WriteFile(filepath.Join(dir, "chain.sig.jsonl"), seals, 0o600))
	}
	for name, test := range map[string]struct {
		change func(*testing.T, string)
		want   string
	}{
		"nothing":                 {func(*testing.T, string) {}, ""},
		"rebuilt without a key":   {rebuilt(evidence.Options{}), "chain.jsonl line 1: is not signed"},
		"rebuilt by another key":  {rebuilt(evidence.Options{Seal: evidence.Seal{Signer: theirs}}), "chain.jsonl line 1: no line is signed by a trusted key; the signatures name key " + theirs.ID()[:12]},
		"the signatures removed":  {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "chain.sig.jsonl"))) }, "chain.jsonl line 1: is not signed"},
		"the signatures emptied":  {func(t *testing.T, dir string) { put(t, dir, "chain.sig.jsonl", "") }, "chain.jsonl line 1: no line is signed by a trusted key"},
		"a line appended":         {forge, "chain.jsonl line 4: is not signed by a trusted key; the lines before it are"},
		"a file changed":          {func(t *testing.T, dir string) { put(t, dir, "b.txt", "another") }, "b.txt: has 7 bytes, line 2 of chain.jsonl says 16"},
		"garbage for a signature": {func(t *testing.T, dir string) { put(t, dir, "chain.sig.jsonl", "x\n") }, "chain.sig.jsonl line 1: not a DSSE envelope: invalid character 'x' looking for beginning of value"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "evidence")
			record(t, dir, signed, "a.txt", "b.txt", "c.txt")
			test.change(t, dir)
			if got := trusted(t, dir, ours.Public()); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// One signature covers every line before it, so signing may begin with a folder that has lines already.
func TestTrustOfALateKey(t *testing.T) {
	key, dir := newKey(t), t.TempDir()
	record(t, dir, evidence.Options{}, "a.txt", "b.txt")
	if got := trusted(t, dir, key.Public()); !strings.Contains(got, "is not signed") {
		t.Errorf("without signatures: %q", got)
	}
	record(t, dir, evidence.Options{Seal: evidence.Seal{Signer: key}}, "c.txt")
	if got := trusted(t, dir, key.Public()); got != "" {
		t.Errorf("with a signature: %q", got)
	}
	// From then on nothing is written without a signature.
	if _, err := evidence.Open(dir, evidence.Options{}); !errors.Is(err, evidence.ErrKey) {
		t.Errorf("opened without a key: %v", err)
	}
	// A signature that a kill left without its line, and one that a kill cut short, change nothing.
	seals := filepath.Join(dir, "chain.sig.jsonl")
	envelope, err := key.Sign("application/vnd.greenlight.evidence-line+json", []byte("no line of the chain"))
	must(t, err)
	raw, err := os.ReadFile(seals)
	must(t, err)
	must(t, os.WriteFile(seals, append(append(raw, jsonLine(t, envelope)...), raw[:9]...), 0o600))
	if got := trusted(t, dir, key.Public()); got != "" {
		t.Errorf("after a kill: %q", got)
	}
	record(t, dir, evidence.Options{Seal: evidence.Seal{Signer: key}}, "d.txt")
	if got := trusted(t, dir, key.Public()); got != "" {
		t.Errorf("after the next write: %q", got)
	}
}

// The signatures do not show that lines were removed from the end. A witness does.
func TestWitness(t *testing.T) {
	var kept atomic.Value
	down := atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load():
			http.Error(w, "down", http.StatusServiceUnavailable)
		case r.Method == http.MethodPost:
			body, _ := io.ReadAll(r.Body)
			kept.Store(body)
		default:
			body, _ := kept.Load().([]byte)
			_, _ = w.Write(body)
		}
	}))
	defer server.Close()
	for _, place := range []string{"file:" + filepath.Join(t.TempDir(), "second", "heads.jsonl"), server.URL + "/heads"} {
		key, dir := newKey(t), filepath.Join(t.TempDir(), "evidence")
		witness, err := evidence.OpenWitness(place)
		must(t, err)
		pinned := func() (evidence.Report, string) {
			report, err := evidence.Verify(dir)
			must(t, err)
			head, err := witness.Head()
			must(t, err)
			report.Pin(head)
			must(t, report.Trust(key.Public()))
			if len(report.Problems) == 0 {
				return report, ""
			}
			return report, report.Problems[0].String()
		}
		opts := evidence.Options{Seal: evidence.Seal{Signer: key, Witness: witness}}
		record(t, dir, opts, "a.txt", "b.txt")
		before := snapshot(t, dir)
		record(t, dir, opts, "c.txt")
		if _, got := pinned(); got != "" {
			t.Errorf("%s: %s", place, got)
		}
		must(t, os.RemoveAll(dir))
		for name, content := range before {
			put(t, dir, name, content)
		}
		if _, got := pinned(); !strings.Contains(got, "lines were removed") {
			t.Errorf("%s: the last line was removed: %q", place, got)
		}
		// The next write by the holder of the key cannot hide it either: the heads differ.
		record(t, dir, evidence.Options{Seal: evidence.Seal{Signer: key}}, "d.txt")
		if _, got := pinned(); !strings.Contains(got, "lines were removed") {
			t.Errorf("%s: another line was written: %q", place, got)
		}
	}
	// A witness that cannot be reached loses no evidence, and gets the head with the next write.
	witness, err := evidence.OpenWitness(server.URL)
	must(t, err)
	dir := t.TempDir()
	s, err := evidence.Open(dir, evidence.Options{Seal: evidence.Seal{Witness: witness}})
	must(t, err)
	down.Store(true)
	if err := s.WriteFile("a.txt", nil); !errors.Is(err, evidence.ErrWitness) {
		t.Errorf("the witness is down: %v", err)
	}
	down.Store(false)
	must(t, s.WriteFile("b.txt", nil))
	must(t, s.Close())
	if head, err := witness.Head(); err != nil || head != verified(t, dir).Head {
		t.Errorf("the witness has %q, %v", head, err)
	}
	for _, bad := range []string{"x", "file:", "ftp://host/x", "http://"} {
		if _, err := evidence.OpenWitness(bad); err == nil {
			t.Errorf("witness %q", bad)
		}
	}
}
