package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/table"
)

// Schema names the kind of the JSON.
const Schema = "greenlight/bench/v1"

// Result has the measured costs of the shadow.
type Result struct {
	Schema    string    `json:"schema"`
	Time      time.Time `json:"time"`
	DurationS float64   `json:"duration_s"`
	Machine   Machine   `json:"machine"`
	Rounds    int       `json:"rounds"`
	// ClosedS and OpenS are the lengths of the segments.
	ClosedS float64 `json:"closed_s"`
	OpenS   float64 `json:"open_s"`
	Rows    []Row   `json:"rows"`
	// Sides has the figures behind the ratios.
	Sides []Side `json:"sides"`
}

// Row is one target and the result.
type Row struct {
	// What is compared; Measure is the compared figure.
	What    string `json:"what"`
	Measure string `json:"measure"`
	// Op is ">=" or "<="; Target and Achieved are in Unit: "x" (a ratio), "us", "rows/s" or "" (a count).
	Op       string  `json:"op"`
	Target   float64 `json:"target"`
	Unit     string  `json:"unit"`
	Achieved Spread  `json:"achieved"`
	// Low and High are the 95 % interval of the median; with fewer than six rounds, the smallest and the largest.
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Reached bool    `json:"reached"`
}

// Side is one server in one mode: medians of the rounds.
type Side struct {
	Name string `json:"name"`
	// Mode is "closed" with UnderWay calls in flight, or "open" with Rate calls per second.
	Mode       string  `json:"mode"`
	UnderWay   int     `json:"under_way,omitempty"`
	Rate       float64 `json:"rate,omitempty"`
	Throughput Spread  `json:"throughput"`
	P50US      Spread  `json:"p50_us"`
	P99US      Spread  `json:"p99_us"`
	// CPUUS is the server's CPU time per call, in microseconds; 0 if the system does not report it.
	CPUUS Spread `json:"cpu_us"`
	// Refused is how many calls of open loops were refused in all rounds because the queue was full.
	Refused int64 `json:"refused,omitempty"`
}

func (r *run) result() *Result {
	result := &Result{Schema: Schema, Rounds: r.opts.Rounds, ClosedS: r.opts.Closed.Seconds(), OpenS: r.opts.Open.Seconds()}
	row := func(what, measure, op string, target float64, unit string, values []float64) {
		s := SpreadOf(values)
		low, high := interval(values)
		result.Rows = append(result.Rows, Row{
			What: what, Measure: measure, Op: op, Target: target, Unit: unit, Achieved: s, Low: low, High: high, Reached: reached(op, s.Median, target),
		})
	}
	compared := func(side, base, measure, op string, target float64, of func(string) key, figure func(sample) float64) {
		row(side+" / "+strings.TrimPrefix(base, "executor, "), measure, op, target, "x", ratios(r.samples[of(side)], r.samples[of(base)], figure))
	}
	throughput := func(side, base string, target float64) {
		for _, n := range closedModes {
			compared(side, base, fmt.Sprintf("throughput, %d under way", n), ">=", target,
				func(s string) key { return closedKey(s, n) }, sample.throughput)
		}
	}
	tail := func(side, base string, target float64) {
		compared(side, base, fmt.Sprintf("p99 at %.0f %% of saturation", 100*calmShare), "<=", target, calm, p99)
	}
	throughput(engineSide, echoScoring, 0.90)
	tail(engineSide, echoScoring, 1.15)
	throughput(shadowOff, echoDecision, 0.85)
	throughput(shadowOn, shadowOff, 0.90)
	tail(shadowOn, shadowOff, 1.10)
	row(shadowOn, fmt.Sprintf("shed at %.0f %% of saturation", 100*busyShare), "<=", 0, "", r.sheds)
	failed := func(names []string) {
		reference := names[len(names)-1]
		for _, name := range names[:len(names)-1] {
			compared(name, reference, fmt.Sprintf("throughput, %d under way", manyUnderWay), ">=", 0.90,
				func(s string) key { return closedKey(s, manyUnderWay) }, sample.throughput)
			tail(name, reference, 1.10)
		}
	}
	failed(calls)
	if cost := r.moreCPU(shadowOn, shadowOff); cost != nil {
		row("shadow, in executor", "CPU per request at saturation", "<=", 10, "us", cost)
	}
	if cost := r.moreCPU(tracedOff, shadowOff); cost != nil {
		row("traces, not sampled, in executor", "CPU per request at saturation", "<=", 1, "us", cost)
	}
	r.streamRows(compared, row)
	failed(streams)
	row("ml-engine BatchPredict", fmt.Sprintf("%d rows a call", batchRows), ">=", 2e6, "rows/s",
		measures(r.samples[batchKey], func(s sample) float64 { return s.throughput() * batchRows }))

	for _, n := range closedModes {
		for _, name := range closedSides[n] {
			result.add(r, closedKey(name, n))
		}
	}
	for _, name := range slices.Concat(calls, streams) {
		result.add(r, closedKey(name, manyUnderWay))
	}
	result.add(r, closedKey(decideFull, floodFull))
	for _, name := range slices.Concat(steady, streamed, calls, streams) {
		result.add(r, calm(name))
	}
	result.add(r, busyKey)
	result.add(r, batchKey)
	return result
}

