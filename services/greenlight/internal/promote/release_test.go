package promote

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.write()
	ticket := s.ask()
	deaf := &engine{version: candidate, digest: s.made.Model.Digest(), refuses: status.Error(codes.PermissionDenied, "no token")}
	p := pairOf([]*engine{{}, deaf}, nil)
	rec, err := s.confirm(ticket.Phrase, Releaser{Engines: p.Engines, Git: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if rec.To != release || rec.From != candidate || rec.Digest != s.made.Model.Digest() || rec.Confirmation != ticket.Phrase {
		t.Errorf("record %+v", rec)
	}
	for _, r := range rec.Blockers {
		if r.Verdict != gate.Pass {
			t.Errorf("%s is %s in the record of a promotion", r.Name, r.Verdict)
		}
	}
	// One engine serves the release; the record has what the other serves, and why.
	if a := rec.Activated; len(a) != 2 || a[0].Error != "" || a[0].Version != release || !strings.Contains(a[1].Error, "no token") || a[1].Version != candidate {
		t.Errorf("activated %+v", rec.Activated)
	}
	for _, want := range []string{"- [FEATURE] Model v1.8.1 (test, logistic on schema v1.8.1, digest ", "tried as v1.8.1-rc1", "AUC 0.863", "P@20 0.828", "soaked for 24.0 h", "match rate 99.0 %"} {
		if !strings.Contains(rec.Changelog, want) {
			t.Errorf("the entry for the changelog lacks %q: %s", want, rec.Changelog)
		}
	}
	// The same model under its new version, and evidence that verifies.
	if !s.released() {
		t.Fatal("the registry has no release")
	}
	a, err := model.OpenRegistry(s.q.Models).Load(release)
	if err != nil || a.Digest() != s.made.Model.Digest() || a.Release == nil || a.Release.From != candidate {
		t.Errorf("release %+v, %v", a.Release, err)
	}
	report, err := evidence.Verify(s.q.Evidence)
	if err = errors.Join(err, report.Err()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.q.Evidence, PromotionName)); err != nil {
		t.Error(err)
	}
	// Once more: the phrase was used, and nothing is left to finish.
	if _, err := s.confirm(ticket.Phrase, Releaser{}); !errors.Is(err, confirmation.ErrUsed) {
		t.Errorf("a second time: %v", err)
	}
	pledge, err := Redeem(s.ledger, ticket.Phrase)
	if !errors.Is(err, confirmation.ErrUsed) || pledge == nil {
		t.Fatal(err)
	}
	r := Releaser{Ledger: s.ledger}
	if _, err := r.Finish(t.Context(), pledge, s.now); !errors.Is(err, confirmation.ErrUsed) || !strings.Contains(err.Error(), "nothing is left to do") {
		t.Errorf("finish: %v", err)
	}
}

