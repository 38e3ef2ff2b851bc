package deploytest

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
)

// BenchmarkViewers measures the CPU time that ten viewers of the status page cost an executor. Rounds with and without
// viewers alternate, so that other work on the machine affects both. Each is measured with four busy clients and idle.
//
// The idle difference is the exact figure. cost_% relates it to the CPU time of a busy executor: this is the throughput
// that the executor loses on a machine without a spare core. The ratios are those measured under load. Run it with
// -benchtime 6x. One operation is four rounds.
func BenchmarkViewers(b *testing.B) {
	const viewers, settle, length = 10, time.Second, 4 * time.Second
	p := startPair(b)
	round := func(watched bool) (perSecond, perDecision, rate float64) {
		if watched {
			defer p.watch(b, viewers)()
		}
		time.Sleep(settle)
		cpu, n := p.spent(b)
		began := time.Now()
		time.Sleep(length)
		took := time.Since(began).Seconds()
		cpuAfter, nAfter := p.spent(b)
		return (cpuAfter - cpu) / took, (cpuAfter - cpu) / (nAfter - n), (nAfter - n) / took
	}
	var perDecision, throughput []float64
	var busy, watching float64
	rounds := 0.0
	for b.Loop() {
		order := []bool{false, true}
		if int(rounds)%2 == 1 {
			slices.Reverse(order)
		}
		var cpu, cost, rate [2]float64 // without, with viewers
		at := map[bool]int{true: 1}
		stop := p.replay(b, 0)
		for _, watched := range order {
			i := at[watched]
			cpu[i], cost[i], rate[i] = round(watched)
		}
		stop()
		busy += cpu[0]
		perDecision, throughput = append(perDecision, cost[1]/cost[0]), append(throughput, rate[1]/rate[0])
		for _, watched := range order {
			cpu[at[watched]], _, _ = round(watched)
		}
		watching += cpu[1] - cpu[0]
		rounds++
		b.Logf("without and with %d viewers: %.0f and %.0f decisions a second at %.1f and %.1f us, %.2f and %.2f ms/s when idle",
			viewers, rate[0], rate[1], 1e6*cost[0], 1e6*cost[1], 1e3*cpu[0], 1e3*cpu[1])
	}
	b.ReportMetric(0, "ns/op") // the rounds have a fixed length
	b.ReportMetric(1e3*busy/rounds, "busy_ms/s")
	b.ReportMetric(1e3*watching/rounds, "viewers_ms/s")
	b.ReportMetric(100*watching/busy, "cost_%")
	b.ReportMetric(median(perDecision), "cpu_ratio")
	b.ReportMetric(median(throughput), "throughput_ratio")
	select {
	case err := <-p.replayed:
		b.Fatal(err)
	default:
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// watch opens the event streams of the given number of viewers and reads them. It returns a function that closes them.
func (p *pair) watch(b *testing.B, viewers int) func() {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var done sync.WaitGroup
	for range viewers {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.executor.Addr("http")+"/status/events", http.NoBody)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp, err)
		}
		done.Go(func() {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
	}
	return func() {
		cancel()
		done.Wait()
	}
}

// spent returns the CPU time of the executor since its start, in seconds, and the number of its decisions.
func (p *pair) spent(b *testing.B) (cpu, decisions float64) {
	b.Helper()
	resp, err := http.Get("http://" + p.executor.Addr("http") + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	families := telemetrytest.Parse(b, resp.Body)
	for name, v := range telemetrytest.Values(families, "") {
		switch {
		case name == "process_cpu_seconds_total":
			cpu = v
		case strings.HasPrefix(name, "ml_baseline_latency_ms"):
			decisions = v
		}
	}
	if cpu == 0 || decisions == 0 {
		b.Fatalf("the executor reports %v s of CPU time and %v decisions", cpu, decisions)
	}
	return cpu, decisions
}
