package shadow

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

const (
	// modelPeriod is how often the model is probed while all is well, modelRetry while ml-engine is unhealthy or rejects
	// states, and modelGap is the least time between two probes.
	modelPeriod, modelRetry, modelGap = 5 * time.Second, 500 * time.Millisecond, 100 * time.Millisecond
	// modelTimeout is how long a probe may take.
	modelTimeout = 2 * time.Second
	// modelMemory is how long after a rejection the model is still probed every modelRetry: a rollback that comes then is
	// noticed before the next request.
	modelMemory = 30 * time.Second
)

// modelWatch knows which model ml-engine has active, and so which inputs a shadow needs.
type modelWatch struct {
	engine  mlenginev1.ScoringServiceClient
	logger  *slog.Logger
	current atomic.Pointer[activeModel]
	wake    chan struct{}
	start   time.Time
	// lastRejected is when a state was rejected last under the present model, in nanoseconds since start; 0 is never.
	lastRejected atomic.Int64

	// prompt is how soon a probe must be answered for ml-engine to count as healthy. A probe is the cheapest call there is, so
	// when one takes longer no shadow can succeed.
	prompt time.Duration
	// back, if set, is called when ml-engine has recovered, has another model, or answers over a new connection: reasons to
	// try it again. waiting, if set, reports whether that would change anything now.
	back    func()
	waiting func() bool
	healthy bool // at the last probe; only run's
	// connections are those that probes were answered over, the newest last; only run's.
	connections []connection
}

// connection is one to ml-engine, by its two ends.
type connection struct{ local, remote string }

// maxConnections is how many are remembered: more than an executor has, one to each ml-engine. One that was forgotten
// counts as new, which costs a probe.
const maxConnections = 64

// activeModel is what the last probe found.
type activeModel struct {
	version, digest string
	schema          *feature.Schema // nil when this build does not know the schema
	reachable       bool
}

func newModelWatch(engine mlenginev1.ScoringServiceClient, logger *slog.Logger, prompt time.Duration) *modelWatch {
	return &modelWatch{engine: engine, logger: logger, wake: make(chan struct{}, 1), start: time.Now(), prompt: prompt}
}

// schema is the active model's; errUnknown while ml-engine was never reached, errSchema when this build lacks it.
func (w *modelWatch) schema() (*feature.Schema, error) {
	m := w.current.Load()
	switch {
	case m == nil || m.version == "":
		return nil, errUnknown
	case m.schema == nil:
		return nil, errSchema
	}
	return m.schema, nil
}

// rejected requests a probe because a state was rejected, as all are after a swap to a model of another schema. While
// states go on being rejected, the model is probed every modelRetry and no more often.
func (w *modelWatch) rejected() {
	now := int64(time.Since(w.start))
	if before := w.lastRejected.Swap(now); before == 0 || now-before > int64(modelMemory) {
		w.requestProbe()
	}
}

// rejects reports whether a state was rejected within modelMemory.
func (w *modelWatch) rejects() bool {
	last := w.lastRejected.Load()
	return last != 0 && int64(time.Since(w.start))-last <= int64(modelMemory)
}

// requestProbe schedules a GetModelInfo now: a call failed in a way that a swap of models or a restart would explain.
func (w *modelWatch) requestProbe() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run probes the model until the end of ctx.
func (w *modelWatch) run(ctx context.Context) {
	pause := func(d time.Duration, wake <-chan struct{}) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake:
		}
	}
	for ctx.Err() == nil {
		next := modelPeriod
		if !w.judge(ctx) || w.rejects() || w.waiting != nil && w.waiting() {
			next = modelRetry // a restart, for example, may take less than the period
		}
		pause(modelGap, nil)
		pause(next-modelGap, w.wake)
	}
}

// judge probes ml-engine, reports whether it is healthy, and calls back when it has recovered.
//
// An engine whose scores alone are wrong or late answers every probe. Who repairs it restarts it, replaces it or changes
// the route to it, and each of these takes a new connection. An engine that stays as it is keeps its connection, and its
// backoff.
func (w *modelWatch) judge(ctx context.Context) bool {
	before, start := w.current.Load(), time.Now()
	var p peer.Peer
	healthy := w.probe(ctx, &p) && time.Since(start) <= w.prompt
	swapped := before != nil && before.digest != w.current.Load().digest
	news := !w.healthy || swapped
	if healthy && w.isNew(&p) {
		news = true
	}
	if healthy && news && w.back != nil {
		w.back()
	}
	w.healthy = healthy
	return healthy
}

// isNew reports whether no probe was answered over this connection before, and remembers it.
func (w *modelWatch) isNew(p *peer.Peer) bool {
	if p.Addr == nil || p.LocalAddr == nil {
		return false
	}
	c := connection{p.LocalAddr.String(), p.Addr.String()}
	if slices.Contains(w.connections, c) {
		return false
	}
	if len(w.connections) == maxConnections {
		w.connections = slices.Delete(w.connections, 0, 1)
	}
	w.connections = append(w.connections, c)
	return true
}

// probe asks ml-engine for its model. A failure keeps what was known, so that a model that comes back the same loses no
// request to a second probe. p becomes the peer that answered.
func (w *modelWatch) probe(ctx context.Context, p *peer.Peer) bool {
	ctx, cancel := context.WithTimeout(ctx, modelTimeout)
	defer cancel()
	info, err := w.engine.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{}, grpc.Peer(p))
	before := w.current.Load()
	if err != nil {
		if ctx.Err() == context.Canceled {
			return false
		}
		if before == nil || before.reachable {
			w.logger.Warn("ml-engine is not reached: baseline answers go on, shadows fail", "error", err)
		}
		m := activeModel{}
		if before != nil {
			m = *before
		}
		m.reachable = false
		w.current.Store(&m)
		return false
	}
	m := &activeModel{version: info.GetVersion(), digest: info.GetDigest(), reachable: true}
	if s, ok := feature.Lookup(info.GetSchema()); ok && s.Hash() == info.GetSchemaHash() {
		m.schema = s
	}
	if before == nil || !before.reachable || before.digest != m.digest {
		w.logger.Info("ml-engine is reached", "model", m.version, "digest", m.digest, "schema", info.GetSchema())
		w.lastRejected.Store(0) // the next rejection is news again
		if m.schema == nil {
			w.logger.Error("the active model needs a feature schema that this executor does not have: every shadow will be rejected",
				"schema", info.GetSchema(), "schema_hash", info.GetSchemaHash())
		}
	}
	w.current.Store(m)
	return true
}
