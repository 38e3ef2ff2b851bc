package lifecycle

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// gcPercent lets garbage grow to four times what is in use before it is collected. A service has a few megabytes in use, so
	// that with Go's 100 it would collect several dozen times a second under load, for a tenth of its CPU time; this costs tens of
	// megabytes: see "CPU per request" and the p99 in the bench.
	gcPercent = 400
	// goGCPercent is Go's own; GOGC overrides the rest with any but it.
	goGCPercent = 100
	// maxGarbage bounds the garbage, in bytes, when more is in use than a service has by itself: what clients begin to send would
	// otherwise be multiplied by five.
	maxGarbage = 32 << 20
	// leastPercent keeps the collector from running all the time when very much is in use.
	leastPercent = 50
)

// boundGarbage sets how much garbage there may be, now and after each collection. GOGC overrides it (all but 100, which Go has without it), and GOMEMLIMIT still bounds
// the memory.
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

// afterCollection looks at the heap after each collection: the finalizer of what nobody holds runs then.
func afterCollection(c *collection) {
	type sentinel struct{ _ *collection }
	runtime.SetFinalizer(&sentinel{c}, func(*sentinel) {
		metrics.Read(c.live)
		// It stops the world for a moment, and so is set for large changes alone.
		if want := percentFor(c.live[0].Value.Uint64()); want < c.set*9/10 || want > c.set*11/10 || (want == gcPercent && c.set != want) {
			c.set = want
			debug.SetGCPercent(want)
		}
		afterCollection(c)
	})
}

// percentFor is how much garbage there may be when so many bytes are in use, in percent of them.
func percentFor(live uint64) int {
	return int(min(max(100*maxGarbage/max(live, 1), leastPercent), gcPercent))
}
