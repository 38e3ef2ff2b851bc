package promote

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
)

// candidate is the model of the tests, release the version it becomes.
const (
	candidate = "v1.8.1-rc1"
	release   = "v1.8.1"
)

// setting is a candidate in a registry, with evidence that lets a promotion pass.
type setting struct {
	t    *testing.T
	now  time.Time
	made promotetest.Evidence
	q    Question
	// phrases is the folder of the ledger.
	phrases string
	ledger  *confirmation.Ledger
}

func newSetting(t *testing.T) *setting {
	t.Helper()
	dir := enginetest.Registry(t, "v1.8.1", candidate)
	a, err := model.OpenRegistry(dir).Load(candidate)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	phrases := filepath.Join(t.TempDir(), "phrases")
	folder := filepath.Join(t.TempDir(), "evidence")
	return &setting{
		t: t, now: now, made: promotetest.Evidence{Folder: folder, Model: a, Now: now},
		q:       Question{Models: dir, Model: candidate, Evidence: folder, Policy: gate.DefaultPolicy()},
		phrases: phrases, ledger: confirmation.NewLedger(phrases),
	}
}

// write writes the evidence.
func (s *setting) write() map[string]string {
	s.t.Helper()
	names, err := s.made.Write()
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

func (s *setting) judge() *Check {
	s.t.Helper()
	c, err := Judge(s.t.Context(), s.q, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// ask runs the check, keeps it and returns the phrase.
func (s *setting) ask() *confirmation.Ticket {
	s.t.Helper()
	c := s.judge()
	head, err := c.Keep(s.q.Evidence, "test", evidence.Seal{})
	if err != nil {
		s.t.Fatal(err)
	}
	ticket, err := Ask(s.ledger, s.q, c, head)
	if err != nil {
		s.t.Fatalf("%v: %s", err, printed(s.t, c))
	}
	return ticket
}

// confirm confirms the phrase, like greenlight promote --confirm.
func (s *setting) confirm(phrase string, r Releaser) (*Record, error) {
	s.t.Helper()
	r.Ledger = s.ledger
	pledge, err := Redeem(s.ledger, phrase)
	if err != nil {
		return nil, err
	}
	c, err := Judge(s.t.Context(), pledge.Question(pairOf(nil, nil)), time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Release(s.t.Context(), pledge, c)
}

// released reports whether the registry has the release, which must verify.
func (s *setting) released() bool {
	s.t.Helper()
	registry := model.OpenRegistry(s.q.Models)
	entries, err := registry.List()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Version == release {
			if _, err := registry.Load(e.String()); err != nil {
				s.t.Error(err)
			}
			return true
		}
	}
	return false
}
