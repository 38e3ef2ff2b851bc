package promote

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
	outcomes "github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

func printed(t *testing.T, c *Check) string {
	t.Helper()
	var out bytes.Buffer
	if err := c.Table(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestNothingBlocks(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	names := s.write()
	c := s.judge()
	want := []string{
		PSIOverall, PSIFeature, gate.AUC, gate.PrecisionAt20, CanaryPhases, CanaryPolicy, Soak, gate.LiveQuality, EvidenceHolds, ModelHolds, ReleaseFree, Confirmation,
	}
	var got []string
	for _, r := range c.Blockers {
		got = append(got, r.Name)
		if r.Name != Confirmation && r.Verdict != gate.Pass {
			t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Reason)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("blockers %q, want %q", got, want)
	}
	if c.Verdict != gate.Inconclusive || !c.Ready() {
		t.Errorf("%s, ready %v: only the confirmation is missing", c.Verdict, c.Ready())
	}
	// Every figure names its file with its digest.
	for blocker, file := range map[string]string{PSIOverall: "psi", PSIFeature: "psi", gate.AUC: "offline", gate.PrecisionAt20: "offline", CanaryPhases: "canary", Soak: "soak", gate.LiveQuality: "quality"} {
		in, err := evidence.InputOf(s.made.Path(names[file]))
		if err != nil {
			t.Fatal(err)
		}
		if r := c.row(blocker); len(r.Evidence) != 1 || r.Evidence[0].SHA256 != in.SHA256 || r.Evidence[0].Path != names[file] {
			t.Errorf("%s was judged by %v, want %s %s", blocker, r.Evidence, names[file], in.SHA256)
		}
	}
	if c.To != release || c.Digest != s.made.Model.Digest() || c.Canary == nil || c.Canary.Comparisons != 5000 {
		t.Errorf("release %s of %s after %+v", c.To, c.Digest, c.Canary)
	}
	text := printed(t, c)
	for _, want := range []string{"blocker ", "offline_report.json ", "24.0 h", "overall: INCONCLUSIVE (11 of 12 pass)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
}

// leaveOut omits a file.
func leaveOut[T any](*evidence.Header, *T) bool { return false }

// with changes a file before it is written.
func with[T any](change func(*evidence.Header, *T)) func(*evidence.Header, *T) bool {
	return func(h *evidence.Header, body *T) bool {
		change(h, body)
		return true
	}
}

// another makes a file be about another model.
func another[T any](h *evidence.Header, _ *T) bool {
	h.Model = &evidence.Model{Version: "v9", Digest: strings.Repeat("9", 64)}
	return true
}

// ofServer makes a file be about the model of a model server.
func ofServer[T any](h *evidence.Header, _ *T) bool {
	version, digest := oip.Identity("m", "1")
	h.Model = &evidence.Model{Version: version, Digest: digest}
	return true
}

func replayed[T any](h *evidence.Header, _ *T) bool {
	h.Source = evidence.Replay
	return true
}

// Promotion does not depend on the bands, so a snapshot that an older version wrote within the last day counts.
func TestSnapshotOfTheFirstBands(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.made.PSI = with(func(h *evidence.Header, _ *driftfleet.Report) { h.Schema = driftfleet.SchemaV1 })
	s.write()
	c := s.judge()
	for _, blocker := range []string{PSIOverall, PSIFeature} {
		if r := c.row(blocker); r.Verdict != gate.Pass {
			t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Reason)
		}
	}
}

func TestBlockers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// spoil changes the evidence before it is written, damage afterwards.
		spoil   func(*setting)
		damage  func(*setting, map[string]string)
		blocker string
		verdict gate.Verdict
		reason  string
	}{
		{name: "drift", blocker: PSIOverall, verdict: gate.Fail, reason: "is above the threshold 0.2", spoil: func(s *setting) { s.made.Shift = 0.6 }},
		{name: "drift of every feature", blocker: PSIFeature, verdict: gate.Fail, reason: "worst is ", spoil: func(s *setting) { s.made.Shift = 0.6 }},
		{name: "drift of one feature", blocker: PSIFeature, verdict: gate.Fail, reason: "worst is rsi14_z", spoil: func(s *setting) { s.made.PSI = with(moveOne) }},
		{name: "no snapshot", blocker: PSIOverall, verdict: gate.Error, reason: "psi_snapshot.json is not there; greenlight drift snapshot writes it", spoil: func(s *setting) { s.made.PSI = leaveOut[driftfleet.Report] }},
		{name: "no index", blocker: PSIFeature, verdict: gate.Error, reason: "no index: engine was silent", spoil: func(s *setting) {
			s.made.PSI = with(func(_ *evidence.Header, r *driftfleet.Report) { r.Overall, r.Reason = nil, "engine was silent" })
		}},
		{name: "few days", blocker: PSIOverall, verdict: gate.Inconclusive, reason: "3 days, 5 needed", spoil: func(s *setting) {
			s.made.PSI = with(func(_ *evidence.Header, r *driftfleet.Report) { r.Days = 3 })
		}},
		{name: "noise not known", blocker: PSIOverall, verdict: gate.Inconclusive, reason: "without drift is not known", spoil: func(s *setting) {
			s.made.PSI = with(func(_ *evidence.Header, r *driftfleet.Report) { r.Overall.Noise = nil })
		}},
		{name: "index edited", blocker: PSIOverall, verdict: gate.Error, reason: "but the mean over its features", spoil: func(s *setting) {
			s.made.Shift = 0.6
			s.made.PSI = with(func(_ *evidence.Header, r *driftfleet.Report) { r.Overall.PSI = 0.01 })
		}},
		{name: "bins edited", blocker: PSIFeature, verdict: gate.Error, reason: "by its bins", spoil: func(s *setting) {
			s.made.Shift = 0.6
			s.made.PSI = with(func(_ *evidence.Header, r *driftfleet.Report) {
				for i := range r.Features {
					r.Features[i].PSI = 0.01
				}
				r.Overall.PSI = 0.01
			})
		}},
		{name: "another reference", blocker: PSIOverall, verdict: gate.Fail, reason: "against another reference", spoil: func(s *setting) {
			s.made.PSI = with(func(_ *evidence.Header, r *driftfleet.Report) { r.ReferenceDigest = strings.Repeat("0", 64) })
		}},
		{name: "snapshot of another model", blocker: PSIOverall, verdict: gate.Fail, reason: "about another model, v9", spoil: func(s *setting) { s.made.PSI = another[driftfleet.Report] }},
		{name: "snapshot of a replay", blocker: PSIOverall, verdict: gate.Fail, reason: "psi_snapshot.json is replay", spoil: func(s *setting) { s.made.PSI = replayed[driftfleet.Report] }},
		{name: "old snapshot", blocker: PSIOverall, verdict: gate.Inconclusive, reason: "stale: psi_snapshot.json", spoil: func(s *setting) {
			s.made.PSI = with(func(h *evidence.Header, _ *driftfleet.Report) { h.CreatedTime = s.now.Add(-25 * time.Hour) })
		}},
		{name: "snapshot of an engine that scores nothing", blocker: PSIOverall, verdict: gate.Inconclusive, reason: "stale: the rows of psi_snapshot.json ended", spoil: func(s *setting) {
			s.made.PSI = with(func(_ *evidence.Header, r *driftfleet.Report) { r.Window.End = s.now.Add(-25 * time.Hour) })
		}},
		{name: "snapshot of the future", blocker: PSIOverall, verdict: gate.Inconclusive, reason: "a clock is wrong", spoil: func(s *setting) {
			s.made.PSI = with(func(h *evidence.Header, _ *driftfleet.Report) { h.CreatedTime = s.now.Add(time.Hour) })
		}},

		{name: "low AUC", blocker: gate.AUC, verdict: gate.Fail, reason: "is not >= 0.62", spoil: func(s *setting) {
			s.made.Offline = with(func(_ *evidence.Header, r *experiment.OfflineReport) { r.AUC = 0.6199 })
		}},
		{name: "low precision", blocker: gate.PrecisionAt20, verdict: gate.Fail, reason: "is not >= 0.58", spoil: func(s *setting) {
			s.made.Offline = with(func(_ *evidence.Header, r *experiment.OfflineReport) { r.PrecisionAt20 = 0.57 })
		}},
		{name: "few rows", blocker: gate.AUC, verdict: gate.Inconclusive, reason: "3,999 samples, 4,000 needed", spoil: func(s *setting) {
			s.made.Offline = with(func(_ *evidence.Header, r *experiment.OfflineReport) { r.N = 3999 })
		}},
		{name: "nine days", blocker: gate.AUC, verdict: gate.Inconclusive, reason: "test days: 9 samples, 10 needed", spoil: func(s *setting) {
			s.made.Offline = with(func(_ *evidence.Header, r *experiment.OfflineReport) { r.TestDays = 9 })
		}},
		{name: "frozen data", blocker: gate.PrecisionAt20, verdict: gate.Fail, reason: "longest flat run: 7834 min is not <= 360 min", spoil: func(s *setting) {
			s.made.Offline = with(func(_ *evidence.Header, r *experiment.OfflineReport) { r.Quality.LongestFlatRun.Minutes = 7834 })
		}},
		{name: "interval down to a coin", blocker: gate.AUC, verdict: gate.Inconclusive, reason: "AUC, lower end: 0.386 is not >= 0.5", spoil: func(s *setting) {
			s.made.Offline = with(func(_ *evidence.Header, r *experiment.OfflineReport) { r.Intervals.AUC.Low = 0.386 })
		}},
		{name: "a report from before data were examined", blocker: gate.AUC, verdict: gate.Inconclusive, reason: "frozen minutes: not examined: an older version wrote the report", spoil: func(s *setting) {
			s.made.Offline = with(func(h *evidence.Header, r *experiment.OfflineReport) {
				h.Schema, r.TestDays, r.Quality = experiment.OfflineSchemaV1, 0, nil
			})
		}},
		{name: "no offline report", blocker: gate.AUC, verdict: gate.Error, reason: "offline_report.json is not there; greenlight train writes it", spoil: func(s *setting) { s.made.Offline = leaveOut[experiment.OfflineReport] }},
		{name: "snapshot of a model server", blocker: PSIOverall, verdict: gate.Fail, reason: "is about m@1 of a model server: its identity is only what a model server says", spoil: func(s *setting) { s.made.PSI = ofServer[driftfleet.Report] }},
		{name: "canary of a model server", blocker: CanaryPhases, verdict: gate.Fail, reason: "neither promoted nor gated: register the model", spoil: func(s *setting) { s.made.Canary = ofServer[canary.Record] }},
		{name: "offline report of another model", blocker: gate.PrecisionAt20, verdict: gate.Fail, reason: "about another model", spoil: func(s *setting) { s.made.Offline = another[experiment.OfflineReport] }},
		{name: "simulated market", blocker: gate.AUC, verdict: gate.Fail, reason: "is simulated: it says nothing about any market", spoil: func(s *setting) {
			s.made.Offline = with(func(h *evidence.Header, _ *experiment.OfflineReport) { h.Source = evidence.Simulated })
		}},

		{name: "no canary", blocker: CanaryPhases, verdict: gate.Error, reason: "no live canary run of this model", spoil: func(s *setting) { s.made.Canary = leaveOut[canary.Record] }},
		{name: "canary of another model", blocker: CanaryPhases, verdict: gate.Error, reason: "no live canary run of this model", spoil: func(s *setting) { s.made.Canary = another[canary.Record] }},
		{name: "canary of a replay", blocker: CanaryPhases, verdict: gate.Fail, reason: "is replay", spoil: func(s *setting) { s.made.Canary = replayed[canary.Record] }},
		{name: "dry run", blocker: CanaryPhases, verdict: gate.Fail, reason: "is a dry run", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { r.DryRun = true })
		}},
		{name: "aborted", blocker: CanaryPhases, verdict: gate.Fail, reason: "is ABORTED: match rate of 85 %", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) {
				r.Phases = r.Phases[:3]
				r.Phases[2].Decision, r.Decision, r.Aborted, r.Reason = canary.Aborted, canary.Aborted, true, "match rate of 85 %"
			})
		}},
		{name: "interrupted", blocker: CanaryPhases, verdict: gate.Fail, reason: "is INTERRUPTED", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { r.Decision, r.Phases = canary.Interrupted, r.Phases[:4] })
		}},
		{name: "phase left out", blocker: CanaryPhases, verdict: gate.Fail, reason: "50 %: not begun", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { r.Phases = slices.Delete(r.Phases, 3, 4) })
		}},
		{name: "not confirmed", blocker: CanaryPhases, verdict: gate.Fail, reason: "was not confirmed", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { r.Confirmation = "" })
		}},
		{name: "verdict edited", blocker: CanaryPhases, verdict: gate.Fail, reason: "phase 100 % says PASSED, but by its counts it is FAIL", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) {
				p := &r.Phases[4]
				p.Outcomes[shadow.Match.String()], p.Outcomes[shadow.Mismatch.String()] = 4000, 1000
			})
		}},
		{name: "coverage", blocker: CanaryPhases, verdict: gate.Fail, reason: "phase 100 % says PASSED, but by its counts it is FAIL: coverage: 83.3 % is not >= 95 %", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { hide(r, 1000) })
		}},
		{name: "coverage with requests whose end nobody saw", blocker: CanaryPhases, verdict: gate.Fail, reason: "phase 100 % says PASSED, but by its counts it is FAIL: coverage: 94.3 % is not >= 95 %", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) {
				p := &r.Phases[len(r.Phases)-1]
				hide(r, 100)
				p.Requests += 200
				p.Sources = evidence.Sources{evidence.Live: p.Requests}
			})
		}},
		{name: "coverage of a run from before it was judged", blocker: CanaryPhases, verdict: gate.Fail, reason: "100 %: by the policy in force FAIL (3 of 4 pass): coverage: 83.3 % is not >= 95 %", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { hide(r, 1000); old(r) })
		}},
		{name: "coverage of a soak from before it was judged", blocker: Soak, verdict: gate.Error, reason: "by the policy in force FAIL (3 of 4 pass)", spoil: func(s *setting) {
			s.made.Canary = leaveOut[canary.Record]
			s.made.Soak = with(func(_ *evidence.Header, r *canary.Record) { hide(r, 1000); old(r) })
		}},
		{name: "a replay among the requests", blocker: CanaryPhases, verdict: gate.Error, reason: "by their sources they are replay", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) {
				r.Phases[1].Sources = evidence.Sources{evidence.Live: r.Phases[1].Requests - 1, evidence.Replay: 1}
			})
		}},
		{name: "executors that do not say what is live", blocker: CanaryPhases, verdict: gate.Fail, reason: "did not say whether its requests were live", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { r.Phases[4].Sources = nil })
		}},
		{name: "a soak of executors that do not say what is live", blocker: Soak, verdict: gate.Error, reason: "did not say whether its requests were live", spoil: func(s *setting) {
			s.made.Canary = leaveOut[canary.Record]
			s.made.Soak = with(func(_ *evidence.Header, r *canary.Record) { r.Phases[0].Sources = nil })
		}},
		{name: "requests without an outcome", blocker: CanaryPhases, verdict: gate.Fail, reason: "phase 100 %: it has 50000 requests, but 5005 outcomes", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { r.Phases[4].Requests = 50_000 })
		}},
		{name: "phase cut short", blocker: CanaryPhases, verdict: gate.Error, reason: "phase 25 % took 29m of 30m", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) {
				r.Phases[2].EndTime = r.Phases[2].EndTime.Add(-time.Minute)
			})
		}},
		{name: "canary cannot be read", blocker: CanaryPhases, verdict: gate.Error, reason: "canary_run_", damage: func(s *setting, names map[string]string) {
			s.put(names["canary"], []byte("{"))
		}},

		{name: "lax policy", blocker: CanaryPolicy, verdict: gate.Fail, reason: "laxer than the policy in force: min_comparisons is 100, not 500", spoil: func(s *setting) {
			s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { r.Policy.MinComparisons = 100 })
		}},

		{name: "short soak", blocker: Soak, verdict: gate.Fail, reason: "23.0 h is not >= 24 h", spoil: func(s *setting) { s.made.Soak = with(shorten(time.Hour, s)) }},
		{name: "no soak", blocker: Soak, verdict: gate.Error, reason: "no phase of 100 % has passed", spoil: func(s *setting) {
			s.made.Soak, s.made.Canary = leaveOut[canary.Record], leaveOut[canary.Record]
		}},
		{name: "old soak", blocker: Soak, verdict: gate.Inconclusive, reason: "stale: the last phase of 100 % that passed ended at", spoil: func(s *setting) {
			s.made.Canary = leaveOut[canary.Record]
			s.made.Soak = with(func(_ *evidence.Header, r *canary.Record) { back(r, 48*time.Hour) })
		}},
		{name: "soak of the future", blocker: Soak, verdict: gate.Error, reason: "it lies in the future", spoil: func(s *setting) {
			s.made.Canary = leaveOut[canary.Record]
			s.made.Soak = with(func(_ *evidence.Header, r *canary.Record) { back(r, -2*time.Hour) })
		}},

		{name: "no records of quality", blocker: gate.LiveQuality, verdict: gate.Error, reason: "no quality_*.json of this model", spoil: func(s *setting) {
			s.made.Outcome = func(*evidence.Header, *outcomes.Report) bool { return false }
		}},
		{name: "byte flipped", blocker: EvidenceHolds, verdict: gate.Fail, reason: "offline_report.json", damage: func(s *setting, names map[string]string) {
			raw := s.get(names["offline"])
			s.put(names["offline"], bytes.Replace(raw, []byte("0.863"), []byte("0.963"), 1))
		}},
		{name: "folder recreated", blocker: EvidenceHolds, verdict: gate.Fail, reason: "no line with the requested head abcdefabcdef", spoil: func(s *setting) { s.q.Head = "abcdefabcdef" }},
		{name: "no folder", blocker: EvidenceHolds, verdict: gate.Error, reason: "no such file", damage: func(s *setting, _ map[string]string) {
			s.must(os.RemoveAll(s.q.Evidence))
		}},
		{name: "model damaged", blocker: ModelHolds, verdict: gate.Fail, reason: "model.json", damage: func(s *setting, _ map[string]string) {
			path := filepath.Join(s.q.Models, "test", candidate, model.ModelFile)
			raw, err := os.ReadFile(path)
			s.must(err)
			s.must(os.WriteFile(path, append(raw, ' '), 0o600))
		}},
		{name: "release taken", blocker: ReleaseFree, verdict: gate.Fail, reason: "the registry already has test/v1.8.1", spoil: func(s *setting) {
			s.must(model.OpenRegistry(s.q.Models).Release(model.Entry{Name: "test", Version: candidate}, release, model.Release{Time: s.now, Record: json.RawMessage("{}")}))
		}},
		{name: "confirmation", blocker: Confirmation, verdict: gate.Inconclusive, reason: "not confirmed"},
	}
	blocked := make(map[string]bool)
	for _, test := range tests {
		blocked[test.blocker] = true
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newSetting(t)
			if test.spoil != nil {
				test.spoil(s)
			}
			names := s.write()
			if test.damage != nil {
				test.damage(s, names)
			}
			c := s.judge()
			r := c.row(test.blocker)
			if r == nil {
				t.Fatalf("no %s:\n%s", test.blocker, printed(t, c))
			}
			if r.Verdict != test.verdict || !strings.Contains(r.Reason+" "+r.Note, test.reason) {
				t.Errorf("%s: got %s %q (%s), want %s %q", r.Name, r.Verdict, r.Reason, r.Note, test.verdict, test.reason)
			}
			if c.Verdict == gate.Pass || c.Ready() && test.blocker != Confirmation {
				t.Errorf("%s, ready %v", c.Verdict, c.Ready())
			}
		})
	}
	for _, r := range newSettingRows(t) {
		if !blocked[r] {
			t.Errorf("nothing is tried against %s", r)
		}
	}
}

