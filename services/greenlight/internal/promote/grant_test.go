package promote

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
)

// granted returns the grant of the model from the current folder.
func (s *setting) granted(digest string) (*Grant, error) {
	s.t.Helper()
	report, err := evidence.Verify(s.q.Evidence)
	if err != nil {
		s.t.Fatal(err)
	}
	return Granted(&report, digest)
}

// A promotion grants only its own model. Any change to its files revokes the grant.
func TestGranted(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	names := s.write()
	digest := s.made.Model.Digest()
	if _, err := s.granted(digest); !errors.Is(err, ErrNotPromoted) || !strings.Contains(err.Error(), "promotion.json is not there") {
		t.Errorf("before the promotion: %v", err)
	}
	if _, err := s.confirm(s.ask().Phrase, Releaser{Git: "test"}); err != nil {
		t.Fatal(err)
	}
	g, err := s.granted(digest)
	if err != nil {
		t.Fatal(err)
	}
	if g.Model.Digest != digest || g.Model.Version != release || g.Plan != outcometest.Plan() || len(g.Inputs) != 2 || g.Inputs[1].Path != names["quality"] {
		t.Errorf("granted %+v", g)
	}
	if _, err := s.granted(strings.Repeat("f", 64)); !errors.Is(err, ErrNotPromoted) {
		t.Errorf("another model: %v", err)
	}
	for name, change := range map[string]struct{ file, from, to string }{
		"an open blocker":      {PromotionName, `"verdict": "PASS"`, `"verdict": "INCONCLUSIVE"`},
		"not live":             {PromotionName, `"source": "live"`, `"source": "replay"`},
		"another header":       {PromotionName, `"digest": "` + digest, `"digest": "` + strings.Repeat("e", 64)},
		"no live quality":      {PromotionName, `"live quality"`, `"dead quality"`},
		"another live quality": {names["quality"], "\n", " \n"},
		"another schema":       {PromotionName, PromotionSchema, "greenlight/promotion/v0"},
	} {
		path := s.made.Path(change.file)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		edited := strings.Replace(string(raw), change.from, change.to, 1)
		if edited == string(raw) {
			t.Fatalf("%s: nothing to change", name)
		}
		if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := s.granted(digest); err == nil {
			t.Errorf("%s: granted %+v", name, g)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A rollback of the model ends its promotion, whatever the clocks say, and another promotion grants it again. A rollback of
// another model, or one before the promotion, does not end it.
func TestRollbackEndsTheGrant(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.write()
	digest := s.made.Model.Digest()
	ours, other := &evidence.Model{Version: release, Digest: digest}, &evidence.Model{Version: "v1", Digest: strings.Repeat("f", 64)}
	store := func(write func(*evidence.Store) error) {
		t.Helper()
		store, err := evidence.Open(s.q.Evidence, evidence.Options{})
		if err == nil {
			err = errors.Join(write(store), store.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rollBack := func(at time.Time, from *evidence.Model) {
		t.Helper()
		r := &rollback.Result{Reason: "test", StartTime: at.UTC().Truncate(time.Millisecond), Engines: []rollback.Engine{{Address: "a:1", From: from}}}
		store(func(store *evidence.Store) error {
			_, err := r.Write(store, "test")
			return err
		})
	}
	want := func(what string, granted bool) {
		t.Helper()
		if _, err := s.granted(digest); granted != (err == nil) || err != nil && (!errors.Is(err, ErrNotPromoted) || !strings.Contains(err.Error(), "was rolled back at")) {
			t.Errorf("%s: %v", what, err)
		}
		if report, err := evidence.Verify(s.q.Evidence); err != nil || !report.OK() {
			t.Errorf("%s: the folder does not verify: %v, %v", what, report.Problems, err)
		}
	}
	rollBack(s.now.Add(-time.Hour), ours)
	rec, err := s.confirm(s.ask().Phrase, Releaser{Git: "test"})
	if err != nil {
		t.Fatal(err)
	}
	after := func(d time.Duration) time.Time { return rec.Time.Add(d) }
	promote := func(at time.Time) {
		t.Helper()
		header := evidence.Header{Schema: PromotionSchema, Source: evidence.Live, Model: ours, Inputs: rec.Inputs, Git: "test"}
		again := *rec
		again.Time = at
		store(func(store *evidence.Store) error { return store.WriteJSON(PromotionName, header, &again) })
	}
	want("a rollback before the promotion", true)
	rollBack(after(time.Minute), other)
	want("a rollback of another model", true)
	rollBack(after(-2*time.Hour), ours)
	want("a rollback with a clock that is behind", false)
	promote(after(time.Hour))
	want("another promotion", true)
	rollBack(after(2*time.Hour), ours)
	want("a rollback", false)
	promote(after(time.Hour))
	want("the promotion is finished after the rollback", false)
	promote(after(3 * time.Hour))
	want("another promotion", true)
	rollBack(after(4*time.Hour), nil)
	want("a rollback of an ml-engine that does not answer", false)
}
