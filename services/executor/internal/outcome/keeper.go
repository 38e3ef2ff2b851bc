// Package outcome joins the sampled requests of executor to their labels, and keeps the records of closed blocks across
// restarts. [github.com/greenlight-ml/greenlight/pkg/outcome] has the definitions.
package outcome

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	quality "github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

const (
	// drainPeriod is how often rows and minutes are joined.
	drainPeriod = 20 * time.Millisecond
	// maxQueue bounds the waiting rows and minutes, about 100 bytes each: 1.6 million a second. Further rows are lost.
	maxQueue = 1 << 15
	// maxJoins bounds the models and plans whose labels are joined concurrently: the current one, and earlier ones whose last
	// labels are not known yet.
	maxJoins = 4
	// savePeriod is how often the state is saved, and therefore how many rows a kill loses.
	savePeriod = time.Second
)

// horizon is the horizon of labels computed from quotes.
var horizon = time.Duration(label.Default().Horizon) * time.Minute

// Options configures a keeper.
type Options struct {
	// Baseline is the digest of the baseline, Instance the random id of the process.
	Baseline, Instance string
	// Plan returns the plan in force, or the zero Plan, and the revision of the rollout.
	Plan func() (quality.Plan, uint64)
	// Dir is the state folder, which this process owns. If empty, everything is only in memory.
	Dir string
	// Judge is set if the verdict uses only this executor's records.
	Judge bool
	// Ahead is how far the time of a report may be ahead of the clock; 0 is no limit.
	Ahead  time.Duration
	Logger *slog.Logger
}

// Keeper joins rows to labels. It is safe for concurrent use. [Keeper.Settled] and [Keeper.Minute] put events into a queue,
// in order, and never wait for a join or the disk.
type Keeper struct {
	opts Options
	id   string

	in      sync.Mutex // guards queue and dropped
	queue   []event
	dropped uint64
	// received counts the sampled rows, even across a kill; nil without a folder.
	received *durable.Counter
	wake     chan struct{}

	mu sync.Mutex // guards the rest
	// spare is the other buffer of the queue.
	spare []event
	// model returns the active model and its label; nil before Start.
	model func() (digest string, label shadow.Label)
	// current is the key of incoming rows.
	current  quality.Key
	revision uint64
	joins    map[quality.Key]*joining
	streams  map[string]*stream
	records  recordBook
	// changed reports whether anything came since the last save.
	changed bool
	// taken is the number of rows that were joined or lost.
	taken uint64
	// offset makes counts begin at 0 with the process, like Prometheus counters. It has the negated counts of restored joins,
	// and the counts of ended joins.
	offset     [quality.NotKept + 1]int64
	lostOffset int64
	judged     *quality.Judgment // of the current key; nil without a plan

	store *store // nil without a folder
	// writeErrors counts the saves that failed.
	writeErrors atomic.Uint64
	saver       *durable.Saver
	stop        func()
	// stopping is closed when streams must end.
	stopping chan struct{}
}

// joining is a join with the threshold of its model's label; 0 while it is unknown.
type joining struct {
	*quality.Join
	plan      quality.Plan
	threshold float64
	// warned is set once the log has reported that the label cannot be computed.
	warned bool
	// stale is set once another model or plan has replaced it.
	stale bool
}

// stream computes the label of a symbol.
type stream struct {
	*label.Stream
	changed bool
}

// event is a row or a minute.
type event struct {
	quality.Row
	// model is the digest of the model that answered, empty if none did.
	model string
	// minute is set for a minute of the symbol in Symbol.
	minute feature.Minute
}

// Open continues with the state of the folder, or starts empty. The caller must call Start, then Stop.
func Open(opts Options) (*Keeper, error) {
	k := &Keeper{
		opts: opts, id: rand.Text(), wake: make(chan struct{}, 1), joins: map[quality.Key]*joining{}, streams: map[string]*stream{},
		records: newRecordBook(), stopping: make(chan struct{}),
	}
	if opts.Dir != "" {
		if err := k.restore(); err != nil {
			return nil, err
		}
	}
	k.follow(opts.Plan())
	if k.received != nil {
		if n := k.received.Load(); n > k.taken {
			opts.Logger.Warn("executor was killed: the labels of some requests are lost", "requests", n-k.taken)
			k.joins[k.current].Lost(n - k.taken)
		}
		k.taken, k.changed = k.received.Load(), true
	}
	k.judge()
	return k, nil
}