// newSettingRows are the blockers that there are.
func newSettingRows(t *testing.T) (names []string) {
	t.Helper()
	s := newSetting(t)
	for _, r := range s.judge().Blockers { // of an empty folder
		names = append(names, r.Name)
		if r.Verdict == gate.Pass && r.Name != ModelHolds && r.Name != ReleaseFree {
			t.Errorf("%s is PASS without any evidence", r.Name)
		}
	}
	return names
}

// moveOne moves the rows of one feature into its first bin, and updates the indices.
func moveOne(_ *evidence.Header, r *driftfleet.Report) {
	sum, n := 0.0, 0
	for i := range r.Features {
		f := &r.Features[i]
		if f.Role != drift.ModelFeature {
			continue
		}
		if f.Feature == "rsi14_z" {
			var reference, current []float64
			for b := range f.Bins {
				f.Bins[b].Current = 0
				if b == 0 {
					f.Bins[b].Current = 1
				}
				reference, current = append(reference, f.Bins[b].Reference), append(current, f.Bins[b].Current)
			}
			f.PSI = drift.PSI(reference, current)
		}
		sum, n = sum+f.PSI, n+1
	}
	r.Overall.PSI = sum / float64(n)
}

// shorten shortens the only phase of a soak, and its policy, by d.
func shorten(by time.Duration, s *setting) func(*evidence.Header, *canary.Record) {
	return func(_ *evidence.Header, r *canary.Record) {
		policy := r.Policy
		policy.PhaseDuration -= gate.Duration(by)
		*r = *promotetest.Run(policy, r.StartTime)
		s.made.Canary = leaveOut[canary.Record]
	}
}

