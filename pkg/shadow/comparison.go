package shadow

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	// maxWatchers limits the watchers of a dispatcher: each is offered every ended request.
	maxWatchers = 16
	// watchBuffer is how many comparisons wait for a watcher to read them: 50 ms of 20,000 requests a second. It takes
	// 200 KiB.
	watchBuffer = 1024
	// watchSalt differs from a rollout's salt. With the same salt, 10 % of the requests would be 40 % of the shadows of a
	// rollout of 25 %.
	watchSalt = "greenlight watch"
)

// ErrTooManyWatchers is returned by [Dispatcher.Watch].
var ErrTooManyWatchers = fmt.Errorf("%d callers watch already", maxWatchers)

// WatchOptions selects comparisons.
type WatchOptions struct {
	// Outcomes are the outcomes to watch. Default: all but [NotSampled].
	Outcomes []Outcome
	// Percent of the selected comparisons are watched, (0,100]. Default 100. See [Sampler].
	Percent float64
	// Symbol is the only instrument to watch. Empty watches all.
	Symbol string
	// Features adds the rows that were sent to ml-engine.
	Features bool
}

// Comparison is the end of one shadow.
type Comparison struct {
	requestID, symbol string
	source            Source
	time              time.Time
	baseline          float64
	result            Result
	row               row // values are set only if the watcher wants features
}

// Watcher receives comparisons as shadows end. If it reads too slowly, it misses some rather than block. Close it.
type Watcher struct {
	outcomes [outcomeEnd]bool
	sampler  *Sampler
	symbol   string
	features bool

	comparisons chan Comparison
	dropped     atomic.Uint64
	all         *watchers
}

// watchers holds the watchers of a dispatcher.
type watchers struct {
	// list is replaced, never changed. It is nil without watchers, so that they cost a request one load.
	list    atomic.Pointer[[]*Watcher]
	dropped atomic.Uint64

	mu sync.Mutex // held while list is replaced
}

// Watch returns a watcher of requests that end after the call. It returns [ErrTooManyWatchers], or an error if Percent is out
// of range.
func (d *Dispatcher) Watch(o WatchOptions) (*Watcher, error) {
	if o.Percent == 0 {
		o.Percent = 100
	}
	sampler, err := NewSampler(watchSalt, o.Percent)
	if err != nil {
		return nil, err
	}
	if len(o.Outcomes) == 0 {
		o.Outcomes = slices.DeleteFunc(Outcomes(), func(out Outcome) bool { return out == NotSampled })
	}
	w := &Watcher{sampler: sampler, symbol: o.Symbol, features: o.Features, comparisons: make(chan Comparison, watchBuffer), all: &d.watchers}
	for _, out := range o.Outcomes {
		w.outcomes[out] = true
	}
	if err := d.watchers.add(w); err != nil {
		return nil, err
	}
	return w, nil
}

// Comparisons returns the channel of the comparisons. It is never closed.
func (w *Watcher) Comparisons() <-chan Comparison { return w.comparisons }

// Dropped returns how many comparisons the watcher has missed.
func (w *Watcher) Dropped() uint64 { return w.dropped.Load() }

// Close ends the watcher.
func (w *Watcher) Close() {
	w.all.replace(func(list []*Watcher) []*Watcher {
		return slices.DeleteFunc(list, func(other *Watcher) bool { return other == w })
	})
}

func (ws *watchers) add(w *Watcher) (err error) {
	ws.replace(func(list []*Watcher) []*Watcher {
		if len(list) == maxWatchers {
			err = ErrTooManyWatchers
			return list
		}
		return append(list, w)
	})
	return err
}

// replace replaces the list by the result of change on a copy.
func (ws *watchers) replace(change func([]*Watcher) []*Watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var list []*Watcher
	if old := ws.list.Load(); old != nil {
		list = slices.Clone(*old)
	}
	if list = change(list); len(list) == 0 {
		ws.list.Store(nil)
		return
	}
	ws.list.Store(&list)
}

func (ws *watchers) len() int {
	if list := ws.list.Load(); list != nil {
		return len(*list)
	}
	return 0
}

// publish offers an ended request to all watchers. It never blocks.
func (ws *watchers) publish(req *Request, r *Result, sent row) {
	if list := ws.list.Load(); list != nil {
		ws.offer(*list, req, r, sent)
	}
}

func (ws *watchers) offer(list []*Watcher, req *Request, r *Result, sent row) {
	var features []float64 // a copy, which watchers share: the request's owner may reuse the values
	for _, w := range list {
		if !w.selects(req, r) {
			continue
		}
		c := Comparison{
			requestID: req.ID, symbol: req.Symbol, source: req.Source, time: req.Arrival.Add(r.Latency),
			baseline: req.Baseline, result: *r, row: row{schema: sent.schema},
		}
		if w.features {
			if features == nil {
				features = slices.Clone(sent.values)
			}
			c.row.values = features
		}
		select {
		case w.comparisons <- c:
		default:
			w.dropped.Add(1)
			ws.dropped.Add(1)
		}
	}
}

func (w *Watcher) selects(req *Request, r *Result) bool {
	return w.outcomes[r.Outcome] && (w.symbol == "" || w.symbol == req.Symbol) && w.sampler.Sampled(req.ID)
}

// Proto returns the comparison as a message, except for the number of dropped ones.
func (c *Comparison) Proto() *executorv1.WatchComparisonsResponse {
	p := &executorv1.WatchComparisonsResponse{
		RequestId: c.requestID, Symbol: c.symbol, Source: c.source.proto(), Time: timestamppb.New(c.time),
		Outcome: executorv1.ShadowOutcome(c.result.Outcome), BaselineScore: c.baseline,
		LatencyMs: telemetry.Milliseconds(c.result.Latency), ModelVersion: c.result.Version, ModelDigest: c.result.Digest,
	}
	if c.result.Outcome.Compared() {
		p.ShadowScore, p.Delta = &c.result.Score, &c.result.Delta
	}
	if c.row.schema != nil {
		p.Schema = c.row.schema.Name
	}
	if c.row.values != nil {
		p.Features = &executorv1.FeatureVector{Schema: c.row.schema.Name, Values: c.row.values}
	}
	return p
}
