package monitor

import (
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// MaxInputs limits the raw inputs of a row.
const MaxInputs = 16

// replicates is the size of the null's simulation: its 99 % quantile is the tenth largest, and p-values are at least 0.001.
const (
	replicates = 1000
	seed       = 1
)

// Watch counts the rows that one model has scored. A nil Watch counts nothing.
type Watch struct {
	key, version string
	owner        drift.Owner

	profile *drift.Profile
	nulls   *drift.Nulls
	clock   clock
	logger  *slog.Logger
	// columns are the schema indexes of the profile's first features. The score follows them, then inputs.
	columns []int
	inputs  []string
	// bins are the labels of each feature's bins in metrics.
	bins [][]string

	// saved is the number of rows in the state folder; only the monitor uses it.
	saved uint64

	mu   sync.Mutex
	ring *drift.Ring
	rows uint64    // since start
	x    []float64 // buffer for a row in the profile's order
	seen uint64    // a bit for each UTC day, modulo 64, of the rows in the ring, or of rows that have left it

	// day gets a message for a row whose day is not in seen. evicted is closed when the watch is dropped.
	day, evicted chan struct{}
}

// newWatch returns the watch of a model with a reference. It returns an error unless the reference has the model's features in
// order, then the score, then raw inputs. Only a model with more than [drift.MaxWatched] features may have fewer there.
func newWatch(a *model.Artifact, o Options) (*Watch, error) {
	p := a.Reference
	w := &Watch{
		key: keyOf(a), version: a.Manifest.Version,
		owner:   drift.Owner{Schema: a.Spec.Schema, Model: a.Digest(), Reference: a.Manifest.Files[model.ReferenceFile]},
		profile: p, nulls: drift.NewNulls(p, replicates, seed), clock: clock{event: o.EventClock, ahead: o.MaxEventAhead}, logger: o.Logger,
		ring: drift.NewRing(p), x: make([]float64, len(p.Features)), day: make(chan struct{}, 1), evicted: make(chan struct{}),
	}
	w.bins = binNames(p, w.owner.Reference)
	want := slices.DeleteFunc(a.Schema.Names(), func(name string) bool { return name == feature.Bias })
	if len(want) > drift.MaxWatched { // only those in the reference
		want = slices.DeleteFunc(want, func(name string) bool {
			return !slices.ContainsFunc(p.Features, func(f drift.Feature) bool { return f.Name == name && f.Role == drift.ModelFeature })
		})
	}
	for _, name := range want {
		w.columns = append(w.columns, a.Schema.Index(name))
	}
	var have []string
	for i, f := range p.Features {
		switch {
		case f.Role == drift.ModelFeature:
			have = append(have, f.Name)
		case f.Role == drift.Score && i == len(want):
		case f.Role == drift.RawInput && i > len(want):
			w.inputs = append(w.inputs, f.Name)
		default:
			return nil, fmt.Errorf("%s %q at position %d: want the features of schema %s, the score, then raw inputs", f.Role, f.Name, i+1, a.Spec.Schema)
		}
	}
	if !slices.Equal(have, want) || p.Scored() != len(want)+1 {
		return nil, fmt.Errorf("features %v, %d scored: want the features of schema %s without bias, %v, and the score", have, p.Scored(), a.Spec.Schema, want)
	}
	if len(w.inputs) > MaxInputs {
		return nil, fmt.Errorf("%d raw inputs: want at most %d", len(w.inputs), MaxInputs)
	}
	return w, nil
}

// keyOf returns the key of the counts: the model and its reference.
func keyOf(a *model.Artifact) string {
	return fmt.Sprintf("%.12s-%.8s", a.Digest(), a.Manifest.Files[model.ReferenceFile])
}

// Rows are rows that a model has scored.
type Rows struct {
	// X are the vectors one after the other, in the order of the model's schema. Scores has one score per vector; a vector
	// with NaN is not counted.
	X      []float64
	Scores []float64
	// Inputs are the names of raw inputs, Values one per name and vector, NaN if missing. Both may be empty.
	Inputs []string
	Values []float64
	// EventMS are event times in Unix milliseconds, one per vector, 0 if unknown. It may be empty.
	EventMS []int64
	// Sources are the sources of the vectors, one per vector. If it is empty, all are live.
	Sources []mlenginev1.Source
}

// turn is how many rows of a batch are counted under one lock, about 20 microseconds.
const turn = 256

// Observe counts rows that arrived now. It allocates nothing.
func (w *Watch) Observe(now time.Time, r Rows) {
	if w == nil || len(r.Scores) == 0 {
		return
	}
	var at [MaxInputs]int // indexes of the profile's inputs among the row's, -1 if missing
	for i, name := range w.inputs {
		at[i] = slices.Index(r.Inputs, name)
	}
	for from := 0; from < len(r.Scores); from += turn {
		w.count(now, &r, from, min(from+turn, len(r.Scores)), at[:len(w.inputs)])
	}
}

// count counts the rows in [from,to), which arrived now.
func (w *Watch) count(now time.Time, r *Rows, from, to int, at []int) {
	width := len(r.X) / len(r.Scores)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tick(now)
	for i := from; i < to; i++ {
		score := r.Scores[i]
		if math.IsNaN(score) {
			continue
		}
		row := r.X[i*width:]
		for j, c := range w.columns {
			w.x[j] = row[c]
		}
		w.x[len(w.columns)] = score
		x := w.x[:len(w.columns)+1]
		if len(r.Inputs) > 0 && w.fill(r.Values[i*len(r.Inputs):], at) {
			x = w.x
		}
		event := int64(0)
		if i < len(r.EventMS) {
			event = r.EventMS[i]
		}
		hour := w.clock.hourOf(w.ring, now, event)
		w.ring.Observe(hour, x)
		if bit := bitOf(hour / 24); w.seen&bit == 0 {
			w.seen |= bit
			select {
			case w.day <- struct{}{}:
			default:
			}
		}
		if i < len(r.Sources) {
			w.ring.Mark(hour, markOf(r.Sources[i]))
		}
		w.rows++
	}
}

// markOf returns the distance of a source from live: 0 is live. An unknown source counts as simulated.
func markOf(s mlenginev1.Source) uint8 {
	switch s {
	case mlenginev1.Source_SOURCE_UNSPECIFIED, mlenginev1.Source_SOURCE_LIVE:
		return 0
	case mlenginev1.Source_SOURCE_REPLAY:
		return 1
	case mlenginev1.Source_SOURCE_SIMULATED:
	}
	return 2
}

// sourceOf returns the source of a mark.
func sourceOf(mark uint8) mlenginev1.Source {
	return mlenginev1.Source_SOURCE_LIVE + mlenginev1.Source(min(mark, 2))
}

// tick passes the time to the ring.
func (w *Watch) tick(now time.Time) {
	if rows := w.clock.tick(w.ring, now); rows > 0 {
		w.logger.Warn("the clock was set back: rows counted ahead of it are dropped from the drift window", "rows", rows, "model", w.version)
	}
}

// fill copies a row's raw inputs into the buffer and reports whether there are any.
func (w *Watch) fill(values []float64, at []int) bool {
	some := false
	for i, c := range at {
		v := math.NaN()
		if c >= 0 {
			v = values[c]
		}
		some = some || !math.IsNaN(v)
		w.x[len(w.columns)+1+i] = v
	}
	return some
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// counted returns the number of rows since start.
func (w *Watch) counted() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows
}

// view returns a copy of the current counts. Requests wait only for the copy.
func (w *Watch) view(now time.Time) *drift.Ring {
	ring := drift.NewRing(w.profile)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tick(now)
	w.ring.CopyTo(ring)
	return ring
}

// prepare computes the nulls for windows of every possible length until it is stopped, so that requests rarely wait for them. A
// reference of one day has none.
func (w *Watch) prepare(stop <-chan struct{}) {
	for days := 1; days <= drift.RingHours/24; days++ {
		for {
			select {
			case <-stop:
				return
			case <-w.evicted:
				return
			default:
			}
			if days <= w.longest() {
				break
			}
			select {
			case <-stop:
			case <-w.evicted:
			case <-w.day:
			}
		}
		if _, err := w.nulls.Of(days); err != nil {
			return
		}
	}
}

// bitOf returns the bit of a UTC day in seen.
func bitOf(day int64) uint64 { return 1 << (uint64(day) % 64) }

// longest returns how many days a window of the ring can have, today and tomorrow. The days of a window are blocks of 24 hours
// back from its end, so a UTC day has rows in at most two of them.
func (w *Watch) longest() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return 2 * (bits.OnesCount64(w.seen) + 1)
}

// totals returns the rows since start in every bin of every feature.
func (w *Watch) totals() [][]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([][]uint64, len(w.profile.Features))
	for i := range all {
		all[i] = slices.Clone(w.ring.Totals(i))
	}
	return all
}
