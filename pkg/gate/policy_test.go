package gate_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

func TestPolicyRoundTrip(t *testing.T) {
	p := gate.DefaultPolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	p.Phases, p.PhaseDuration, p.SLO.P95MS = []float64{0.5, 100}, gate.Duration(90*time.Second), 42
	raw, err := p.YAML()
	if err != nil {
		t.Fatal(err)
	}
	back, err := gate.ParsePolicy(raw)
	if err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("YAML: got %+v, %v, want %+v", back, err, p)
	}
	if raw, err = json.Marshal(p); err != nil || !strings.Contains(string(raw), `"phase_duration":"1m30s"`) {
		t.Errorf("JSON: got %s, %v", raw, err)
	}
	var read gate.Policy
	if err := json.Unmarshal(raw, &read); err != nil || !reflect.DeepEqual(read, p) {
		t.Errorf("JSON: got %+v, %v, want %+v", read, err, p)
	}
	raw, err = gate.DefaultPolicy().YAML()
	if text := string(raw); err != nil || !strings.Contains(text, "phase_duration: 30m\n") || !strings.Contains(text, "soak: 24h\n") {
		t.Errorf("YAML of the defaults: got %s, %v", text, err)
	}
	if empty, err := gate.ParsePolicy(nil); err != nil || !reflect.DeepEqual(empty, gate.DefaultPolicy()) {
		t.Errorf("empty: got %+v, %v, want the defaults", empty, err)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for text, mention := range map[string]string{
		"phase: [5]":                  "phase not found",
		"slo: {p95: 3}":               "p95 not found",
		"phases: []":                  "phases is []: want at least one",
		"phases: [5, 5]":              "phases[1] is 5: want more than the 5 before it",
		"phases: [50, 10]":            "phases[1] is 10",
		"phases: [5, 101]":            "phases[1] is 101: want more than 0 and at most 100",
		"phases: [0]":                 "phases[0] is 0",
		"phases: [.nan]":              "phases[0] is NaN",
		"phase_duration: 0s":          "phase_duration is 0s",
		"phase_duration: 30":          `policy: duration "30": want a form like 30m`,
		"min_comparisons: 3":          "at least 20",
		"min_comparisons: -1":         "line 1: cannot unmarshal !!int `-1` into uint64",
		"min_comparisons: 2.5":        "min_comparisons is 2.5: want a whole number",
		"phases: 5":                   "line 1: cannot unmarshal !!int `5`",
		"phases: [5, x]":              "line 1: cannot unmarshal !!str `x` into float64",
		"slo: {error_rate: 1 %}":      "line 1: cannot unmarshal !!str `1 %` into float64",
		"alpha:":                      "alpha is null: give a value",
		"phases: null":                "phases is null",
		"slo:":                        "slo is null",
		"abort: none":                 "line 1: cannot unmarshal !!str `none` into gate.Limits",
		"alpha: 0.01\nalpha: 0.02":    "already defined",
		"[5, 10]":                     "cannot unmarshal",
		"slo: {p95_ms: 1000}":         "slo.p95_ms is 1000: want more than 0 and less than 1000",
		"hold_limit: -1s":             "hold_limit is -1s",
		"lease: 10ms":                 "lease is 10ms: want 1s to 1h",
		"slo: {match_rate: 95}":       "slo.match_rate is 95: want more than 0 and less than 1",
		"abort: {error_rate: 0}":      "abort.error_rate is 0",
		"abort: {match_rate: 0.99}":   "abort.match_rate is 0.99: want at most that of slo",
		"abort: {p95_ms: .inf}":       "abort.p95_ms is +Inf",
		"alpha: 1":                    "alpha is 1",
		"promotion: {soak: -1h}":      "promotion.soak is -1h",
		"promotion: {auc: 1.2}":       "promotion.auc is 1.2",
		"slo: {coverage: 0}":          "slo.coverage is 0: want more than 0",
		"abort: {coverage: 0}":        "abort.coverage is 0: want more than 0",
		"slo: {coverage: 95}":         "slo.coverage is 95: want more than 0 and less than 1",
		"abort: {coverage: 0.99}":     "abort.coverage is 0.99: want at most that of slo",
		"schema: other":               "schema is other",
		"policy: better":              "policy is better: want agreement or improvement",
		"policy: \"\"":                "policy is empty: want agreement or improvement",
		"policy: null":                "policy is null",
		"match_tolerance: 0":          "match_tolerance is 0: want more than 0",
		"match_tolerance: 1":          "match_tolerance is 1: want more than 0 and less than 1",
		"match_tolerance: .nan":       "match_tolerance is NaN",
		"match_tolerance: wide":       "line 1: cannot unmarshal !!str `wide` into float64",
		"decision_threshold: -0.5":    "decision_threshold is -0.5: want more than 0 and less than 1, or 0 for none",
		"decision_threshold: 1":       "decision_threshold is 1",
		"phases: [5]\n---\nalpha: 0.": "more than one document",
		"phases: {":                   "policy:",
	} {
		if _, err := gate.ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("%q: got %v, want mention of %q", text, err, mention)
		}
	}
}

