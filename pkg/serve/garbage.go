package serve

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// gcPercent lets garbage grow to four times the live heap before a collection. A service has a live heap of a few
	// megabytes, so with Go's default of 100 it would collect dozens of times per second under load, for a tenth of its CPU
	// time. The price is tens of megabytes: see "CPU per request" and the p99 in the benchmark.
	gcPercent = 400
	// goGCPercent is Go's default. Any other GOGC overrides these settings.
	goGCPercent = 100
	// maxGarbage limits the garbage, in bytes, when clients make the live heap large: otherwise the memory of their messages
	// would be multiplied by five.
	maxGarbage = 32 << 20
	// leastPercent keeps the collector from running constantly with a very large live heap.
	leastPercent = 50
)

// boundGarbage limits the garbage, now and after each collection. A GOGC other than 100 overrides it, and GOMEMLIMIT still
// applies.
func boundGarbage() {
	if set := debug.SetGCPercent(gcPercent); set != goGCPercent { // by GOGC
		debug.SetGCPercent(set)
		return
	}
	afterCollection(&collection{set: gcPercent, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}})
}

type collection struct {
	set  int
	live []metrics.Sample
}

// afterCollection adjusts the limit after each collection: the finalizer of an unreachable object runs then.
func afterCollection(c *collection) {
	type sentinel struct{ _ *collection }
	runtime.SetFinalizer(&sentinel{c}, func(*sentinel) {
		metrics.Read(c.live)
		// SetGCPercent stops all goroutines for a moment, so it is called for large changes only.
		if want := percentFor(c.live[0].Value.Uint64()); want < c.set*9/10 || want > c.set*11/10 || (want == gcPercent && c.set != want) {
			c.set = want
			debug.SetGCPercent(want)
		}
		afterCollection(c)
	})
}

// percentFor returns the GC percentage for a live heap of so many bytes.
func percentFor(live uint64) int {
	return int(min(max(100*maxGarbage/max(live, 1), leastPercent), gcPercent))
}
