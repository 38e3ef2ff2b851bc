package faults

import (
	"fmt"
	"iter"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
)

// tables returns a summary of the loads and of the clients.
func (o *Overload) tables() []*table.Table {
	if o == nil {
		return nil
	}
	loads := table.New("offered load", "offered/s", "goodput/s (of peak)", "late", "not sent", "refused at once", "shadows compared")
	o.each(func(name string, peak float64, l Level) {
		loads.Row(name, fmt.Sprintf("%.0f", l.OfferedPerS), fmt.Sprintf("%.0f (%.0f %%)", l.GoodPerS, 100*l.GoodPerS/peak),
			l.Late, l.NotSent, l.Refused, fmt.Sprintf("%.0f %%", 100*l.Shadowed))
	})
	clients := table.New("a client that", "calls of others", "lost or changed", "p99 of others, with / without", "its streams", "refused")
	for _, b := range o.Clients {
		clients.Row(b.Client, b.Calls, b.Lost+b.Changed, fmt.Sprintf("%.2fx (%.2f to %.2f)", b.Ratio.Median, b.Ratio.Min, b.Ratio.Max), b.Streams, b.Refused)
	}
	return []*table.Table{loads, clients}
}

// ways returns the loads by the way of their requests, each with the prefix of its name.
func (o *Overload) ways() iter.Seq2[string, *Loads] {
	return func(yield func(string, *Loads) bool) {
		if o != nil && yield("calls", &o.Loads) && o.Streams != nil {
			yield("streams", o.Streams)
		}
	}
}

// each calls fn for every load, with its name and the peak of its kind.
func (o *Overload) each(fn func(name string, peak float64, l Level)) {
	for way, loads := range o.ways() {
		for _, l := range loads.Ramp {
			fn(way+", growing", loads.PeakPerS, l)
		}
		for _, l := range loads.Levels {
			fn(fmt.Sprintf("%s, %.1fx saturation", way, l.Times), loads.PeakPerS, l)
		}
	}
}

// offeredShare is the share of a load that must really have been offered for the result to count.
const offeredShare = 0.95

// missed lists the missed targets.
func (o *Overload) missed() (missed Misses) {
	if o == nil {
		return nil
	}
	add := missed.Add
	for way, o := range o.ways() {
		for _, l := range slices.Concat(o.Ramp, o.Levels) {
			add(l.Wrong > 0, "%s, %.0f/s: %d decisions changed", way, l.OfferedPerS, l.Wrong)
			add(l.RefusedAtMS >= 0 && (l.LeftMS < 0 || l.LeftMS > l.RefusedAtMS),
				"%s, %.0f/s: decisions were refused before shadows were shed", way, l.OfferedPerS)
		}
		for _, l := range o.Levels {
			add(l.OfferedPerS < offeredShare*l.Times*o.SaturationPerS, "%s, %.1fx saturation: the load made only %.1fx", way, l.Times, l.OfferedPerS/o.SaturationPerS)
			add(o.judge(l) == gate.Fail, "%s, %.1fx saturation: goodput is %.0f %% of its peak", way, l.Times, 100*l.GoodPerS/o.PeakPerS)
		}
		add(o.RecoveryS < 0 || o.RecoveryS > overloadRecovery, "overload, %s: over %s", way, o.recovery())
	}
	for _, b := range o.Clients {
		add(b.Lost+b.Changed > 0, "next to a client that %s: %d decisions lost, %d changed", b.Client, b.Lost, b.Changed)
	}
	add(o.Unaccounted != 0, "overload: %d requests unaccounted for", o.Unaccounted)
	return missed
}

// deprived is a share of the CPU time that the executor had at its peak. If it had less than this under overload, other
// processes took the CPU: an overloaded executor uses all that it gets.
const deprived = 0.8

// judge compares the goodput under overload to the peak.
func (o *Loads) judge(l Level) gate.Verdict {
	switch {
	case l.Times <= 1 || l.GoodPerS >= goodputKept*o.PeakPerS:
		return gate.Pass
	case l.ServerCPU < deprived*o.peakCPU():
		return gate.Inconclusive
	default:
		return gate.Fail
	}
}

// peakCPU is how many CPUs the executor kept busy at its peak.
func (o *Loads) peakCPU() float64 {
	for _, l := range slices.Concat(o.Ramp, o.Levels) {
		if l.GoodPerS == o.PeakPerS {
			return l.ServerCPU
		}
	}
	return 0
}

func (o *Overload) inconclusive() (open Misses) {
	for way, o := range o.ways() {
		for _, l := range o.Levels {
			open.Add(o.judge(l) == gate.Inconclusive, "%s, %.1fx saturation: goodput is %.0f %% of its peak, but the executor had %.2f CPUs and %.2f at its peak",
				way, l.Times, 100*l.GoodPerS/o.PeakPerS, l.ServerCPU, o.peakCPU())
		}
	}
	return open
}

func (o *Loads) recovery() string {
	if o.RecoveryS < 0 {
		return "not within 5 s"
	}
	return fmt.Sprintf("within %.1f s", o.RecoveryS)
}

// notes returns the sentences below the tables.
func (o *Overload) notes() []string {
	if o == nil {
		return nil
	}
	where := "Load, ml-engine and executor share all CPUs"
	if o.ServerCPUs > 0 {
		where = fmt.Sprintf("The executor has %s to itself; the load and ml-engine share %s", text.Count(o.ServerCPUs, "CPU"), text.Count(o.LoadCPUs, "CPU"))
	}
	notes := []string{
		fmt.Sprintf("Overload: goodput is the decisions answered correctly within %d ms, in an open loop over %d connections, each with calls or with one stream. %s. Saturation is the largest goodput of a growing load. Over a stream the client keeps at most %d decisions unanswered, sends the newest first, and does not send what is older than %d ms.",
			bench.GoodWithin.Milliseconds(), floodConns, where, bench.MaxUnanswered, bench.GoodWithin.Milliseconds()),
		fmt.Sprintf("Under overload the target is %.0f %% of the peak, and afterwards recovery within %.0f s. %d requests without exactly one outcome. Shed shadows are counted every %d ms.",
			100*goodputKept, overloadRecovery, o.Unaccounted, leftEvery.Milliseconds()),
	}
	for way, o := range o.ways() {
		notes = append(notes, fmt.Sprintf("Overload, %s: saturation %.0f a second, peak %.0f a second, recovery %s.", way, o.SaturationPerS, o.PeakPerS, o.recovery()))
	}
	return notes
}
