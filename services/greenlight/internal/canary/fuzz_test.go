package canary

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/journal"
)

// FuzzJournal reads arbitrary lines, with correct checksums or unchanged. Either the journal is refused with an error that
// names the line, or it can be continued by one event and gives a record that can be written.
func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, journal.Name)
	j, err := journal.Create(path, journal.Head{Schema: journalSchema, Run: "r", PlanSHA256: "0", Confirmation: "c"})
	if err != nil {
		f.Fatal(err)
	}
	psi := 0.1
	for _, e := range []Event{
		{Kind: Started},
		{Kind: PhaseBegun, Percent: 5},
		{Kind: Polled, Percent: 5, Poll: &Poll{Outcomes: map[string]uint64{"match": 3}}},
		{Kind: PhaseEnded, Percent: 5, Decision: Passed, PSI: &psi},
		{Kind: Finished, Decision: Passed},
	} {
		if err := j.Add(e); err != nil {
			f.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good), false)
	f.Add(string(good[:len(good)-9]), false)
	f.Add(`{"kind":"phase_begun","phase":-1}`+"\n"+`{"kind":"looked","phase":7,"look":{}}`+"\n", true)
	f.Add(`{"kind":"phase_ended","phase":3,"decision":"PASSED"}`+"\n"+`{"kind":"finished"}`+"\n", true)
	f.Add("null\n", true)
	plan := &Plan{Schema: planSchema, Source: evidence.Replay, Policy: gate.DefaultPolicy()}
	f.Fuzz(func(t *testing.T, text string, seal bool) {
		path := filepath.Join(t.TempDir(), journal.Name)
		if seal { // add correct checksums, so that the code behind them is reached
			j, err := journal.Create(path, journal.Head{Schema: journalSchema, Run: "r"})
			if err != nil {
				t.Fatal(err)
			}
			for entry := range strings.Lines(text) {
				if json.Valid([]byte(entry)) {
					err = errors.Join(err, j.Add(json.RawMessage(entry)))
				}
			}
			raw, read := os.ReadFile(path)
			if err := errors.Join(err, j.Close(), read); err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		j, h, events, err := journal.Open[Event](path, journalSchema)
		if err != nil {
			if !strings.Contains(err.Error(), path+", line ") {
				t.Fatalf("got %v: it does not name the line", err)
			}
			if left, _ := os.ReadFile(path); string(left) != text {
				t.Fatal("it was refused, but the file has changed")
			}
			return
		}
		defer j.Close()
		r := recordOf(plan, h)
		for _, e := range events {
			r.apply(e)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatalf("the record cannot be written: %v", err)
		}
		if err := j.Add(Event{Kind: Finished}); err != nil {
			t.Fatal(err)
		}
		_, after, err := journal.Read[Event](path, journalSchema)
		if err != nil || len(after) != len(events)+1 {
			t.Fatalf("continued to %d events from %d, %v", len(after), len(events), err)
		}
	})
}

// FuzzPlan reads an arbitrary plan with a matching digest. Either the plan is refused, or its policy is valid, it gives a
// phrase, and it is written as it was read.
func FuzzPlan(f *testing.F) {
	path := filepath.Join(f.TempDir(), planName)
	plan := &Plan{
		Schema: planSchema, Source: evidence.Live, Policy: gate.DefaultPolicy(),
		Model: evidence.Model{Version: "v1.8.1", Digest: strings.Repeat("a1", 32)},
	}
	if _, err := plan.write(path); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"phases": [`), []byte(`"phases": [], "x": [`), 1))
	f.Add([]byte(`{"schema":"` + planSchema + `"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), planName)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readPlan(path, evidence.Sum(raw))
		if err != nil {
			return
		}
		if phrase := p.Phrase("k3vq6xj2rw5pzt4m"); !strings.HasSuffix(phrase, " nonce=k3vq6xj2rw5pzt4m") || strings.Contains(phrase, "\n") {
			t.Fatalf("phrase %q", phrase)
		}
		digest, err := p.write(path)
		if err != nil {
			t.Fatal(err)
		}
		back, err := readPlan(path, digest)
		if err != nil {
			t.Fatalf("does not read what it wrote: %v", err)
		}
		if again, err := back.write(path); err != nil || again != digest {
			t.Fatalf("it differs after it was read: %v", err)
		}
	})
}
