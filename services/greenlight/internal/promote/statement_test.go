package promote

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
)

func newSigner(t *testing.T) *dsse.Signer {
	t.Helper()
	s, _ := keytest.New(t)
	return s
}

// A promotion with a key has a statement that others can verify: about the model's digest, and consistent with promotion.json.
func TestStatement(t *testing.T) {
	s := newSetting(t)
	s.write()
	key, other := newSigner(t), newSigner(t)
	rec, err := s.confirm(s.ask().Phrase, Releaser{Seal: evidence.Seal{Signer: key}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.q.Evidence, StatementName)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// As another program would read it: as generic JSON.
	var envelope struct {
		PayloadType string
		Payload     []byte
	}
	var statement struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Name   string
			Digest map[string]string
		}
		Predicate map[string]any
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(envelope.Payload, &statement); err != nil {
		t.Fatal(err)
	}
	if envelope.PayloadType != "application/vnd.in-toto+json" || statement.Type != "https://in-toto.io/Statement/v1" ||
		len(statement.Subject) != 1 || statement.Subject[0].Digest["sha256"] != rec.Digest || !strings.HasSuffix(statement.Subject[0].Name, "/"+rec.To) {
		t.Errorf("%+v of %s", statement, envelope.PayloadType)
	}
	for _, name := range []string{"blockers", "psi", "policy", "evidence_head", "evidence", "confirmation"} {
		if statement.Predicate[name] == nil {
			t.Errorf("the predicate lacks %s", name)
		}
	}

	if err := CheckStatement(s.q.Evidence, key.Public()); err != nil {
		t.Errorf("as written: %v", err)
	}
	if err := CheckStatement(s.q.Evidence, other.Public()); err == nil {
		t.Error("another key is trusted")
	}
	changed := *rec
	changed.PSI += 0.5
	for name, forged := range map[string]*Record{"a claim": &changed, "a digest": func() *Record { r := *rec; r.Digest = strings.Repeat("0", 64); return &r }()} {
		e, err := key.SignStatement(forged.Name+"/"+forged.To, forged.Digest, StatementPredicate, forged.predicate())
		if err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, line, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckStatement(s.q.Evidence, key.Public()); err == nil {
			t.Errorf("%s differs from promotion.json, and nobody notices", name)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := CheckStatement(s.q.Evidence, key.Public()); err == nil {
		t.Error("a promotion without a statement passes")
	}
	if err := CheckStatement(t.TempDir(), key.Public()); err != nil {
		t.Errorf("without a promotion: %v", err)
	}
}