// streamRows are the rows of decisions over streams.
func (r *run) streamRows(compared func(side, base, measure, op string, target float64, of func(string) key, figure func(sample) float64),
	row func(what, measure, op string, target float64, unit string, values []float64),
) {
	under := func(n int) func(string) key { return func(s string) key { return closedKey(s, n) } }
	one, many := under(1), under(manyUnderWay)
	compared(decideOneOff, echoDecision, "p50, 1 under way", "<=", 0.65, one, p50)
	compared(decideOneOff, echoDecision, "throughput, 1 under way", ">=", 1.5, one, sample.throughput)
	for _, side := range []string{decideOff, decideOneOff} {
		compared(side, echoDecision, fmt.Sprintf("throughput, %d under way", manyUnderWay), ">=", 3, many, sample.throughput)
		compared(side, echoDecision, fmt.Sprintf("p99, %d under way", manyUnderWay), "<=", 0.5, many, p99)
		compared(side, pingPong, fmt.Sprintf("throughput, %d under way", manyUnderWay), ">=", 0.5, many, sample.throughput)
	}
	tail := fmt.Sprintf("p99 at %.0f %% of saturation", 100*calmShare)
	compared(decideOn, decideOff, fmt.Sprintf("throughput, %d under way", manyUnderWay), ">=", 0.90, many, sample.throughput)
	compared(decideOn, decideOff, tail, "<=", 1.10, calm, p99)
	if cost := r.moreCPU(decideOn, decideOff); cost != nil {
		row("shadow of Decide, in executor", "CPU per decision at saturation", "<=", 5, "us", cost)
	}
	for i, times := range floodTimes {
		if times <= 1 {
			continue
		}
		kept := make([]float64, len(r.floods))
		for round, good := range r.floods {
			kept[round] = good[i] / slices.Max(good)
		}
		row(decideFull, fmt.Sprintf("goodput at %.0fx of saturation / its peak", times), ">=", 0.90, "x", kept)
	}
}

// moreCPU is the CPU time per request at saturation that executor takes more with a feature than without, in microseconds;
// nil where the system does not tell.
func (r *run) moreCPU(with, without string) []float64 {
	on, off := r.samples[closedKey(with, manyUnderWay)], r.samples[closedKey(without, manyUnderWay)]
	if cpuPerCall(on[0]) <= 0 {
		return nil
	}
	cost := make([]float64, len(on))
	for i := range on {
		cost[i] = cpuPerCall(on[i]) - cpuPerCall(off[i])
	}
	return cost
}

func (res *Result) add(r *run, k key) {
	of := func(measure func(sample) float64) Spread { return SpreadOf(measures(r.samples[k], measure)) }
	s := Side{
		Name: k.side, Mode: "closed", UnderWay: k.underWay, Throughput: of(sample.throughput),
		P50US: of(func(s sample) float64 { return s.quantile(50) }), P99US: of(p99), CPUUS: of(cpuPerCall),
	}
	for _, one := range r.samples[k] {
		s.Refused += one.refused
	}
	if k.underWay == 0 {
		s.Mode, s.Rate = "open", s.Throughput.Median
	}
	res.Sides = append(res.Sides, s)
}

// reached reports whether the target is reached; NaN never reaches it.
func reached(op string, v, target float64) bool {
	switch op {
	case ">=":
		return v >= target
	case "<=":
		return v <= target
	}
	return false
}

// Table writes the rows as text, with the other load of the machine.
func (res *Result) Table(w io.Writer) error {
	t := table.New("what", "measure", "target", ">achieved", ">95 %", ">spread", "")
	for _, r := range res.Rows {
		verdict := "reached"
		if !r.Reached {
			verdict = "MISSED"
		}
		t.Row(r.What, r.Measure, r.Op+" "+figure(r.Target, r.Unit), figure(r.Achieved.Median, r.Unit),
			figure(r.Low, r.Unit)+".."+figure(r.High, r.Unit), figure(r.Achieved.Min, r.Unit)+".."+figure(r.Achieved.Max, r.Unit), verdict)
	}
	if err := t.Text(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nmedians of %d rounds (closed loops of %.2f s, open ones of %.2f s), in %.0f s, on %d CPUs (%s)\n",
		res.Rounds, res.ClosedS, res.OpenS, res.DurationS, res.Machine.CPUs, res.Machine.load())
	return err
}

// Figures writes the figures behind the ratios.
func (res *Result) Figures(w io.Writer) error {
	t := table.New("server", "load", ">calls/s", ">p50 us", ">p99 us", ">CPU us")
	for _, s := range res.Sides {
		mode := fmt.Sprintf("%d under way", s.UnderWay)
		if s.Mode == "open" {
			mode = "open loop"
		}
		if s.Refused > 0 {
			mode += fmt.Sprintf(", %d refused", s.Refused)
		}
		t.Row(s.Name, mode, fmt.Sprintf("%.0f", s.Throughput.Median), fmt.Sprintf("%.0f", s.P50US.Median), fmt.Sprintf("%.0f", s.P99US.Median), fmt.Sprintf("%.1f", s.CPUUS.Median))
	}
	return t.Text(w)
}

func (m Machine) load() string {
	if m.OtherLoad < 0 {
		return "what else they did is not known"
	}
	return fmt.Sprintf("%.0f %% of them busy with other work", 100*m.OtherLoad)
}

func figure(v float64, unit string) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case unit == "x":
		return fmt.Sprintf("%.2fx", v)
	case unit == "us":
		return fmt.Sprintf("%.1f us", v)
	case unit == "rows/s":
		return fmt.Sprintf("%.2f M rows/s", v/1e6)
	}
	return fmt.Sprintf("%.0f", v)
}
