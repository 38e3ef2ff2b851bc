package canary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/journal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// fakeEngine serves a model and has no drift.
type fakeEngine struct {
	mlenginev1.ScoringServiceClient
	mlenginev1.DriftServiceClient

	model evidence.Model
}

// GetModelInfo implements ScoringServiceClient.
func (e *fakeEngine) GetModelInfo(context.Context, *mlenginev1.GetModelInfoRequest, ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	return &mlenginev1.GetModelInfoResponse{Version: e.model.Version, Digest: e.model.Digest}, nil
}

// GetDrift implements DriftServiceClient.
func (e *fakeEngine) GetDrift(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, "the model has no reference profile")
}

// setting is a pair with a state folder and evidence.
type setting struct {
	t      *testing.T
	state  State
	fake   *fakeExecutor
	engine *fakeEngine
	target Target
	policy gate.Policy
}

func newSetting(t *testing.T) *setting {
	dir := t.TempDir()
	s := &setting{
		t: t, state: State(filepath.Join(dir, "state")), fake: newFake("executor-a"), engine: &fakeEngine{model: testModel},
		target: Target{Executors: []string{"executor-a"}, Engines: []string{"engine-a"}, Evidence: filepath.Join(dir, "evidence")},
		policy: gate.DefaultPolicy(),
	}
	s.writeEvidence(testModel, gate.Pass)
	return s
}

