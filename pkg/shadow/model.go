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
	// How often the model is looked at while all is well; while ml-engine is ill; at most, when calls fail.
	modelPeriod, modelRetry, modelGap = 5 * time.Second, 500 * time.Millisecond, 100 * time.Millisecond
	// How long a look may take.
	modelTimeout = 2 * time.Second
)

// modelWatch knows which model ml-engine has active, and so which inputs a shadow needs.
type modelWatch struct {
	engine  mlenginev1.ScoringServiceClient
	logger  *slog.Logger
	current atomic.Pointer[activeModel]
	wake    chan struct{}

	// prompt is how soon a look must be answered for ml-engine to count as well: a look is the cheapest call there is, so
	// when one takes long there is no hope for a shadow.
	prompt time.Duration
	// back, if set, is told when ml-engine is well again after it was not, has another model, or answers over a connection that is
	// new: reasons to try it anew.
	// waiting, if set, says that somebody waits for such news.
	back    func()
	waiting func() bool
	well    bool // at the last look; only run's
	// connections are those that looks were answered over, the newest last; only run's.
	connections []connection
}

// connection is one to ml-engine, by its two ends.
type connection struct{ local, remote string }

// maxConnections is how many are remembered: more than an executor has, one to each ml-engine. One that was forgotten counts as new,
// which costs a probe.
const maxConnections = 64

// activeModel is what was found at the last look.
type activeModel struct {
	version, digest string
	schema          *feature.Schema // nil when this build does not know the schema
	reachable       bool
}

func newModelWatch(engine mlenginev1.ScoringServiceClient, logger *slog.Logger, prompt time.Duration) *modelWatch {
	return &modelWatch{engine: engine, logger: logger, wake: make(chan struct{}, 1), prompt: prompt}
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

// doubt asks for a look now: a call failed in a way that a swap of models or a restart would explain.
func (w *modelWatch) doubt() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run looks at the model until the end of ctx.
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
		if !w.judge(ctx) || w.waiting != nil && w.waiting() {
			next = modelRetry // a restart, for example, may take less than the period
		}
		pause(modelGap, nil)
		pause(next-modelGap, w.wake)
	}
}

// judge takes a look, says whether ml-engine is well, and tells back when it is so again.
//
// An engine whose scores alone are wrong or late looks well all the time. When somebody has mended it, he has restarted it, put another
// in its place or led the way elsewhere, and each of these takes a new connection; an engine that goes on as it is keeps its connection, and
// its backoff.
func (w *modelWatch) judge(ctx context.Context) bool {
	before, start := w.current.Load(), time.Now()
	var p peer.Peer
	well := w.look(ctx, &p) && time.Since(start) <= w.prompt
	swapped := before != nil && before.digest != w.current.Load().digest
	news := !w.well || swapped
	if well && w.isNew(&p) {
		news = true
	}
	if well && news && w.back != nil {
		w.back()
	}
	w.well = well
	return well
}

// isNew says whether no look was answered over this connection before, and remembers it.
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

// look asks ml-engine for its model. A failure keeps what was known, so that a model that comes back the same loses no
// request to a second look.
// p becomes who answered.
func (w *modelWatch) look(ctx context.Context, p *peer.Peer) bool {
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
		if m.schema == nil {
			w.logger.Error("the active model needs a feature schema that this executor does not have: every shadow will be rejected",
				"schema", info.GetSchema(), "schema_hash", info.GetSchemaHash())
		}
	}
	w.current.Store(m)
	return true
}