// back moves a run into the past.
func back(r *canary.Record, by time.Duration) {
	r.StartTime, r.EndTime = r.StartTime.Add(-by), r.EndTime.Add(-by)
	for i := range r.Phases {
		r.Phases[i].StartTime, r.Phases[i].EndTime = r.Phases[i].StartTime.Add(-by), r.Phases[i].EndTime.Add(-by)
	}
}

// hide makes n shadows of the last phase end without an outcome.
func hide(r *canary.Record, unseen uint64) {
	p := &r.Phases[len(r.Phases)-1]
	p.Outcomes[shadow.BreakerOpen.String()] += unseen
	p.Requests += unseen
	p.Sources = evidence.Sources{evidence.Live: p.Requests}
}

// old turns the run into one from before coverage was judged: neither its policy nor its verdicts have it.
func old(r *canary.Record) {
	r.Policy.SLO.Coverage, r.Policy.Abort.Coverage = 0, 0
	r.Policy.Kind, r.Policy.MatchTolerance = "", 0 // neither was in a policy at that time
	for i := range r.Phases {
		r.Phases[i].Verdicts = slices.DeleteFunc(r.Phases[i].Verdicts, func(v gate.Result) bool { return v.Name == gate.PhaseCoverage })
	}
}

// A run from before coverage was judged counts by the coverage of its outcomes.
func TestOldCanaryCounts(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.made.Canary = with(func(_ *evidence.Header, r *canary.Record) { hide(r, 100); old(r) })
	s.made.Soak = with(func(_ *evidence.Header, r *canary.Record) { old(r) })
	s.write()
	c := s.judge()
	if !c.Ready() {
		t.Errorf("it blocks:\n%s", printed(t, c))
	}
}