func (s *setting) writeEvidence(m evidence.Model, result gate.Verdict) {
	s.t.Helper()
	store, err := evidence.Open(s.target.Evidence, evidence.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"offline_report.json", "eval_result.json"} {
		if err := store.WriteJSON(name, evidence.Header{Schema: "test/v1", Source: evidence.Replay, Model: &m}, map[string]any{"result": result}); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *setting) services() *fleet.Services {
	return &fleet.Services{Executors: []fleet.Executor{s.fake.executor()}, Engines: []fleet.Engine{{Addr: "engine-a", Scoring: s.engine, Drift: s.engine}}}
}

func (s *setting) inspect() *preflight.Inspection {
	return s.target.Inspect(s.t.Context(), s.services())
}

// plan makes a plan and returns its phrase.
func (s *setting) plan() *confirmation.Ticket {
	s.t.Helper()
	p, err := NewPlan(s.inspect(), s.target, s.policy, 5*time.Second, evidence.Live)
	if err != nil {
		s.t.Fatal(err)
	}
	ticket, err := s.state.Issue(p, time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	return ticket
}

// begin starts the run with the phrase.
func (s *setting) begin(phrase string) (*Run, error) {
	s.t.Helper()
	p, ticket, err := s.state.Confirmed(phrase)
	if err != nil {
		return nil, err
	}
	if err := p.CheckAll(s.inspect(), phrase, ticket.Nonce); err != nil {
		return nil, err
	}
	return s.state.Begin(p, ticket)
}

func (s *setting) started() *Run {
	s.t.Helper()
	run, err := s.begin(s.plan().Phrase)
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

func TestPhrase(t *testing.T) {
	psi := 1.2499
	p := Plan{Policy: gate.DefaultPolicy(), Model: evidence.Model{Version: "v1.8", Digest: "0123456789abcdef"}, PSI: &psi}
	want := "ONAY: Canary START 5%/30dk observe-only (v1.8 ml-shadow) abort: p95>120ms,err>2%,match<90% psi=1.25 model=0123456789ab nonce=n"
	if got := p.Phrase("n"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.PSI, p.Policy.PhaseDuration, p.Policy.Phases = nil, gate.Duration(30*time.Second), []float64{2.5}
	p.Policy.Abort = gate.Limits{P95MS: 99.5, ErrorRate: 0.07, MatchRate: 0.29}
	want = "ONAY: Canary START 2.5%/30s observe-only (v1.8 ml-shadow) abort: p95>99.5ms,err>7%,match<29% psi=n/a model=0123456789ab nonce=n"
	if got := p.Phrase("n"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.Policy.Kind, p.Policy.MatchTolerance, p.Policy.DecisionThreshold = gate.Improvement, 0.1, 0.5
	want = "ONAY: Canary START 2.5%/30s observe-only (v1.8 ml-shadow) abort: p95>99.5ms,err>7% policy=improvement tolerance=0.1 threshold=0.5 psi=n/a model=0123456789ab nonce=n"
	if got := p.Phrase("n"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.Policy.PhaseDuration = gate.Duration(90 * time.Minute)
	if got := p.Phrase("n"); !strings.Contains(got, "2.5%/90dk ") {
		t.Errorf("got %s", got)
	}
}

// Every difference from what was confirmed is refused before anything changes, with a specific reason and a hint.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(s *setting, ticket *confirmation.Ticket) (phrase string)
		want   error
	}{
		"wrong": {func(_ *setting, ticket *confirmation.Ticket) string {
			return strings.Replace(ticket.Phrase, "5%", "50%", 1)
		}, confirmation.ErrMismatch},
		"empty":   {func(*setting, *confirmation.Ticket) string { return "" }, confirmation.ErrForm},
		"unknown": {func(*setting, *confirmation.Ticket) string { return "ONAY: nonce=aaaaaaaaaaaaaaaa" }, confirmation.ErrUnknown},
		"expired": {func(_ *setting, ticket *confirmation.Ticket) string {
			time.Sleep(time.Hour)
			return ticket.Phrase
		}, confirmation.ErrExpired},
		"used": {func(s *setting, ticket *confirmation.Ticket) string {
			run, err := s.begin(ticket.Phrase)
			if err != nil || run.Close() != nil {
				s.t.Fatal(err)
			}
			return ticket.Phrase
		}, confirmation.ErrUsed},
		"plan edited": {func(s *setting, ticket *confirmation.Ticket) string {
			path := s.state.PlanPath(ticket)
			raw, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, bytes.Replace(raw, []byte(`"hold_limit": "4h"`), []byte(`"hold_limit": "9h"`), 1), 0o600)
			}
			if err != nil {
				s.t.Fatal(err)
			}
			return ticket.Phrase
		}, errPlanChanged},
		"model": {func(s *setting, ticket *confirmation.Ticket) string {
			s.engine.model = otherModel
			return ticket.Phrase
		}, errModelChanged},
		"baseline": {func(s *setting, ticket *confirmation.Ticket) string {
			s.fake.baseline = otherModel
			return ticket.Phrase
		}, errBaselineChanged},
		"tolerance": {func(s *setting, ticket *confirmation.Ticket) string {
			s.fake.tolerance = 0.1
			return ticket.Phrase
		}, errComparison},
		"evidence": {func(s *setting, ticket *confirmation.Ticket) string {
			time.Sleep(time.Second)
			s.writeEvidence(testModel, gate.Pass)
			return ticket.Phrase
		}, errEvidenceChanged},
		"no evidence": {func(s *setting, ticket *confirmation.Ticket) string {
			if err := os.RemoveAll(s.target.Evidence); err != nil {
				s.t.Fatal(err)
			}
			return ticket.Phrase
		}, preflight.ErrNoEvidence},
		"executor away": {func(s *setting, ticket *confirmation.Ticket) string { s.fake.network = cutOff; return ticket.Phrase }, preflight.ErrUnreached},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSetting(t)
				phrase := test.change(s, s.plan())
				run, err := s.begin(phrase)
				if !errors.Is(err, test.want) || Hint(err) == "" || run != nil {
					t.Errorf("got %v (hint %q), want %v", err, Hint(err), test.want)
				}
				if s.fake.sets != 0 {
					t.Error("the rollout was changed")
				}
			})
		})
	}
}

