package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Schema names the kind of the JSON.
const Schema = "greenlight/bench/v1"

// Header describes a measurement.
type Header struct {
	Schema    string      `json:"schema"`
	Time      time.Time   `json:"time"`
	DurationS float64     `json:"duration_s"`
	Machine   rig.Machine `json:"machine"`
	Rounds    int         `json:"rounds"`
}

func newHeader(schema string, w rig.Watch, m rig.Machine, rounds int) Header {
	return Header{schema, w.Start.UTC(), time.Since(w.Start).Seconds(), m, rounds}
}

// end describes the measurement in words.
func (h Header) end(lengths string) string {
	return fmt.Sprintf("medians of %d rounds%s, in %.0f s, on %d CPUs (%s)\n", h.Rounds, lengths, h.DurationS, h.Machine.CPUs, h.Machine.Load())
}

// Result holds the measured costs of the shadow.
type Result struct {
	Header
	// ClosedS and OpenS are the lengths of the segments.
	ClosedS float64 `json:"closed_s"`
	OpenS   float64 `json:"open_s"`
	Rows    []Row   `json:"rows"`
	// Sides holds the figures behind the ratios.
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
	// Refused is the number of open-loop calls refused in all rounds because the queue was full.
	Refused int64 `json:"refused,omitempty"`
}

// figure is a measure of a side.
type figure struct {
	name string
	key  func(side string) key
	of   func(Sample) float64
}

func under(n int) func(side string) key { return func(side string) key { return closedKey(side, n) } }

var (
	oneThroughput  = figure{"throughput, 1 under way", under(1), Sample.Throughput}
	oneP50         = figure{"p50, 1 under way", under(1), p50}
	manyThroughput = figure{fmt.Sprintf("throughput, %d under way", manyUnderWay), under(manyUnderWay), Sample.Throughput}
	manyP99        = figure{fmt.Sprintf("p99, %d under way", manyUnderWay), under(manyUnderWay), p99}
	calmP99        = figure{fmt.Sprintf("p99 at %.0f %% of saturation", 100*calmShare), calm, p99}
	fixedCPU       = figure{fmt.Sprintf("CPU at %d decisions a second", groupedRate), fixed, cpuPerCall}
)

