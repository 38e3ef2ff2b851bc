package gate_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestCheck(t *testing.T) {
	match := gate.Rule{Name: "match", Op: gate.AtLeast, Threshold: 0.95, Unit: gate.Ratio, MinSamples: 500}
	p95 := gate.Rule{Name: "p95", Op: gate.Below, Threshold: 80, Unit: gate.Millis, MinSamples: 500}
	with := func(r gate.Rule, change func(*gate.Rule)) gate.Rule { change(&r); return r }
	tests := []struct {
		name   string
		rule   gate.Rule
		seen   gate.Observation
		want   gate.Verdict
		reason string
		value  bool // whether the result has a value
	}{
		{"above the floor", match, gate.Measured(0.97, 500), gate.Pass, "", true},
		{"on the floor", match, gate.Measured(0.95, 500), gate.Pass, "", true},
		{"below the floor", match, gate.Measured(0.9, 500), gate.Fail, "90.0 % is not >= 95 %", true},
		{"just below the floor", match, gate.Measured(0.9499, 10000), gate.Fail, "94.99 % is not >= 95 %", true},
		{"on a ceiling that is not part of it", p95, gate.Measured(80, 500), gate.Fail, "80.0 ms is not < 80 ms", true},
		{"just below the ceiling", p95, gate.Measured(79.99, 500), gate.Pass, "", true},
		{"on an inclusive ceiling", with(p95, func(r *gate.Rule) { r.Op = gate.AtMost }), gate.Measured(80, 500), gate.Pass, "", true},
		{"on an exclusive floor", with(match, func(r *gate.Rule) { r.Op = gate.Above }), gate.Measured(0.95, 500), gate.Fail, "95.0 % is not > 95 %", true},
		{"one sample short", match, gate.Measured(1, 499), gate.Inconclusive, "499 samples, 500 needed", true},
		{"one sample short and missed", match, gate.Measured(0, 499), gate.Inconclusive, "499 samples, 500 needed", true},
		{"no samples", p95, gate.Measured(0, 0), gate.Inconclusive, "0 samples, 500 needed", false},
		{"no samples and no floor", with(p95, func(r *gate.Rule) { r.MinSamples = 0 }), gate.Measured(0, 0), gate.Inconclusive, "0 samples, 1 needed", false},
		{"one sample and no floor", with(p95, func(r *gate.Rule) { r.MinSamples = 0 }), gate.Measured(1, 1), gate.Pass, "", true},
		{"zero observation", p95, gate.Observation{}, gate.Inconclusive, "0 samples, 500 needed", false},
		{"not a number", match, gate.Measured(math.NaN(), 1000), gate.Error, "value is NaN", false},
		{"not a number, no samples", match, gate.Measured(math.NaN(), 0), gate.Error, "value is NaN", false},
		{"infinitely good", match, gate.Measured(math.Inf(1), 1000), gate.Error, "value is +Inf", false},
		{"infinitely fast", p95, gate.Measured(math.Inf(-1), 1000), gate.Error, "value is -Inf", false},
		{"missing", match, gate.Missing("no such series"), gate.Error, "missing: no such series", false},
		{"missing without a reason", match, gate.Missing(""), gate.Error, "missing: no reason given", false},
		{"missing beats a good value", match, gate.Observation{Value: 1, N: 9000, Missing: "frozen"}, gate.Error, "missing: frozen", false},
		{"rate", match, gate.Rate(970, 1000), gate.Pass, "", true},
		{"rate of nothing", match, gate.Rate(0, 0), gate.Inconclusive, "0 samples, 500 needed", false},
		{"impossible rate", match, gate.Rate(1001, 1000), gate.Error, "missing: impossible count: 1001 of 1000", false},
		{"zero rule", gate.Rule{}, gate.Measured(1, 1), gate.Error, `rule: unknown comparison ""`, false},
		{"unknown comparison", with(match, func(r *gate.Rule) { r.Op = "==" }), gate.Measured(1, 1000), gate.Error, `rule: unknown comparison "=="`, false},
		{"threshold is not a number", with(p95, func(r *gate.Rule) { r.Threshold = math.NaN() }), gate.Measured(1, 1000), gate.Error, "rule: threshold is NaN", false},
		{"threshold that cannot be missed", with(p95, func(r *gate.Rule) { r.Threshold = math.Inf(1) }), gate.Measured(1, 1000), gate.Error, "rule: threshold is +Inf", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := gate.Check(tt.rule, tt.seen)
			if got.Verdict != tt.want || got.Reason != tt.reason {
				t.Errorf("Check = %s %q, want %s %q", got.Verdict, got.Reason, tt.want, tt.reason)
			}
			if (got.Value != nil) != tt.value {
				t.Errorf("value = %v, want one: %v", got.Value, tt.value)
			}
			if got.Name != tt.rule.Name || got.N != tt.seen.N {
				t.Errorf("name, n = %q, %d, want %q, %d", got.Name, got.N, tt.rule.Name, tt.seen.N)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Errorf("result is not JSON: %v", err)
			}
		})
	}
}

