package monitor

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// MaxInputs is how many raw inputs may come with a vector.
const MaxInputs = 16

// replicates of the null: its 99 % quantile is the tenth largest, and a p-value at least 0.001.
const (
	replicates = 1000
	seed       = 1
)

// Watch counts the vectors that one model has scored. A nil one counts nothing.
type Watch struct {
	key, version, digest, reference string

	profile *drift.Profile
	nulls   *drift.Nulls
	event   bool
	// columns are the positions in the schema of the profile's first features; the score follows them, then inputs.
	columns []int
	inputs  []string

	// saved is how many rows the state folder has; the monitor's.
	saved uint64

	mu   sync.Mutex
	ring *drift.Ring
	rows uint64    // since start
	x    []float64 // a vector in the order of the profile
}

// newWatch is the watch of a model with a reference. It fails when that has not the model's features, in their order, then
// the score, then raw inputs.
func newWatch(a *model.Artifact, event bool) (*Watch, error) {
	p := a.Reference
	w := &Watch{
		key: keyOf(a), version: a.Manifest.Version, digest: a.Digest(), reference: a.Manifest.Files[model.ReferenceFile],
		profile: p, nulls: drift.NewNulls(p, replicates, seed), event: event,
		ring: drift.NewRing(p), x: make([]float64, len(p.Features)),
	}
	var want []string
	for i, name := range a.Schema.Names() {
		if name != feature.Bias {
			want, w.columns = append(want, name), append(w.columns, i)
		}
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
			return nil, fmt.Errorf("%s %q at place %d: want the features of schema %s, the score, then raw inputs", f.Role, f.Name, i+1, a.Spec.Schema)
		}
	}
	if !slices.Equal(have, want) || p.Scored() != len(want)+1 || len(w.inputs) > MaxInputs {
		return nil, fmt.Errorf("features %v, %d scored: want those of schema %s but bias, %v, and the score", have, p.Scored(), a.Spec.Schema, want)
	}
	return w, nil
}

// keyOf names the counts: a model, and the reference that they are counted by.
func keyOf(a *model.Artifact) string {
	return fmt.Sprintf("%.12s-%.8s", a.Digest(), a.Manifest.Files[model.ReferenceFile])
}

// Rows are vectors that a model has scored.
type Rows struct {
	// X are the vectors, one after the other, as the model's schema has them; Scores one per vector, NaN where it has
	// none, and then it is not counted.
	X      []float64
	Scores []float64
	// Inputs are the names of raw inputs, Values one per name and vector, NaN where there is none. Both may be empty.
	Inputs []string
	Values []float64
	// EventMS are times in milliseconds since 1970-01-01 UTC, one per vector, 0 where it is not known. It may be empty.
	EventMS []int64
}

// Observe counts rows that arrived now. It allocates nothing.
func (w *Watch) Observe(now time.Time, r Rows) {
	if w == nil || len(r.Scores) == 0 {
		return
	}
	var at [MaxInputs]int // where the profile's inputs are among the row's, -1 where they are not
	for i, name := range w.inputs {
		at[i] = slices.Index(r.Inputs, name)
	}
	width, arrival := len(r.X)/len(r.Scores), hourOf(now)

	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.event {
		w.ring.Tick(arrival)
	}
	for i, score := range r.Scores {
		if math.IsNaN(score) {
			continue
		}
		row := r.X[i*width:]
		for j, c := range w.columns {
			w.x[j] = row[c]
		}
		w.x[len(w.columns)] = score
		x := w.x[:len(w.columns)+1]
		if len(r.Inputs) > 0 && w.fill(r.Values[i*len(r.Inputs):], at[:len(w.inputs)]) {
			x = w.x
		}
		hour := w.ring.Present()
		if w.event && i < len(r.EventMS) && r.EventMS[i] > 0 {
			hour = r.EventMS[i] / time.Hour.Milliseconds()
		} else if w.event && hour == 0 {
			hour = arrival
		}
		w.ring.Observe(hour, x)
		w.rows++
	}
}

// fill puts a row's raw inputs into the vector, and says whether it has any.
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

// counted is the number of rows since start.
func (w *Watch) counted() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows
}

// state is the ring for a file. Requests wait for a copy of it, not for its encoding.
func (w *Watch) state() ([]byte, error) {
	w.mu.Lock()
	ring := w.ring.Clone()
	w.mu.Unlock()
	return ring.State(w.reference)
}

// window is what was counted in the hours up to now.
type window struct {
	counts         *drift.Counts
	end            int64 // the newest hour
	scored, inputs []int64
}

// window reads the given number of hours, which end the given number of hours ago.
func (w *Watch) window(now time.Time, hours, ago int) window {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.event {
		w.ring.Tick(hourOf(now))
	}
	v := window{end: w.ring.Present() - int64(ago)}
	v.counts, v.scored, v.inputs = w.ring.Window(v.end, hours)
	return v
}

// totals are the rows since start in every bin of every feature.
func (w *Watch) totals() [][]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([][]uint64, len(w.profile.Features))
	for i := range all {
		all[i] = slices.Clone(w.ring.Totals(i))
	}
	return all
}