// Start joins everything from now on. model returns the digest of the active model, empty while it is unknown, and its
// label.
func (k *Keeper) Start(model func() (string, shadow.Label)) {
	k.mu.Lock()
	k.model = model
	k.mu.Unlock()
	k.stop = serve.Go(k.run)
	if k.store != nil {
		k.saver = durable.StartSaver(durable.SaverOptions{
			Save: k.save, Period: savePeriod, Subject: "the labels of decisions are", Risk: "a restart may lose some", Logger: k.opts.Logger,
		})
	}
}

func (k *Keeper) run(ctx context.Context) {
	tick := time.NewTicker(drainPeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-k.wake:
		case <-ctx.Done():
		}
		k.mu.Lock()
		k.drain()
		k.mu.Unlock()
	}
}

// Stop joins and saves the last rows. It returns an error if that fails or ctx ends first.
func (k *Keeper) Stop(ctx context.Context) error {
	if k.stop != nil { // it was started
		k.stop()
	}
	err := k.saver.Stop(ctx)
	if k.store != nil {
		err = errors.Join(err, k.store.close(), k.received.Close())
	}
	return err
}

// Trouble describes a failing folder. It is empty if the state is saved, or if there is no folder.
func (k *Keeper) Trouble() string { return k.saver.Trouble() }

// Settled takes a request and its result.
func (k *Keeper) Settled(req shadow.Request, r shadow.Result) {
	if r.Outcome == shadow.NotSampled {
		return
	}
	e := event{model: r.Digest, Row: quality.Row{
		ID: req.ID, Symbol: req.Symbol, Arrival: req.Arrival.UnixMilli(), Source: quality.Source(req.Source),
		Baseline: req.Baseline, Shadow: r.Score, Missing: fallbacks[r.Outcome],
	}}
	if !req.EventTime.IsZero() {
		e.Time = req.EventTime.UnixMilli()
	}
	if k.received != nil {
		k.received.Add()
	}
	k.put(&e)
}

// Minute takes a grid minute of a symbol. The minutes of a symbol must come in order.
func (k *Keeper) Minute(symbol string, m feature.Minute) {
	k.put(&event{Row: quality.Row{Symbol: symbol}, minute: m})
}

