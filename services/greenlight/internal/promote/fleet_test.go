package promote

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
)

// fleetRun returns a run over a group of two executors. The first has counted one request of every kind.
func fleetRun() *canary.Record {
	r := promotetest.Run(gate.DefaultPolicy(), time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC))
	r.Fleet = &canary.RecordFleet{Group: "desk-a", MinFleet: 0.9, Revision: 7}
	for i := range r.Phases {
		p := &r.Phases[i]
		a := canary.ExecutorCounts{Executor: "a", Requests: 2, Outcomes: map[string]uint64{"match": 1, "mismatch": 1}, Sources: evidence.Sources{evidence.Live: 2}}
		a.Latency = &fleet.Histogram{Edges: p.Latency.Edges, Counts: []uint64{2, 0}}
		b := canary.ExecutorCounts{Executor: "b", Requests: p.Requests - 2, Outcomes: maps.Clone(p.Outcomes), Sources: evidence.Sources{evidence.Live: p.Requests - 2}}
		b.Outcomes["match"]--
		b.Outcomes["mismatch"]--
		b.Latency = &fleet.Histogram{Edges: p.Latency.Edges, Counts: []uint64{p.Latency.Counts[0] - 2, p.Latency.Counts[1]}}
		p.Fleet = &canary.PhaseFleet{Present: 2, Executors: []canary.ExecutorCounts{a, b}}
	}
	return r
}

// The counts of a run over a group must be the sum of its executors' counts.
func TestRecheckFleet(t *testing.T) {
	t.Parallel()
	if found := Recheck(fleetRun(), evidence.Live); len(found) > 0 {
		t.Fatalf("as it is: %q", found)
	}
	for want, tamper := range map[string]func(*canary.Record, *canary.PhaseFleet){
		"its executors have 5006 requests, but it has 5005":           func(_ *canary.Record, p *canary.PhaseFleet) { p.Executors[0].Requests++ },
		"its executors have 4951 with outcome match, but it has 4950": func(_ *canary.Record, p *canary.PhaseFleet) { p.Executors[0].Outcomes["match"]++ },
		"the sources of its executors differ from its own": func(_ *canary.Record, p *canary.PhaseFleet) {
			p.Executors[0].Sources = evidence.Sources{evidence.Replay: 2}
		},
		"the latencies of its executors differ from its own":                            func(_ *canary.Record, p *canary.PhaseFleet) { p.Executors[0].Latency.Counts[1]++ },
		"executor a counts twice":                                                       func(_ *canary.Record, p *canary.PhaseFleet) { p.Executors[1].Executor = "a" },
		"2 executors have counts, of 4 that were present: want 4":                       func(_ *canary.Record, p *canary.PhaseFleet) { p.Present = 4 },
		"it has the executors' counts of a group in only one of two places":             func(r *canary.Record, _ *canary.PhaseFleet) { r.Phases[1].Fleet = nil },
		"phase 10 %: it has the executors' counts of a group in only one of two places": func(r *canary.Record, _ *canary.PhaseFleet) { r.Fleet = nil },
	} {
		r := fleetRun()
		tamper(r, r.Phases[1].Fleet)
		if found := strings.Join(Recheck(r, evidence.Live), "; "); !strings.Contains(found, want) {
			t.Errorf("want %q, got %q", want, found)
		}
	}
	r := fleetRun() // an interrupted attempt has none
	r.Phases[4].Decision, r.Phases[4].Fleet, r.Decision = canary.Interrupted, nil, canary.Interrupted
	for _, what := range Recheck(r, evidence.Live) {
		if strings.Contains(what, "group") {
			t.Errorf("an interrupted phase: %s", what)
		}
	}
}

// A phrase for a group records the group, so that the promotion judges the executors present at that time.
func TestPledgeOfAGroup(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.write()
	want := fleetgroup.Address{URL: "nats://a:4222", Group: "desk-a", Creds: "operator.creds"}
	s.q.Fleet = &want
	p, err := Redeem(s.ledger, s.ask().Phrase)
	if err != nil || p.Fleet == nil || *p.Fleet != want {
		t.Errorf("got %+v, %v", p.Fleet, err)
	}
}