// Evidence from before coverage was judged is judged by the rules of its time.
func TestRecheckOldCanary(t *testing.T) {
	t.Parallel()
	r := promotetest.Run(gate.DefaultPolicy(), time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC))
	old(r)
	r.QualityPlan = nil
	p := &r.Phases[4]
	p95 := 3.0
	p.Samples = []canary.Sample{{Time: p.EndTime, Percent: 100, Requests: 5005, Comparisons: 5000, Matches: 4950, Errors: 5, P95MS: &p95, Verdict: gate.Pass}}
	hide(r, 1000) // which was not judged
	r.PromoteEligible, r.PromoteReason = r.Eligible(evidence.Live)
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"coverage":null,`, `,"coverage":0`, `"unseen":0,`} { // not written at that time
		raw = bytes.ReplaceAll(raw, []byte(key), nil)
	}
	if bytes.Contains(raw, []byte("coverage")) || bytes.Contains(raw, []byte("unseen")) || bytes.Contains(raw, []byte("agreement")) || bytes.Contains(raw, []byte("tolerance")) {
		t.Fatalf("it is not as it was: %s", raw)
	}
	var read canary.Record
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	if found := Recheck(&read, evidence.Live); len(found) > 0 {
		t.Errorf("found %q", found)
	}
	read.Phases[4].Samples[0].Unseen = 1000
	if read.Policy = gate.DefaultPolicy(); len(Recheck(&read, evidence.Live)) == 0 {
		t.Error("by a policy of today it holds as well")
	}
}

func (s *setting) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *setting) get(name string) []byte {
	s.t.Helper()
	raw, err := os.ReadFile(s.made.Path(name))
	s.must(err)
	return raw
}

func (s *setting) put(name string, raw []byte) {
	s.t.Helper()
	s.must(os.WriteFile(s.made.Path(name), raw, 0o600))
}

// The last phase of a canary and a soak run add up, and overlapping time counts once.
func TestSoakAddsUp(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	hour := func(h float64) time.Time { return at.Add(time.Duration(h * float64(time.Hour))) }
	for name, test := range map[string]struct {
		spans []span
		want  float64
	}{
		"none":      {nil, 0},
		"one":       {[]span{{hour(0), hour(24)}}, 24},
		"apart":     {[]span{{hour(30), hour(31)}, {hour(0), hour(10)}}, 11},
		"overlap":   {[]span{{hour(0), hour(10)}, {hour(8), hour(12)}}, 12},
		"contained": {[]span{{hour(0), hour(10)}, {hour(2), hour(3)}, {hour(9), hour(10.5)}}, 10.5},
		"twice":     {[]span{{hour(0), hour(10)}, {hour(0), hour(10)}}, 10},
	} {
		if got := together(test.spans).Hours(); got != test.want {
			t.Errorf("%s: %v h, want %v", name, got, test.want)
		}
	}
}

func TestNoCandidate(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	for name, test := range map[string]struct {
		model, as, want string
	}{
		"unknown":    {"v7", "", "v7"},
		"unnumbered": {"test/" + candidate, candidate, "is the candidate's"},
		"a path":     {candidate, "../v1", `version "../v1"`},
	} {
		q := s.q
		q.Model, q.As = test.model, test.as
		_, err := Judge(t.Context(), q, s.now)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	for _, test := range []struct{ version, as, want string }{
		{"v1.8.1-rc1", "", "v1.8.1"}, {"v1.8.1-rc12", "", "v1.8.1"}, {"v1.8.1-rc1", "v2", "v2"}, {"v1.8.1", "", ""}, {"v1", "v1", ""}, {"-rc1", "", ""},
	} {
		got, err := ReleaseVersion(test.version, test.as)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s as %q: %q, %v", test.version, test.as, got, err)
		}
	}
}

// A model that has its own evaluation is judged by it, whatever the evidence folder says about another model.
func TestJudgeByTheModelsOwnEvaluation(t *testing.T) {
	for _, tt := range []struct {
		name    string
		auc     float64
		verdict gate.Verdict
	}{{"a good one", 0.7, gate.Pass}, {"a bad one", 0.6, gate.Fail}} {
		s := newSetting(t)
		s.made.Offline = with(func(_ *evidence.Header, r *experiment.OfflineReport) { r.AUC = tt.auc })
		own, err := s.made.Own()
		if err != nil {
			t.Fatal(err)
		}
		registry := model.OpenRegistry(s.q.Models)
		entry, err := registry.Find(candidate)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(registry.Dir(entry)); err != nil {
			t.Fatal(err)
		}
		s.made.Model.Offline = own
		if err := registry.Add(s.made.Model); err != nil {
			t.Fatal(err)
		}
		s.made.Offline = another[experiment.OfflineReport]
		s.write()
		for _, row := range s.judge().Blockers {
			if row.Name == gate.AUC && (row.Verdict != tt.verdict || *row.Value != tt.auc || strings.Contains(row.Reason, "another model") ||
				!strings.HasSuffix(row.Evidence[0].Path, candidate+"/offline_report.json")) {
				t.Errorf("%s: %+v", tt.name, row)
			}
		}
	}
}