// The index moves with every scored request. A phrase is refused only if the index has moved too far, or if its verdict has
// changed.
func TestRefusedForDrift(t *testing.T) {
	v := func(psi float64) *float64 { return &psi }
	for name, test := range map[string]struct {
		was, now               *float64
		verdictWas, verdictNow gate.Verdict
		want                   error
	}{
		"the same":                   {v(0.12), v(0.12), gate.Pass, gate.Pass, nil},
		"a hundredth more":           {v(0.1249), v(0.1251), gate.Pass, gate.Pass, nil},
		"as far as it may":           {v(0.12), v(0.17), gate.Pass, gate.Pass, nil},
		"too far":                    {v(0.12), v(0.18), gate.Pass, gate.Pass, ErrPSIChanged},
		"too far down":               {v(0.12), v(0.06), gate.Pass, gate.Pass, ErrPSIChanged},
		"a tenth of a large one":     {v(2.50), v(2.75), gate.Fail, gate.Fail, nil},
		"more than a tenth of it":    {v(2.50), v(2.76), gate.Fail, gate.Fail, ErrPSIChanged},
		"another verdict":            {v(0.199), v(0.201), gate.Pass, gate.Inconclusive, ErrPSIChanged},
		"judged now":                 {v(0.15), v(0.15), gate.Inconclusive, gate.Pass, ErrPSIChanged},
		"none any more":              {v(0.12), nil, gate.Pass, "", ErrPSIChanged},
		"one at last":                {nil, v(0.12), "", gate.Pass, ErrPSIChanged},
		"the first rows":             {nil, v(3.02), "", gate.Inconclusive, nil},
		"too early to judge":         {v(8.1), v(0.9), gate.Inconclusive, gate.Inconclusive, nil},
		"rows that went":             {v(8.1), nil, gate.Inconclusive, "", nil},
		"none":                       {nil, nil, "", "", nil},
		"a plan without its verdict": {v(0.12), v(0.13), "", gate.Pass, nil},
	} {
		p := &Plan{Policy: gate.DefaultPolicy(), Model: testModel, Baseline: testBaseline, PSI: test.was, PSIVerdict: test.verdictWas}
		in := &preflight.Inspection{
			Snapshot: &fleet.Snapshot{Engines: []fleet.EngineReading{{Info: &mlenginev1.GetModelInfoResponse{Version: testModel.Version, Digest: testModel.Digest}}}},
			PSI:      test.now, PSIVerdict: test.verdictNow,
		}
		if err := p.CheckAll(in, p.Phrase("n"), "n"); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		in.PSI, in.PSIVerdict = test.was, test.verdictWas
		if err := p.CheckAll(in, p.Phrase("m"), "n"); !errors.Is(err, errPhraseChanged) {
			t.Errorf("%s, another phrase: got %v", name, err)
		}
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*setting)
		want  string
	}{
		"falling":    {func(s *setting) { s.policy.Phases = []float64{10, 5} }, "phases[1] is 5"},
		"too much":   {func(s *setting) { s.policy.Phases = []float64{5, 101} }, "phases[1] is 101"},
		"empty":      {func(s *setting) { s.policy.Phases = nil }, "at least one percentage"},
		"thresholds": {func(s *setting) { s.policy.Abort.MatchRate = 1.5 }, "abort.match_rate is 1.5"},
		"executor":   {func(s *setting) { s.fake.network = cutOff }, "executor-a: Unavailable"},
		"evidence":   {func(s *setting) { s.target.Evidence = s.t.TempDir() }, "offline_report.json is not there"},
		"tolerance":  {func(s *setting) { s.fake.tolerance = 0.1 }, "start it with --match-tolerance 0.05, or write match_tolerance: 0.1 into the policy"},
		"threshold":  {func(s *setting) { s.policy.DecisionThreshold = 0.5 }, "start it with --decision-threshold 0.5"},
		"not active": {func(s *setting) { s.engine.model.Digest = otherModel.Digest }, "not active"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSetting(t)
				test.spoil(s)
				if _, err := NewPlan(s.inspect(), s.target, s.policy, time.Second, evidence.Live); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %q", err, test.want)
				}
			})
		})
	}
}

// kill ends the goroutine of a controller without any cleanup, like a kill of the process.
func (s *setting) kill(run *Run, at func(kill func()) func(Event)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer run.Close() // the lock of a process ends with it
		_, _ = run.Go(s.t.Context(), s.services(), nil, nil, at(runtime.Goexit))
	}()
	<-done
}

func TestResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t)
		run := s.started()
		s.kill(run, func(kill func()) func(Event) { return after(2, 10*time.Minute, kill) })
		if p := s.fake.percent(); p != 25 {
			t.Fatalf("at %g %% when the controller is killed", p)
		}
		time.Sleep(time.Duration(s.policy.Lease))
		if p := s.fake.percent(); p != 0 {
			t.Fatalf("at %g %% after the lease", p)
		}
		time.Sleep(3 * time.Hour)
		again, err := s.state.Resume("")
		if err != nil {
			t.Fatal(err)
		}
		r, err := again.Go(t.Context(), s.services(), nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := decisions(r); r.Decision != Passed || !slices.Equal(got, []Decision{Passed, Passed, Interrupted, Passed, Passed, Passed}) {
			t.Fatalf("got %s %q, phases %v", r.Decision, r.Reason, got)
		}
		if d := r.Phases[3].EndTime.Sub(r.Phases[3].StartTime); r.Phases[3].Index != 2 || d < 30*time.Minute {
			t.Errorf("phase %d took %v", r.Phases[3].Index, d)
		}
		if len(r.Resumptions) != 1 || !r.PromoteEligible || len(r.Phases[2].Samples) < 50 {
			t.Errorf("%d resumptions, eligible %v %q, %d samples of the phase that was cut", len(r.Resumptions), r.PromoteEligible, r.PromoteReason, len(r.Phases[2].Samples))
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		// The journal has the same record as the controller.
		_, read, err := s.state.Read(r.ID)
		if err != nil {
			t.Fatal(err)
		}
		read.judge(evidence.Live)
		if diff := cmp.Diff(asJSON(t, r), asJSON(t, read)); diff != "" {
			t.Errorf("the journal has another record: %s", diff)
		}
		if _, err := s.state.Resume(r.ID); !errors.Is(err, errNotResumable) {
			t.Errorf("resumed after its end: %v", err)
		}
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestResumeAfterAnInterruption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t)
		run := s.started()
		ctx, cancel := context.WithCancel(t.Context())
		if r, err := run.Go(ctx, s.services(), nil, nil, after(4, time.Minute, cancel)); err != nil || r.Decision != Interrupted {
			t.Fatal(r.Decision, err)
		}
		if _, err := s.state.Resume(""); !errors.Is(err, ErrRunning) || Hint(err) == "" {
			t.Errorf("resumed while it is owned: %v", err)
		}
		if running, err := s.state.Running(run.Record.ID); err != nil || !running {
			t.Errorf("running: %v, %v", running, err)
		}
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := s.state.Resume(run.Record.ID)
		if err != nil {
			t.Fatal(err)
		}
		r, err := again.Go(t.Context(), s.services(), nil, nil, nil)
		if err != nil || r.Decision != Passed || len(r.Phases) != 6 {
			t.Errorf("got %s %q, %d phases, %v", r.Decision, r.Reason, len(r.Phases), err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAbortedRunIsNotResumed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t)
		s.fake.health = down
		run := s.started()
		if r, err := run.Go(t.Context(), s.services(), nil, nil, nil); err != nil || r.Decision != Aborted {
			t.Fatal(r.Decision, err)
		}
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.state.Resume(""); !errors.Is(err, errNotResumable) || Hint(err) == "" {
			t.Errorf("resumed: %v", err)
		}
	})
}

