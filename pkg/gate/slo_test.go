package gate_test

import (
	"math"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// The targets are a public contract: a change must be made here too, on purpose.
func TestSLOs(t *testing.T) {
	want := map[string]string{
		"Offline/AUC":  ">= 0.62",
		"Offline/P@20": ">= 0.58",

		"Offline evidence/test days":            ">= 10",
		"Offline evidence/AUC, lower end":       ">= 0.5",
		"Offline evidence/P@20 lift, lower end": ">= 1",
		"Offline evidence/known out of time":    ">= 1",

		"Market data/frozen minutes":             "<= 1 %",
		"Market data/longest frozen stretch":     "<= 360 min",
		"Market data/longest flat run":           "<= 360 min",
		"Market data/largest one-minute move":    "<= 20 %",
		"Market data/largest move across a hole": "<= 45 %",
		"Market data/unchanged minutes":          "<= 60 %",
		"Market data/filled minutes":             "<= 40 %",
		"Table data/table rows left out":         "<= 20 %",

		"Smoke/smoke success":      ">= 95 %",
		"Smoke/smoke p95":          "< 80 ms",
		"Shadow/shadow match rate": ">= 95 %",
		"Shadow/shadow error rate": "< 2 %",
		"Shadow/shadow p95":        "< 80 ms",

		"Smoke integrity/smoke distinct scores":                     "> 1",
		"Smoke integrity/smoke scores not as computed in process":   "<= 0",
		"Shadow integrity/baseline answers lost or changed":         "<= 0",
		"Shadow integrity/shadow scores not as computed in process": "<= 0",
		"Shadow integrity/requests without exactly one outcome":     "<= 0",

		"Canary/match rate":  ">= 95 %",
		"Canary/error rate":  "< 1 %",
		"Canary/p95 latency": "< 80 ms",
		"Canary/coverage":    ">= 95 %",
	}
	got := map[string]string{}
	for group, rules := range map[string][]gate.Rule{
		"Offline": gate.Offline(), "Offline evidence": gate.OfflineEvidence(), "Market data": gate.DataQuality(), "Table data": gate.TableData(),
		"Smoke": gate.Smoke(), "Smoke integrity": gate.SmokeIntegrity(), "Shadow": gate.Shadow(), "Shadow integrity": gate.ShadowIntegrity(),
		"Canary": gate.DefaultPolicy().PhaseRules(),
	} {
		for _, rule := range rules {
			got[group+"/"+rule.Name] = rule.Target()
			floor := uint64(500)
			switch { // days, and figures that are known of any series
			case group == "Offline evidence" && rule.Name != gate.OutOfTime:
				floor = 5
			case group == "Market data" || group == "Table data" || rule.Name == gate.OutOfTime:
				floor = 1
			}
			if rule.What == "" || rule.MinSamples < floor {
				t.Errorf("%s: what %q, min samples %d: want a description and a floor", rule.Name, rule.What, rule.MinSamples)
			}
			for _, hole := range []gate.Observation{{}, gate.Missing("x"), gate.Measured(math.NaN(), 1e6)} {
				if r := gate.Check(rule, hole); r.Verdict.OK() {
					t.Errorf("%s passes without data: %+v", rule.Name, hole)
				}
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d rules, want %d: %v", len(got), len(want), got)
	}
	for name, target := range want {
		if got[name] != target {
			t.Errorf("%s: got %q, want %q", name, got[name], target)
		}
	}
}

func TestSLOsAreFresh(t *testing.T) {
	gate.Offline()[0].Threshold = 0
	if got := gate.Offline()[0].Threshold; got != 0.62 {
		t.Errorf("a caller changed the defaults: %v", got)
	}
}

// A smoke of the default size with the most allowed failures must be long enough to judge its latency.
func TestSmokeWithFailuresIsJudged(t *testing.T) {
	card := gate.Judge(gate.Smoke(), map[string]gate.Observation{
		gate.SmokeSuccess: gate.Rate(950, 1000),
		gate.SmokeP95:     gate.Measured(4.2, 950),
	})
	if got := card.Verdict(); got != gate.Pass {
		t.Errorf("got %s, want PASS: %+v", got, card.Results)
	}
}