// All mistakes are reported together.
func TestParsePolicyReportsAll(t *testing.T) {
	_, err := gate.ParsePolicy([]byte("alpha: x\nslo: {p95_ms: fast}\n"))
	if want := "policy: yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `x` into float64\n  line 2: cannot unmarshal !!str `fast` into float64"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// A limit in the policy must lie where histogram latencies can be on either side.
func TestLimitsAreWithinTheHistograms(t *testing.T) {
	edges := telemetry.LatencyBucketsMS
	last := edges[len(edges)-1]
	p := gate.DefaultPolicy()
	p.SLO.P95MS, p.Abort.P95MS = last-1, last-1
	if err := p.Validate(); err != nil {
		t.Errorf("just below the last edge: %v", err)
	}
	p.Abort.P95MS = last
	if err := p.Validate(); err == nil {
		t.Errorf("a limit at the last edge, %v ms, is valid", last)
	}
	for _, limit := range []float64{gate.DefaultPolicy().SLO.P95MS, gate.DefaultPolicy().Abort.P95MS} {
		if !slices.Contains(edges, limit) {
			t.Errorf("%v ms is not an edge: %v", limit, edges)
		}
	}
}

func TestLaxer(t *testing.T) {
	p := gate.DefaultPolicy()
	if got := p.Laxer(p); len(got) != 0 {
		t.Errorf("than itself: got %v", got)
	}
	for mention, change := range map[string]func(*gate.Policy){
		"phases":          func(p *gate.Policy) { p.Phases = p.Phases[1:] },
		"phase_duration":  func(p *gate.Policy) { p.PhaseDuration-- },
		"min_comparisons": func(p *gate.Policy) { p.MinComparisons-- },
		"slo.p95_ms":      func(p *gate.Policy) { p.SLO.P95MS++ },
		"abort.error_rate": func(p *gate.Policy) {
			p.Abort.ErrorRate *= 2
		},
		"slo.match_rate": func(p *gate.Policy) { p.SLO.MatchRate -= 0.01 },
		"slo.coverage":   func(p *gate.Policy) { p.SLO.Coverage = 0.9 },
		"abort.coverage": func(p *gate.Policy) { p.Abort.Coverage = 0.5 },
		"alpha":          func(p *gate.Policy) { p.Alpha /= 2 },
	} {
		q := gate.DefaultPolicy()
		change(&q)
		if got := q.Laxer(p); len(got) != 1 || !strings.Contains(got[0], mention) {
			t.Errorf("%s: got %v", mention, got)
		}
		if got := p.Laxer(q); mention != "phases" && len(got) != 0 {
			t.Errorf("stricter in %s: got %v", mention, got)
		}
	}
}

// Under improvement the match rate is not binding, so it is laxer than agreement, and no tolerance or match rate makes it
// even laxer.
func TestLaxerByKind(t *testing.T) {
	agreement, improvement, loose := gate.DefaultPolicy(), gate.DefaultPolicy(), gate.DefaultPolicy()
	improvement.Kind = gate.Improvement
	loose.Kind, loose.MatchTolerance, loose.SLO.MatchRate, loose.Abort.MatchRate = gate.Improvement, 0.5, 0.2, 0.1
	old := agreement
	old.Kind, old.MatchTolerance = "", 0
	wide := agreement
	wide.MatchTolerance = 0.06
	for name, tt := range map[string]struct {
		p, than gate.Policy
		want    string
	}{
		"improvement than agreement":        {improvement, agreement, "policy is improvement, not agreement"},
		"improvement than an older policy":  {improvement, old, "policy is improvement, not agreement"},
		"agreement than improvement":        {agreement, improvement, ""},
		"loose than improvement":            {loose, improvement, ""},
		"older than agreement":              {old, agreement, ""},
		"agreement than older":              {agreement, old, ""},
		"a wider tolerance":                 {wide, agreement, "match_tolerance is 0.06, not 0.05"},
		"a wider tolerance than older":      {wide, old, "match_tolerance is 0.06, not 0.05"},
		"a tighter tolerance":               {agreement, wide, ""},
		"a wider tolerance than irrelevant": {wide, improvement, ""},
	} {
		if got := strings.Join(tt.p.Laxer(tt.than), "; "); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestTerms(t *testing.T) {
	p := gate.DefaultPolicy()
	if got := p.Terms(); got != "" {
		t.Errorf("the default: got %q", got)
	}
	p.Kind, p.MatchTolerance = "", 0 // of an older run
	if got := p.Terms(); got != "" {
		t.Errorf("an older one: got %q", got)
	}
	p.Kind, p.MatchTolerance, p.DecisionThreshold = gate.Improvement, 0.1, 0.625
	if got, want := p.Terms(), "policy=improvement tolerance=0.1 threshold=0.625 "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCompares(t *testing.T) {
	p := gate.DefaultPolicy()
	judges := p
	judges.DecisionThreshold = 0.6
	for name, tt := range map[string]struct {
		p                    gate.Policy
		tolerance, threshold float64
		want                 string
	}{
		"as asked":             {p, 0.05, 0, ""},
		"a threshold besides":  {p, 0.05, 0.5, ""},
		"another tolerance":    {p, 0.1, 0, "its match tolerance is 0.1, but the policy has 0.05: start it with --match-tolerance 0.05, or set match_tolerance: 0.1 in the policy"},
		"no threshold":         {judges, 0.05, 0, "its decision threshold is 0, but the policy has 0.6: start it with --decision-threshold 0.6, or set decision_threshold: 0 in the policy"},
		"the threshold":        {judges, 0.05, 0.6, ""},
		"nothing of the asked": {judges, 0.2, 0.5, "match tolerance"},
	} {
		err := tt.p.Compares(tt.tolerance, tt.threshold)
		if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	raw, err := gate.DefaultPolicy().YAML()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("phases: [1, 2]\nslo: {p95_ms: 5}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := gate.ParsePolicy(raw)
		if err != nil {
			return
		}
		again, err := p.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := gate.ParsePolicy(again); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("got %+v, %v, want %+v", back, err, p)
		}
	})
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 30 * time.Minute: "30m", 4 * time.Hour: "4h", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s",
		time.Hour + 5*time.Second: "1h0m5s", 10 * time.Second: "10s", 20 * time.Hour: "20h", -10 * time.Minute: "-10m",
		1500 * time.Microsecond: "1.5ms",
	} {
		got := gate.Duration(d).String()
		if got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
		var back gate.Duration
		if err := back.UnmarshalText([]byte(got)); err != nil || time.Duration(back) != d {
			t.Errorf("%q: got %v, %v, want %v", got, back, err, d)
		}
	}
	for _, text := range []string{"", "30", "half an hour"} {
		if err := new(gate.Duration).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