// A phrase is refused, or what it confirms has changed, and nothing is released.
func TestRefused(t *testing.T) {
	t.Parallel()
	nonce := regexp.MustCompile(`nonce=.*$`)
	for name, test := range map[string]struct {
		// phrase edits the phrase, change changes what it confirms after it was issued.
		phrase func(string) string
		change func(*setting, *confirmation.Ticket)
		want   error
	}{
		"empty":           {phrase: func(string) string { return "" }, want: ErrPhrase},
		"yes":             {phrase: func(string) string { return "yes" }, want: ErrPhrase},
		"a part":          {phrase: func(s string) string { return s[:len(s)-30] }, want: ErrPhrase},
		"another version": {phrase: func(s string) string { return strings.Replace(s, "-> v1.8.1", "-> v2.0.0", 1) }, want: confirmation.ErrMismatch},
		"another digest": {phrase: func(s string) string {
			return regexp.MustCompile(`model=\w{12}`).ReplaceAllString(s, "model=0123456789ab")
		}, want: confirmation.ErrMismatch},
		"another drift": {phrase: func(s string) string { return regexp.MustCompile(`psi=\S+`).ReplaceAllString(s, "psi=0.5") }, want: confirmation.ErrMismatch},
		"later":         {phrase: func(s string) string { return regexp.MustCompile(`expires=\d{4}`).ReplaceAllString(s, "expires=2999") }, want: confirmation.ErrMismatch},
		"never issued":  {phrase: func(s string) string { return nonce.ReplaceAllString(s, "nonce=aaaaaaaaaaaaaaaa") }, want: confirmation.ErrUnknown},
		"ledger edited": {want: ErrOtherTicket, change: func(s *setting, ticket *confirmation.Ticket) {
			s.edit(ticket, s.made.Model.Digest(), strings.Repeat("0", 64))
		}},
		"evidence written since": {want: ErrOtherEvidence, change: func(s *setting, _ *confirmation.Ticket) {
			s.keep("note.txt", "what else was seen")
		}},
		"drift measured since": {want: ErrOtherEvidence, change: func(s *setting, _ *confirmation.Ticket) {
			s.made.Shift = 0.01
			s.made.Offline, s.made.Canary, s.made.Soak = leaveOut[experiment.OfflineReport], leaveOut, leaveOut
			s.write()
		}},
		"evidence damaged since": {want: ErrOtherEvidence, change: func(s *setting, _ *confirmation.Ticket) {
			s.put("offline_report.json", append(s.get("offline_report.json"), ' '))
		}},
		"model exchanged since": {want: ErrOtherModel, change: func(s *setting, _ *confirmation.Ticket) {
			path := filepath.Join(s.q.Models, "test", candidate, model.ManifestFile)
			raw, err := os.ReadFile(path)
			s.must(err)
			s.must(os.WriteFile(path, []byte(strings.ReplaceAll(string(raw), s.made.Model.Digest(), strings.Repeat("0", 64))), 0o600))
		}},
		"released since": {want: ErrBlocked, change: func(s *setting, _ *confirmation.Ticket) {
			s.must(model.OpenRegistry(s.q.Models).Release(model.Entry{Name: "test", Version: candidate}, release, model.Release{Time: s.now, Record: []byte("{}")}))
		}},
		"used": {want: confirmation.ErrUsed, change: func(s *setting, ticket *confirmation.Ticket) { s.must(s.ledger.Use(ticket)) }},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newSetting(t)
			s.write()
			ticket := s.ask()
			phrase := ticket.Phrase
			if test.phrase != nil {
				phrase = test.phrase(phrase)
			}
			if test.change != nil {
				test.change(s, ticket)
			}
			before := s.released()
			if _, err := s.confirm(phrase, Releaser{}); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if s.released() != before {
				t.Error("it was released all the same")
			}
			// A refusal does not use the phrase up.
			if _, err := s.ledger.Find(ticket.Phrase); errors.Is(err, confirmation.ErrUsed) != errors.Is(test.want, confirmation.ErrUsed) {
				t.Errorf("the phrase as it was issued: %v", err)
			}
		})
	}
}

// keep adds a file to the evidence.
func (s *setting) keep(name, text string) {
	s.t.Helper()
	store, err := evidence.Open(s.q.Evidence, evidence.Options{})
	s.must(err)
	s.must(errors.Join(store.WriteFile(name, []byte(text)), store.Close()))
}

// edit replaces a text in the ticket's ledger file.
func (s *setting) edit(ticket *confirmation.Ticket, from, to string) {
	s.t.Helper()
	path := filepath.Join(s.phrases, ticket.Nonce+".json")
	raw, err := os.ReadFile(path)
	s.must(err)
	s.must(os.WriteFile(path, []byte(strings.ReplaceAll(string(raw), from, to)), 0o600))
}

// A phrase is valid for half an hour, minus the seconds of its minute.
func TestExpires(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.write()
	ticket := s.ask()
	if left := time.Until(ticket.ExpiryTime); left > Validity || left < Validity-time.Minute {
		t.Errorf("good for %v, want %v", left, Validity)
	}
	past := s.now.Add(-time.Hour).Truncate(time.Minute)
	old, late := ticket.ExpiryTime.Format(minuteForm), past.Format(minuteForm)
	s.edit(ticket, old, late)
	s.edit(ticket, ticket.ExpiryTime.Format(time.RFC3339), past.Format(time.RFC3339))
	if _, err := s.confirm(strings.ReplaceAll(ticket.Phrase, old, late), Releaser{}); !errors.Is(err, confirmation.ErrExpired) || s.released() {
		t.Errorf("got %v, released %v", err, s.released())
	}
}

func TestNoPhraseWhileSomethingBlocks(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.made.PSI = leaveOut[driftfleet.Report]
	s.write()
	c := s.judge()
	head, err := c.Keep(s.q.Evidence, "test", evidence.Seal{})
	s.must(err)
	if _, err := Ask(s.ledger, s.q, c, head); !errors.Is(err, ErrNotReady) {
		t.Errorf("got %v", err)
	}
	if c.Header("").Source != evidence.Live {
		t.Errorf("source %s", c.Header("").Source)
	}
}

