package gate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func pass(name string) gate.Result { return gate.Result{Name: name, Verdict: gate.Pass} }

func TestScorecardVerdict(t *testing.T) {
	if got := (gate.Scorecard{}).Verdict(); got.OK() {
		t.Errorf("an empty scorecard is %s", got)
	}
	every(4, func(set []gate.Verdict) {
		card := gate.Scorecard{}
		for _, v := range set {
			card.Results = append(card.Results, gate.Result{Verdict: v})
		}
		if got, want := card.Verdict(), gate.Worst(set...); got != want {
			t.Errorf("scorecard of %q = %s, want %s", set, got, want)
		}
		if len(set) == 0 {
			return
		}
		more := gate.Scorecard{Results: append(card.Results[:len(set):len(set)], pass("more"))}
		if more.Verdict() != card.Verdict() {
			t.Errorf("a pass more turned %q to %s", set, more.Verdict())
		}
	})
}

func TestJudge(t *testing.T) {
	rules := gate.Smoke()
	good := map[string]gate.Observation{gate.SmokeSuccess: gate.Rate(1000, 1000), gate.SmokeP95: gate.Measured(3, 1000)}
	without := func(name string) map[string]gate.Observation {
		rest := map[string]gate.Observation{}
		for k, v := range good {
			if k != name {
				rest[k] = v
			}
		}
		return rest
	}
	misspelt := without(gate.SmokeP95)
	misspelt["smoke P95"] = good[gate.SmokeP95]
	extra := without("")
	extra["surprise"] = gate.Measured(1, 1)
	tests := []struct {
		name  string
		rules []gate.Rule
		seen  map[string]gate.Observation
		want  []gate.Verdict
		all   gate.Verdict
	}{
		{"all measured", rules, good, []gate.Verdict{gate.Pass, gate.Pass}, gate.Pass},
		{"one not measured", rules, without(gate.SmokeP95), []gate.Verdict{gate.Pass, gate.Error}, gate.Error},
		{"nothing measured", rules, nil, []gate.Verdict{gate.Error, gate.Error}, gate.Error},
		{"misspelt", rules, misspelt, []gate.Verdict{gate.Pass, gate.Error, gate.Error}, gate.Error},
		{"measured without a rule", rules, extra, []gate.Verdict{gate.Pass, gate.Pass, gate.Error}, gate.Error},
		{"no rules", nil, nil, []gate.Verdict{}, gate.Error},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			size := len(tt.seen)
			card := gate.Judge(tt.rules, tt.seen)
			got := make([]gate.Verdict, len(card.Results))
			for i, r := range card.Results {
				got[i] = r.Verdict
			}
			if !reflect.DeepEqual(got, tt.want) || card.Verdict() != tt.all {
				t.Errorf("got %q, overall %s, want %q, overall %s", got, card.Verdict(), tt.want, tt.all)
			}
			if len(tt.seen) != size {
				t.Error("the caller's observations were changed")
			}
		})
	}
}

// sample returns a scorecard with every verdict, bounds, a rounding trap and cells that would break a table.
func sample() gate.Scorecard {
	rules := append(append(gate.Offline(), gate.Smoke()...), gate.Shadow()...)
	rules = append(rules, gate.Rule{Name: "a|b\tc", Op: gate.AtMost, Threshold: 0.2, MinSamples: 1})
	return gate.Judge(rules, map[string]gate.Observation{
		gate.AUC:             {Value: 0.8634, N: 120960, Bounds: &gate.Bounds{Low: 0.851, High: 0.874}},
		gate.PrecisionAt20:   gate.Measured(0.5723, 120960),
		gate.SmokeSuccess:    gate.Rate(1000, 1000),
		gate.SmokeP95:        gate.Measured(4.23, 1000),
		gate.ShadowMatch:     gate.Rate(9496, 10000),
		gate.ShadowErrorRate: gate.Rate(1, 312),
		gate.ShadowP95:       gate.Missing("prometheus: no such series"),
		"a|b\tc":             gate.Missing("cut\nhere|there"),
	})
}

func TestRenderings(t *testing.T) {
	tests := map[string]func(gate.Scorecard, *bytes.Buffer) error{
		"scorecard.txt":       func(c gate.Scorecard, b *bytes.Buffer) error { return c.Table(b) },
		"scorecard.md":        func(c gate.Scorecard, b *bytes.Buffer) error { return c.Markdown(b) },
		"scorecard.json":      func(c gate.Scorecard, b *bytes.Buffer) error { return writeJSON(b, c) },
		"scorecard_empty.txt": func(_ gate.Scorecard, b *bytes.Buffer) error { return gate.Scorecard{}.Table(b) },
	}
	for name, render := range tests {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := render(sample(), &got); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s (run with -update to accept)\ngot:\n%s\nwant:\n%s", path, got.Bytes(), want)
			}
		})
	}
}

func writeJSON(b *bytes.Buffer, v any) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func TestScorecardJSONRoundTrip(t *testing.T) {
	data, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	// Editing a verdict in the file has no effect.
	data = bytes.Replace(data, []byte(`{"verdict":"FAIL"`), []byte(`{"verdict":"PASS"`), 1)
	var back gate.Scorecard
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, sample()) {
		t.Errorf("got %+v\nwant %+v", back, sample())
	}
	if got := back.Verdict(); got != gate.Fail {
		t.Errorf("verdict = %s, want FAIL", got)
	}
	empty, err := json.Marshal(gate.Scorecard{})
	if want := `{"verdict":"ERROR","results":[]}`; err != nil || string(empty) != want {
		t.Errorf("empty = %s, %v, want %s", empty, err, want)
	}
	if err := json.Unmarshal([]byte(`{"results":1}`), &back); err == nil {
		t.Error("a scorecard whose results are a number was read")
	}
}

type fullDisk struct{}

var errFull = errors.New("disk full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestRenderingsReportWriteErrors(t *testing.T) {
	if err := sample().Table(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("Table: %v, want %v", err, errFull)
	}
	if err := sample().Markdown(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("Markdown: %v, want %v", err, errFull)
	}
}
