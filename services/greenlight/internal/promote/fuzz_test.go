package promote_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
)

// FuzzEvidence replaces one of the judged files with arbitrary bytes: every blocker still has a verdict, and only the original
// file lets the model pass.
func FuzzEvidence(f *testing.F) {
	const version = "v1.8.1-rc1"
	models, folder := enginetest.Registry(f, "v1.8.1", version), filepath.Join(f.TempDir(), "evidence")
	now := time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)
	names, err := promotetest.Evidence{Folder: folder, Model: enginetest.Artifact(f, "v1.8.1", version), Now: now}.Write()
	if err != nil {
		f.Fatal(err)
	}
	question := promote.Question{Models: models, Model: version, Evidence: folder, Policy: gate.DefaultPolicy()}
	check, err := promote.Judge(f.Context(), question, now)
	if err != nil {
		f.Fatal(err)
	}
	if !check.Ready() {
		f.Fatalf("the evidence as it was made does not pass: %+v", check.Blockers)
	}
	which := []string{names["offline"], names["psi"], names["canary"], names["soak"], "chain.jsonl"}
	good := map[string][]byte{}
	for i, name := range which {
		if good[name], err = os.ReadFile(filepath.Join(folder, name)); err != nil {
			f.Fatal(err)
		}
		if len(good[name]) < 30_000 { // the corpus stays small
			f.Add(uint8(i), good[name])
		}
		f.Add(uint8(i), []byte(`{"schema":"x","source":"live","phases":[{}],"overall":{}}`))
	}
	f.Add(uint8(2), bytes.Replace(good[which[2]], []byte(`"percent": 5`), []byte(`"percent": 1e309`), 1))
	f.Fuzz(func(t *testing.T, k uint8, raw []byte) {
		name := which[int(k)%len(which)]
		if err := os.WriteFile(filepath.Join(folder, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.WriteFile(filepath.Join(folder, name), good[name], 0o600) }()
		check, err := promote.Judge(t.Context(), question, now)
		if err != nil {
			t.Fatal(err)
		}
		if check.Ready() != bytes.Equal(raw, good[name]) {
			t.Fatalf("%s: ready is %v for %q", name, check.Ready(), raw)
		}
		for _, b := range check.Blockers {
			switch b.Verdict {
			case gate.Pass, gate.Fail, gate.Inconclusive, gate.Error:
			default:
				t.Fatalf("%s has the verdict %q", b.Name, b.Verdict)
			}
			if !b.Verdict.OK() && b.Reason == "" {
				t.Fatalf("%s is %s for no reason", b.Name, b.Verdict)
			}
		}
	})
}