// Wherever the process is killed, the same phrase either finishes the release or was used up without one. There are never two
// releases.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{stepUsed, stepReleased, stepActivated, stepWritten} {
		t.Run(strings.ReplaceAll(step, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newSetting(t)
			s.write()
			ticket := s.ask()
			kill := func(at string) error {
				if at == step {
					return errKilled
				}
				return nil
			}
			if _, err := s.confirm(ticket.Phrase, Releaser{killed: kill}); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			pledge, err := Redeem(s.ledger, ticket.Phrase)
			if !errors.Is(err, confirmation.ErrUsed) {
				t.Fatalf("the phrase after it: %v", err)
			}
			served := &engine{}
			r := Releaser{Ledger: s.ledger, Engines: pairOf([]*engine{served}, nil).Engines}
			rec, err := r.Finish(t.Context(), pledge, time.Now())
			if step == stepUsed || step == stepWritten {
				if !errors.Is(err, confirmation.ErrUsed) || s.released() != (step == stepWritten) || served.version != "" {
					t.Errorf("got %v, released %v, served %q", err, s.released(), served.version)
				}
				return
			}
			if err != nil || rec.To != release || served.version != release || !s.released() {
				t.Fatalf("got %+v, %v, served %q", rec, err, served.version)
			}
			report, err := evidence.Verify(s.q.Evidence)
			if err = errors.Join(err, report.Err()); err != nil {
				t.Error(err)
			}
			// Finishing again changes nothing.
			if _, err := r.Finish(t.Context(), pledge, time.Now()); !errors.Is(err, confirmation.ErrUsed) {
				t.Errorf("finished again: %v", err)
			}
		})
	}
}

// Two people who confirm the same phrase at the same time make one release.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.write()
	phrase := s.ask().Phrase
	var made, refused atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			switch _, err := s.confirm(phrase, Releaser{}); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, confirmation.ErrUsed), errors.Is(err, ErrOtherEvidence), errors.Is(err, ErrBlocked):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || refused.Load() != 7 || !s.released() {
		t.Errorf("%d made it, %d were refused", made.Load(), refused.Load())
	}
}