// An incomplete last line is dropped. Damage anywhere else is refused, and the error names the line.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t)
		run := s.started()
		s.kill(run, func(kill func()) func(Event) { return after(0, 10*time.Minute, kill) })
		path := filepath.Join(run.Dir, journal.Name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(whole, []byte("\n"))
		for name, test := range map[string]struct {
			content []byte
			want    string
		}{
			"torn":            {append(slices.Clone(whole), `{"seq":9999,"su`...), ""},
			"cut to the head": {lines[0], ""},
			"flipped":         {bytes.Replace(whole, []byte(`"percent":5`), []byte(`"percent":6`), 1), "line 3"},
			"line lost":       {bytes.Join(slices.Delete(slices.Clone(lines), 5, 6), nil), "line 6"},
			"not JSON":        {bytes.Replace(whole, []byte(`{"seq":4,`), []byte(`{"seq":4;`), 1), "line 4"},
			"empty":           {nil, "line 1"},
		} {
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := s.state.Resume("")
			if test.want == "" {
				if err != nil || again.Close() != nil {
					t.Errorf("%s: %v", name, err)
				} else if left, _ := os.ReadFile(path); len(left) > len(whole) || left[len(left)-1] != '\n' {
					t.Errorf("%s: the torn line is still there", name)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q", name, err, test.want)
			}
		}
		if _, err := s.state.Resume("no-such-run"); !errors.Is(err, errNoRun) {
			t.Error(err)
		}
	})
}

// A journal that is cut at any point can be continued, and has only events that happened.
func TestJournalCutAnywhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "journal.jsonl")
	j, err := journal.Create(path, journal.Head{Schema: journalSchema, Run: "r"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := j.Add(Event{Kind: PhaseBegun, Phase: i, Reason: fmt.Sprint("ü", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	for cut := range first { // a kill cannot cause this, since the head is written in one piece
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := journal.Open[Event](path, journalSchema); err == nil || !strings.Contains(err.Error(), "journal.jsonl, line 1: nothing was written") {
			t.Fatalf("cut at %d: got %v, want that nothing was written", cut, err)
		}
	}
	for cut := first; cut <= len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, _, events, err := journal.Open[Event](path, journalSchema)
		if err != nil || len(events) != bytes.Count(whole[first:cut], []byte("\n")) {
			t.Fatalf("cut at %d: %d events, %v", cut, len(events), err)
		}
		if err := errors.Join(j.Add(Event{Kind: Finished}), j.Close()); err != nil {
			t.Fatal(err)
		}
		if _, after, err := journal.Read[Event](path, journalSchema); err != nil || len(after) != len(events)+1 {
			t.Fatalf("cut at %d: continued to %d events, %v", cut, len(after), err)
		}
	}
}

// An older plan, from before credentials were read from files, may have a password in its URL. The password is used but not
// written again.
func TestOldPlanWithAPassword(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	old := &Plan{Schema: planSchema, Policy: gate.DefaultPolicy(), Target: Target{PrometheusOptions: fleet.PrometheusOptions{URL: "http://ops:s3cret@127.0.0.1:9/", Match: fleet.DefaultMatch}}}
	digest, err := old.write(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := readPlan(path, digest)
	if err != nil || !p.Secret() || p.URL != "http://127.0.0.1:9/" {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := Readable(t.Context(), p); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

// A password in the URL of Prometheus is neither in the plan nor in the record.
func TestPlanKeepsNoPassword(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	p := &Plan{Schema: planSchema, Policy: gate.DefaultPolicy()}
	p.Match = fleet.DefaultMatch
	if err := p.SetURL("http://ops:s3cret@127.0.0.1:9/"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.write(path); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), "s3cret") || strings.Contains(recordOf(p, journal.Head{}).Metrics, "s3cret") {
		t.Errorf("it is in the plan or the record: %s, %v", raw, err)
	}
}

// A run is refused, with a hint, if the counts cannot be read.
func TestReadable(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	plan := &Plan{Target: Target{Executors: []string{"a"}, PrometheusOptions: fleet.PrometheusOptions{URL: server.URL, Match: fleet.DefaultMatch}}}
	server.Close()
	err := Readable(t.Context(), plan)
	if err == nil || !strings.Contains(err.Error(), "connection refused") || Hint(err) == "" || strings.Count(err.Error(), server.URL) != 1 {
		t.Errorf("%v (hint %q)", err, Hint(err))
	}
	if err := Readable(t.Context(), &Plan{}); err != nil {
		t.Errorf("executors need no Prometheus: %v", err)
	}
}
