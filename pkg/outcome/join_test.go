package outcome_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
)

const minute = int64(time.Minute / time.Millisecond)

func plan() outcome.Plan {
	return outcome.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: 0.05, LabelSource: outcome.Quotes, HorizonMS: 15 * minute}
}

func TestJoinSmoke(t *testing.T) {
	p := plan()
	j := outcome.NewJoin(outcome.Key{Executor: "e", Model: "m", Baseline: "b"}, p)
	rng := rand.New(rand.NewPCG(1, 1))
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	var records []outcome.Record
	n := 0
	for m := range int64(30 * 1440) {
		at := start + m*minute
		j.Minute("S", at, outcome.Answer(1+rng.IntN(2)))
		for range 1 {
			j.Add(&outcome.Row{ID: fmt.Sprint(n), Symbol: "S", Time: at, Arrival: at, Baseline: 0.5, Shadow: 0.5 + 0.1*(rng.Float64()-.5)})
			n++
		}
		records = append(records, j.Closed()...)
	}
	v := outcome.Judge(p, records)
	t.Logf("%+v", v.Verdict)
	t.Logf("%+v %+v", v.Reasons, v.Streams)
	t.Logf("%+v", v.Claims)
	t.Logf("%+v", v.Total.Labels)
	t.Logf("%+v %v", v.Shares, p.LeastDays())
}

func BenchmarkAdd(b *testing.B) {
	j := outcome.NewJoin(outcome.Key{Executor: "e", Model: "m", Baseline: "b"}, plan())
	rows := make([]outcome.Row, 1<<16)
	rng := rand.New(rand.NewPCG(1, 1))
	for s := range 100 {
		j.Minute(fmt.Sprintf("SYM-%d", s), 1e12/minute*minute, outcome.Unknown)
	}
	for i := range rows {
		rows[i] = outcome.Row{ID: fmt.Sprintf("SIM-PERP-%d", 1736121660000+i), Symbol: fmt.Sprintf("SYM-%d", i%100), Time: 1e12, Arrival: 1e12, Baseline: rng.Float64(), Shadow: rng.Float64()}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		j.Add(&rows[i%len(rows)])
		i++
	}
}
