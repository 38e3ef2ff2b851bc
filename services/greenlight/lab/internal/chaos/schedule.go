package chaos

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is the kind of an event.
type Kind string

// The kinds.
const (
	Fault   Kind = "fault"
	Swap    Kind = "swap"
	Canary  Kind = "canary"
	Restart Kind = "restart"
)

// The ways in which a canary ends.
const (
	Aborted  = "abort"
	Lapsed   = "lapse"
	Complete = "complete"
	// Gated replaces a canary with a gate, which ends with a kill.
	Gated = "gate"
)

// Event is one event of a run.
type Event struct {
	// At is the time since the start of the run, For the length of the event.
	At   time.Duration `json:"at"`
	Kind Kind          `json:"kind"`
	For  time.Duration `json:"for,omitempty"`
	// What is the name of the fault, or how the canary ends.
	What string `json:"what,omitempty"`
	// Percent is the canary's share of requests with a shadow.
	Percent float64 `json:"percent,omitempty"`
}

// faultNames lists the faults under which answers can be checked.
var faultNames = []string{
	"ml-engine killed", "ml-engine frozen (SIGSTOP)", "latency 55 ms +- 5", "latency 130 ms +- 20", "resets, 1 % of answers",
	"resets, 10 % of answers", "bandwidth 1 KB/s", "half-open: packets vanish", "connection refused", "garbage instead of HTTP/2",
	"answers NaN", "answers infinity", "answers with a row too many",
}

var endings = []string{Aborted, Lapsed, Complete, Gated}

// Schedule returns the events of a run of the given length. It depends only on the seed; a longer run starts with the same
// events.
func Schedule(seed uint64, length time.Duration) []Event {
	var events []Event
	// Each kind has its own random source, so that the lengths of one kind's events do not shift another kind.
	track := func(kind Kind, pause, least, most time.Duration, detail func(*rand.Rand, *Event)) {
		rng := rand.New(rand.NewPCG(seed, uint64(len(kind))<<8|uint64(kind[0])))
		between := func(low, high time.Duration) time.Duration {
			return (low + time.Duration(rng.Float64()*float64(high-low))).Truncate(time.Millisecond)
		}
		for at := between(0, pause); ; {
			e := Event{At: at, Kind: kind, For: between(least, most)}
			detail(rng, &e)
			if e.At+e.For > length-quiet {
				return
			}
			events = append(events, e)
			at += e.For + between(pause/2, 3*pause/2)
		}
	}
	track(Fault, 12*time.Second, time.Second, 12*time.Second, func(rng *rand.Rand, e *Event) {
		e.What = faultNames[rng.IntN(len(faultNames))]
	})
	track(Swap, 7*time.Second, 0, 0, func(*rand.Rand, *Event) {})
	track(Canary, 10*time.Second, 3*time.Second, 15*time.Second, func(rng *rand.Rand, e *Event) {
		e.What = endings[rng.IntN(len(endings))]
		e.Percent = []float64{5, 10, 25, 50, 100}[rng.IntN(5)]
	})
	track(Restart, 40*time.Second, 0, 0, func(*rand.Rand, *Event) {})
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return events
}

// quiet is the time without events at the end of a run, in which everything recovers before it is measured.
const quiet = 35 * time.Second

// of returns the events of a kind.
func of(events []Event, kind Kind) []Event {
	return slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Kind != kind })
}