func TestCheckNeverPassesWithoutData(t *testing.T) {
	values := []float64{math.Inf(-1), -1, 0, 0.5, 0.95, 1, 80, math.Inf(1), math.NaN()}
	for _, op := range []gate.Op{gate.AtLeast, gate.Above, gate.AtMost, gate.Below, "", "="} {
		for _, threshold := range values {
			for _, value := range values {
				for _, n := range []uint64{0, 1, 9, 10, 11} {
					rule := gate.Rule{Op: op, Threshold: threshold, MinSamples: 10}
					got := gate.Check(rule, gate.Measured(value, n))
					if got.Verdict.OK() && (n < 10 || math.IsNaN(value) || math.IsInf(value, 0)) {
						t.Errorf("value %v, n %d, %q %v: PASS", value, n, op, threshold)
					}
					if got.Verdict.OK() != (got.Reason == "") {
						t.Errorf("value %v, n %d: %s with reason %q", value, n, got.Verdict, got.Reason)
					}
					if again := gate.Check(rule, gate.Observation{Value: value, N: n, Missing: "x"}); again.Verdict != gate.Error {
						t.Errorf("missing: %s, want ERROR", again.Verdict)
					}
				}
			}
		}
	}
}

func TestBoundsNeverDecide(t *testing.T) {
	rule := gate.Rule{Op: gate.AtLeast, Threshold: 0.95, Unit: gate.Ratio, MinSamples: 10}
	bad := &gate.Bounds{Low: 0, High: 0.1}
	got := gate.Check(rule, gate.Observation{Value: 0.96, N: 10, Bounds: bad})
	if got.Verdict != gate.Pass || got.Bounds == nil || *got.Bounds != *bad {
		t.Errorf("got %+v, want a pass that carries its bounds", got)
	}
	got = gate.Check(rule, gate.Observation{Value: 0.96, N: 10, Bounds: &gate.Bounds{Low: math.NaN(), High: 1}})
	if got.Verdict != gate.Pass || got.Bounds != nil {
		t.Errorf("got %+v, want a pass without bounds that are not numbers", got)
	}
}

func TestResultJSON(t *testing.T) {
	rule := gate.Rule{Name: "m", Op: gate.AtLeast, Threshold: 0.5, Unit: gate.Ratio, MinSamples: 2}
	tests := []struct {
		name string
		seen gate.Observation
		want string
	}{
		{
			"a value",
			gate.Observation{Value: 0.75, N: 4, Bounds: &gate.Bounds{Low: 0.25, High: 1}},
			`{"name":"m","verdict":"PASS","value":0.75,"op":">=","threshold":0.5,"unit":"ratio","n":4,"min_samples":2,` +
				`"bounds":{"low":0.25,"high":1},"reason":""}`,
		},
		{
			"no value", gate.Missing("gone"),
			`{"name":"m","verdict":"ERROR","value":null,"op":">=","threshold":0.5,"unit":"ratio","n":0,"min_samples":2,` +
				`"reason":"missing: gone"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := json.Marshal(gate.Check(rule, tt.seen))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(string(data), `\u003e`, ">"); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
