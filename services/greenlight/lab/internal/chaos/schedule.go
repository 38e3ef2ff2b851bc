package chaos

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is what an event is.
type Kind string

// The kinds.
const (
	Fault   Kind = "fault"
	Swap    Kind = "swap"
	Canary  Kind = "canary"
	Restart Kind = "restart"
)

// How a canary ends.
const (
	Aborted  = "abort"
	Lapsed   = "lapse"
	Complete = "complete"
)

// Event is one thing that happens in a run.
type Event struct {
	// At is since the start of the run, For how long it lasts.
	At   time.Duration `json:"at"`
	Kind Kind          `json:"kind"`
	For  time.Duration `json:"for,omitempty"`
	// What is the fault's name, or how the canary ends.
	What string `json:"what,omitempty"`
	// Percent is the canary's share of requests with a shadow.
	Percent float64 `json:"percent,omitempty"`
}

// faultNames are the faults of a run: those that leave answers which can be checked.
var faultNames = []string{
	"ml-engine killed", "ml-engine frozen (SIGSTOP)", "latency 55 ms +- 5", "latency 130 ms +- 20", "resets, 1 % of answers",
	"resets, 10 % of answers", "bandwidth 1 KB/s", "half-open: packets vanish", "connection refused", "garbage instead of HTTP/2",
	"answers NaN", "answers infinity", "answers with a row too many",
}

var endings = []string{Aborted, Lapsed, Complete}

// Schedule is what happens in a run of the length: the same for the same seed, and for a longer one the same at first.
func Schedule(seed uint64, length time.Duration) []Event {
	var events []Event
	// Each kind has its own numbers, so that the length does not move one kind's events by another's.
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

// quiet is the time at the end of a run in which nothing happens, so that what recovers has recovered when it is looked
// at.
const quiet = 35 * time.Second

// of is the events of a kind.
func of(events []Event, kind Kind) []Event {
	return slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Kind != kind })
}