func (k *Keeper) put(e *event) {
	k.in.Lock()
	n := len(k.queue)
	switch {
	case n < maxQueue:
		k.queue = append(k.queue, *e)
	case e.minute.End == 0:
		k.dropped++
	} // a skipped minute is a gap in the labels
	k.in.Unlock()
	if n == maxQueue/2 {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

// fallbacks maps every outcome of a shadow to its fallback.
var fallbacks = func() (all [shadow.NotSampled + 1]quality.Fallback) {
	for o := range all {
		all[o] = quality.FallbackOf(shadow.Outcome(o).String())
	}
	return all
}()

// drain joins the events in the queue. The caller holds the lock.
func (k *Keeper) drain() {
	k.follow(k.opts.Plan())
	k.in.Lock()
	events, dropped := k.queue, k.dropped
	k.queue, k.dropped = k.spare[:0], 0
	k.in.Unlock()
	for i := range events {
		if e := &events[i]; e.minute.End != 0 {
			k.minute(e.Symbol, e.minute)
		} else {
			k.add(e)
		}
	}
	k.changed = k.changed || len(events) > 0 || dropped > 0
	clear(events) // they hold ids
	k.spare = events
	if dropped > 0 {
		k.taken += dropped
		k.joins[k.current].Lost(dropped)
	}
	k.collect()
}

// follow makes the plan and the active model current.
func (k *Keeper) follow(plan quality.Plan, revision uint64) {
	k.revision = revision
	digest, about := k.current.Model, shadow.Label{}
	if k.model != nil {
		if now, of := k.model(); now != "" {
			digest, about = now, of
		}
	}
	key := quality.Key{Executor: k.id, Model: digest, Baseline: k.opts.Baseline, Plan: plan.Digest()}
	j := k.joins[key]
	if j == nil {
		j = k.begin(key, plan)
	}
	if j.threshold == 0 && about != (shadow.Label{}) && j.plan.LabelSource != quality.Reported {
		if about.Kind == "range" && about.Horizon == j.plan.Horizon() && about.Horizon == horizon && about.Threshold > 0 {
			j.threshold = about.Threshold
		} else if !j.warned {
			j.warned = true
			k.opts.Logger.Warn("the label of the model cannot be computed from quotes: its requests have no label; report the outcomes, under a plan with reported labels",
				"model", digest, "kind", about.Kind, "horizon", about.Horizon)
		}
	}
	if key == k.current {
		return
	}
	if before := k.joins[k.current]; before != nil {
		before.stale = true
	}
	j.stale, k.current, k.judged = false, key, nil
	k.judge()
}

// begin starts a join. It continues after the records with the same key.
func (k *Keeper) begin(key quality.Key, plan quality.Plan) *joining {
	if len(k.joins) == maxJoins {
		k.end(k.oldest())
	}
	if key.Plan != "" {
		k.records.plans[key.Plan] = plan
	} else {
		plan = quality.Plan{LabelSource: quality.Quotes, HorizonMS: horizon.Milliseconds()}
	}
	j := &joining{Join: quality.NewJoin(key, plan), plan: plan}
	j.Resume(lightOf(k.records.byKey[key]))
	k.count(j, -1)
	for symbol, s := range k.streams {
		j.Minute(symbol, s.Last(), quality.Unknown)
	}
	k.joins[key] = j
	return j
}

// oldest returns the stale join with the fewest waiting rows.
func (k *Keeper) oldest() *joining {
	var least *joining
	for key, j := range k.joins {
		if key != k.current && (least == nil || j.Waiting() < least.Waiting()) {
			least = j
		}
	}
	return least
}

// end ends a join: its waiting rows expire.
func (k *Keeper) end(j *joining) {
	j.End(time.Now().UnixMilli())
	k.take(j)
	k.count(j, 1)
	delete(k.joins, j.Key())
}

// count adds the counts of a join to the offset, or subtracts them.
func (k *Keeper) count(j *joining, sign int64) {
	labels, lost := j.Counts()
	for l, n := range labels {
		k.offset[l] += sign * int64(n)
	}
	k.lostOffset += sign * int64(lost)
}

// add joins a row.
func (k *Keeper) add(e *event) {
	k.taken++
	e.Revision = k.revision
	j := k.joins[k.current]
	if e.model != "" && e.model != k.current.Model {
		key := k.current
		key.Model = e.model
		if other := k.joins[key]; other != nil {
			j = other
		} else if e.Missing == quality.None {
			e.Missing = quality.Internal // the score comes from a model that ml-engine does not name as its active one
		}
	}
	j.Add(&e.Row)
}

// minute joins a minute.
func (k *Keeper) minute(symbol string, m feature.Minute) {
	s := k.streams[symbol]
	if s == nil {
		s = &stream{Stream: label.Default().Stream()}
		k.streams[symbol] = s
	}
	if m.End <= s.Last() {
		return
	}
	_, z := s.Push(m)
	s.changed = true
	for _, j := range k.joins {
		y := quality.Unknown
		switch {
		case j.threshold == 0 || math.IsNaN(z):
		case z > j.threshold:
			y = quality.Positive
		default:
			y = quality.Negative
		}
		j.Minute(symbol, m.End, y)
	}
}

// collect takes the records of closed blocks, and ends stale joins without any open block.
func (k *Keeper) collect() {
	for _, j := range k.joins {
		k.take(j)
		if j.stale && j.Idle() {
			k.end(j)
		}
	}
}

// take takes the records of closed blocks.
func (k *Keeper) take(j *joining) {
	closed := j.Closed()
	if len(closed) == 0 {
		return
	}
	if err := k.records.add(time.Now(), closed); err != nil { // impossible for the numbers of a record
		k.opts.Logger.Error("records of labels are lost", "error", err)
	}
	if k.store == nil {
		k.records.publish(k.records.last)
		k.judge()
	}
}

// judge judges the records with the current key.
func (k *Keeper) judge() {
	j := k.joins[k.current]
	if !k.opts.Judge || k.current.Plan == "" || j == nil {
		k.judged = nil
		return
	}
	k.judged = quality.Judge(j.plan, lightOf(k.records.of(k.current)))
}

// Counts returns the sampled requests since the start by label. Pending counts those that wait now.
func (k *Keeper) Counts() (labels quality.LabelCounts, lost uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drain()
	sum, lostNow := k.offset, k.lostOffset
	waiting := uint64(0)
	for _, j := range k.joins {
		have, gone := j.Counts()
		for l, n := range have {
			sum[l] += int64(n)
		}
		lostNow += int64(gone)
		waiting += j.Waiting()
	}
	for l := range labels {
		labels[l] = uint64(max(0, sum[l]))
	}
	labels[quality.Pending] = waiting
	return labels, uint64(max(0, lostNow))
}