func (r *run) result() *Result {
	result := &Result{ClosedS: r.opts.Closed.Seconds(), OpenS: r.opts.Open.Seconds()}
	row := func(what, measure, op string, target float64, unit string, values []float64) {
		if values == nil {
			return // the system does not report it
		}
		s := SpreadOf(values)
		low, high := interval(values)
		result.Rows = append(result.Rows, Row{
			What: what, Measure: measure, Op: op, Target: target, Unit: unit, Achieved: s, Low: low, High: high, Reached: reached(op, s.Median, target),
		})
	}
	compare := func(side, base string, f figure, op string, target float64) {
		row(side+" / "+strings.TrimPrefix(base, "executor, "), f.name, op, target, "x", ratios(r.samples[f.key(side)], r.samples[f.key(base)], f.of))
	}
	failing := func(names []string) {
		reference := names[len(names)-1]
		for _, name := range names[:len(names)-1] {
			compare(name, reference, manyThroughput, ">=", 0.90)
			compare(name, reference, calmP99, "<=", 1.10)
		}
	}
	compare(engineSide, echoScoring, oneThroughput, ">=", 0.90)
	compare(engineSide, echoScoring, manyThroughput, ">=", 0.90)
	compare(engineSide, echoScoring, calmP99, "<=", 1.15)
	compare(shadowOff, echoDecision, oneThroughput, ">=", 0.85)
	compare(shadowOff, echoDecision, manyThroughput, ">=", 0.85)
	compare(shadowOn, shadowOff, oneThroughput, ">=", 0.90)
	compare(shadowOn, shadowOff, manyThroughput, ">=", 0.90)
	compare(shadowOn, shadowOff, calmP99, "<=", 1.10)
	row(shadowOn, fmt.Sprintf("shed at %.0f %% of saturation", 100*busyShare), "<=", 0, "", r.sheds)
	failing(calls)
	row("shadow, in executor", "CPU per request at saturation", "<=", 10, "us", r.moreCPU(shadowOn, shadowOff))
	row("traces, not sampled, in executor", "CPU per request at saturation", "<=", 1, "us", r.moreCPU(tracedOff, shadowOff))
	if r.knowsCPU() {
		compare(inGroup, noGroup, fixedCPU, "<=", 1.01)
	}
	compare(decideOneOff, echoDecision, oneP50, "<=", 0.65)
	compare(decideOneOff, echoDecision, oneThroughput, ">=", 1.5)
	// What gRPC leaves of those targets: an echo over streams does nothing else.
	compare(echoStreams, echoDecision, manyThroughput, ">=", 3)
	compare(decideOff, echoStreams, manyThroughput, ">=", 0.85)
	compare(echoOne, echoDecision, manyThroughput, ">=", 3)
	compare(decideOneOff, echoOne, manyThroughput, ">=", 0.85)
	for _, side := range []string{decideOff, decideOneOff} {
		compare(side, echoDecision, manyThroughput, ">=", 3)
		compare(side, echoDecision, manyP99, "<=", 0.5)
		compare(side, pingPong, manyThroughput, ">=", 0.5)
	}
	compare(decideOn, decideOff, manyThroughput, ">=", 0.90)
	compare(decideOn, decideOff, calmP99, "<=", 1.10)
	row("shadow of Decide, in executor", "CPU per decision at saturation", "<=", 5, "us", r.moreCPU(decideOn, decideOff))
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
	failing(streams)
	row("ml-engine BatchPredict", fmt.Sprintf("%d rows a call", batchRows), ">=", 2e6, "rows/s",
		measures(r.samples[batchKey], func(s Sample) float64 { return s.Throughput() * batchRows }))

	var keys []key
	add := func(of func(string) key, names ...string) {
		for _, name := range names {
			keys = append(keys, of(name))
		}
	}
	add(under(1), closedSides[1]...)
	add(under(manyUnderWay), slices.Concat(closedSides[manyUnderWay], calls, streams)...)
	add(under(floodFull), decideFull)
	add(calm, slices.Concat(steady, streamed, calls, streams)...)
	add(fixed, groupedSides...)
	for _, k := range append(keys, busyKey, batchKey) {
		result.Sides = append(result.Sides, r.side(k))
	}
	return result
}

// knowsCPU reports whether the system reports the CPU time of processes.
func (r *run) knowsCPU() bool {
	return cpuPerCall(r.samples[closedKey(shadowOff, manyUnderWay)][0]) > 0
}

// moreCPU is the additional CPU time per request at saturation that executor needs for a feature, in microseconds; nil if the
// system does not report it.
func (r *run) moreCPU(with, without string) []float64 {
	if !r.knowsCPU() {
		return nil
	}
	on, off := r.samples[closedKey(with, manyUnderWay)], r.samples[closedKey(without, manyUnderWay)]
	cost := make([]float64, len(on))
	for i := range on {
		cost[i] = cpuPerCall(on[i]) - cpuPerCall(off[i])
	}
	return cost
}

// side summarizes the samples of a key.
func (r *run) side(k key) Side {
	of := func(measure func(Sample) float64) Spread { return SpreadOf(measures(r.samples[k], measure)) }
	s := Side{Name: k.side, Mode: "closed", UnderWay: k.underWay, Throughput: of(Sample.Throughput), P50US: of(p50), P99US: of(p99), CPUUS: of(cpuPerCall)}
	for _, one := range r.samples[k] {
		s.Refused += one.refused
	}
	if k.underWay == 0 {
		s.Mode, s.Rate = "open", s.Throughput.Median
	}
	return s
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
		t.Row(r.What, r.Measure, r.Op+" "+format(r.Target, r.Unit), format(r.Achieved.Median, r.Unit),
			format(r.Low, r.Unit)+".."+format(r.High, r.Unit), format(r.Achieved.Min, r.Unit)+".."+format(r.Achieved.Max, r.Unit), verdict)
	}
	if err := t.Text(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n"+res.end(fmt.Sprintf(" (closed loops of %.2f s, open ones of %.2f s)", res.ClosedS, res.OpenS)))
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

func format(v float64, unit string) string {
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