func TestPhraseForm(t *testing.T) {
	t.Parallel()
	if err := checkPhrase(example); err != nil {
		t.Error(err)
	}
	for _, text := range []string{
		"", "ONAY", strings.ToLower(example), example + " and more", strings.Replace(example, " -> ", " => ", 1),
		strings.Replace(example, "psi=0.1432", "psi=NaN", 1), strings.Replace(example, "v1.8.1 model", "v1.8.1\n model", 1),
	} {
		if err := checkPhrase(text); !errors.Is(err, ErrPhrase) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Non-default policy values are part of the phrase, and of what it confirms.
func TestPhraseNamesTheTerms(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.write()
	s.q.Policy.MatchTolerance, s.q.Policy.DecisionThreshold = 0.1, 0.6
	phrase := s.ask().Phrase
	if !strings.Contains(phrase, " -> "+release+" tolerance=0.1 threshold=0.6 model=") {
		t.Fatalf("got %s", phrase)
	}
	if _, err := s.confirm(strings.Replace(phrase, "tolerance=0.1 ", "", 1), Releaser{}); !errors.Is(err, confirmation.ErrMismatch) {
		t.Errorf("without a term: got %v", err)
	}
	if r, err := s.confirm(phrase, Releaser{}); err != nil || r.Policy.MatchTolerance != 0.1 || !s.released() {
		t.Errorf("got %+v, %v", r, err)
	}
}

// The live quality is a blocker under every policy. Without its PASS there is no phrase.
func TestPromotionNeedsLiveQuality(t *testing.T) {
	t.Parallel()
	records := func(s *setting, blocks int, score outcometest.Score) []outcome.Record {
		key := outcome.Key{Executor: "x", Model: s.made.Model.Digest(), Baseline: strings.Repeat("b", 64)}
		return outcometest.Records(outcometest.Plan(), key, s.now, blocks, score)
	}
	judged := func(r *quality.Report, p outcome.Plan, records []outcome.Record) bool {
		again, err := quality.LiveReport(p, records, r.Model, r.Baseline)
		*r = *again
		return err == nil
	}
	other := outcometest.Plan()
	other.Margin = 0.03
	type report = quality.Report
	for name, test := range map[string]struct {
		change  func(*setting, *evidence.Header, *report) bool
		verdict gate.Verdict
		want    string
	}{
		"not worse": {func(*setting, *evidence.Header, *report) bool { return true }, gate.Pass, ""},
		"better": {func(s *setting, _ *evidence.Header, r *report) bool {
			return judged(r, outcometest.Plan(), records(s, 104, outcometest.Toward(0.04)))
		}, gate.Pass, ""},
		"missing": {func(*setting, *evidence.Header, *report) bool { return false }, gate.Error, "no quality_*.json of this model against heuristic-test under the plan"},
		"too early": {func(s *setting, _ *evidence.Header, r *report) bool {
			return judged(r, outcometest.Plan(), records(s, 48, outcometest.Equal))
		}, gate.Inconclusive, "needs 0.5 days more"},
		"worse": {func(s *setting, _ *evidence.Header, r *report) bool {
			return judged(r, outcometest.Plan(), records(s, 104, outcometest.Toward(-0.049)))
		}, gate.Fail, "worse than heuristic-test"},
		"worse, and it says not": {func(s *setting, _ *evidence.Header, r *report) bool {
			said := *r.Judgment
			ok := judged(r, outcometest.Plan(), records(s, 104, outcometest.Toward(-0.049)))
			r.Judgment = &said
			return ok
		}, gate.Fail, "does not follow from its records"},
		"holes": {func(s *setting, _ *evidence.Header, r *report) bool {
			of := records(s, 104, outcometest.Equal)
			return judged(r, outcometest.Plan(), slices.Delete(of, 10, 40))
		}, gate.Error, "records that are missing"},
		"another plan": {func(s *setting, _ *evidence.Header, r *report) bool {
			key := outcome.Key{Executor: "x", Model: s.made.Model.Digest(), Baseline: strings.Repeat("b", 64)}
			return judged(r, other, outcometest.Records(other, key, s.now, 104, outcometest.Equal))
		}, gate.Error, "has another plan, " + short(other.Digest()) + ": cap 0.05, margin 0.03"},
		"another baseline": {func(s *setting, _ *evidence.Header, r *report) bool {
			key := outcome.Key{Executor: "x", Model: s.made.Model.Digest(), Baseline: strings.Repeat("c", 64)}
			return judged(r, outcometest.Plan(), outcometest.Records(outcometest.Plan(), key, s.now, 104, outcometest.Equal))
		}, gate.Error, "is against another baseline, digest cccccccccccc"},
		"another model": {func(_ *setting, h *evidence.Header, _ *report) bool {
			h.Model = &evidence.Model{Version: "v9", Digest: strings.Repeat("d", 64)}
			return true
		}, gate.Error, "no quality_*.json of this model"},
		"out-of-time scores": {func(_ *setting, h *evidence.Header, r *report) bool {
			h.Source, r.Scores = evidence.Replay, quality.OutOfTime
			return true
		}, gate.Error, "is replay, walk_forward: a promotion requires measurements on running services"},
		"replayed requests": {func(s *setting, _ *evidence.Header, r *report) bool {
			of := records(s, 104, outcometest.Equal)
			for i := range of {
				of[i].Sources = outcome.SourceCounts{outcome.Replay: of[i].Labels.Total()}
			}
			return judged(r, outcometest.Plan(), of)
		}, gate.Fail, "by their sources they are replay"},
		"stale": {func(s *setting, _ *evidence.Header, r *report) bool {
			key := outcome.Key{Executor: "x", Model: s.made.Model.Digest(), Baseline: strings.Repeat("b", 64)}
			return judged(r, outcometest.Plan(), outcometest.Records(outcometest.Plan(), key, s.now.Add(-49*time.Hour), 104, outcometest.Equal))
		}, gate.Inconclusive, "stale: its records end at"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []gate.Kind{gate.Agreement, gate.Improvement} {
				s := newSetting(t)
				s.made.Outcome = func(h *evidence.Header, r *report) bool { return test.change(s, h, r) }
				s.write()
				s.q.Policy.Kind = kind
				c := s.judge()
				r := c.row(gate.LiveQuality)
				if r == nil || r.Verdict != test.verdict || !strings.Contains(r.Reason, test.want) || (r.Reason == "") != (test.want == "") || c.Ready() != (test.verdict == gate.Pass) {
					t.Errorf("%s: got %+v, ready %v", kind, r, c.Ready())
				}
			}
		})
	}
}
