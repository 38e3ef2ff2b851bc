package shadow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

const (
	// modelPeriod is how often a healthy ml-engine is probed for its model. modelRetry applies while it is unhealthy or
	// rejects states. modelGap is the minimum time between two probes.
	modelPeriod, modelRetry, modelGap = 5 * time.Second, 500 * time.Millisecond, 100 * time.Millisecond
	// modelTimeout is how long a probe may take.
	modelTimeout = 2 * time.Second
	// modelMemory is how long after a rejection the model is still probed every modelRetry, so that a rollback is noticed
	// before the next request.
	modelMemory = 30 * time.Second
)

// modelWatch tracks ml-engine's active model, and so which inputs a shadow needs.
type modelWatch struct {
	engine  mlenginev1.ScoringServiceClient
	schemas *feature.Known
	logger  *slog.Logger
	current atomic.Pointer[activeModel]
	wake    chan struct{}
	start   time.Time
	// lastRejected is when the current model last rejected a state, in nanoseconds since start; 0 means never.
	lastRejected atomic.Int64

	// prompt is how fast a healthy ml-engine answers a probe. A probe is the cheapest call, so if it takes longer no shadow
	// can succeed.
	prompt time.Duration
	// recovered, if set, is called when ml-engine has recovered, has another model, or answers over a new connection.
	recovered func()
	// backingOff, if set, reports whether the breaker waits for a recovery.
	backingOff func() bool
	healthy    bool // at the last probe; used by run only
	// connections are those over which probes were answered, the newest last; used by run only.
	connections []connection
}

// connection identifies a connection to ml-engine by its two ends.
type connection struct{ local, remote string }

// maxConnections is how many connections are remembered. An executor has fewer: one to each ml-engine. A forgotten one
// counts as new, which costs a probe.
const maxConnections = 64

// activeModel is the result of the last probe.
type activeModel struct {
	version, digest string
	schema          *feature.Schema // nil if it cannot be used; problem is the reason
	problem         error
	reachable       bool
	label           Label
	// domain has the range of each feature in the training data; nil if ml-engine does not know them all.
	domain []decide.Range
}

// Label is the event that a model predicts, as ml-engine describes it. The zero Label is unknown.
type Label struct {
	Kind    string
	Horizon time.Duration
	// Threshold is the c of a "range" label.
	Threshold float64
}

func newModelWatch(engine mlenginev1.ScoringServiceClient, schemas *feature.Known, logger *slog.Logger, prompt time.Duration) *modelWatch {
	return &modelWatch{engine: engine, schemas: schemas, logger: logger, wake: make(chan struct{}, 1), start: time.Now(), prompt: prompt}
}

// schema returns the active model's schema. The error is errUnknown until ml-engine has been reached, and errSchema if the
// schema cannot be used.
func (w *modelWatch) schema() (*feature.Schema, error) {
	m := w.current.Load()
	switch {
	case m == nil || m.version == "":
		return nil, errUnknown
	case m.schema == nil:
		return nil, fmt.Errorf("%w: %w", errSchema, m.problem)
	}
	return m.schema, nil
}

// rejected requests a probe because a state was rejected, which happens after a swap to a model of another schema. While
// rejections continue, the model is probed once every modelRetry.
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

// requestProbe schedules an immediate GetModelInfo. Call it when a call failed in a way that a model swap or a restart
// would explain.
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
		if !w.judge(ctx) || w.rejects() || w.backingOff != nil && w.backingOff() {
			next = modelRetry // a restart may take less than modelPeriod
		}
		pause(modelGap, nil)
		pause(next-modelGap, w.wake)
	}
}

// judge probes ml-engine, reports whether it is healthy, and calls recovered if it has recovered.
//
// An engine whose scores are wrong or late still answers every probe. To repair it, someone restarts it, replaces it or
// changes the route to it, and each of these needs a new connection. So a new connection counts as a recovery.
func (w *modelWatch) judge(ctx context.Context) bool {
	before, start := w.current.Load(), time.Now()
	var p peer.Peer
	healthy := w.probe(ctx, &p) && time.Since(start) <= w.prompt
	swapped := before != nil && before.digest != w.current.Load().digest
	changed := !w.healthy || swapped
	if healthy && w.isNew(&p) {
		changed = true
	}
	if healthy && changed && w.recovered != nil {
		w.recovered()
	}
	w.healthy = healthy
	return healthy
}

// isNew reports whether this is the first probe answered over the connection, and remembers the connection.
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

// probe asks ml-engine for its model and reports whether it answered. After a failure the last known model is kept, so
// that an engine that returns with the same model loses no request. p becomes the peer that answered.
func (w *modelWatch) probe(ctx context.Context, p *peer.Peer) bool {
	ctx, cancel := context.WithTimeout(ctx, modelTimeout)
	defer cancel()
	info, err := w.engine.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{}, grpc.Peer(p), grpc.MaxCallRecvMsgSize(maxModelInfo))
	before := w.current.Load()
	if err != nil {
		if ctx.Err() == context.Canceled {
			return false
		}
		if before == nil || before.reachable {
			w.logger.Warn("ml-engine cannot be reached: shadows fail, the baseline still answers", "error", err)
		}
		m := activeModel{}
		if before != nil {
			m = *before
		}
		m.reachable = false
		w.current.Store(&m)
		return false
	}
	m := &activeModel{version: info.GetVersion(), digest: info.GetDigest(), reachable: true, domain: domainOf(info)}
	if l := info.GetLabel(); l != nil {
		m.label = Label{l.GetKind(), l.GetHorizon().AsDuration(), l.GetThreshold()}
	}
	if before != nil && before.version == m.version && before.version != "" && before.digest == m.digest {
		m.schema, m.problem = before.schema, before.problem // a digest covers its schema, but not the ranges
	} else {
		m.schema, m.problem = w.learn(info)
	}
	if before == nil || !before.reachable || before.digest != m.digest {
		w.logger.Info("ml-engine is reachable", "model", m.version, "digest", m.digest, "schema", info.GetSchema())
		w.lastRejected.Store(0) // so that the next rejection requests a probe
		if m.schema == nil {
			w.logger.Error("the schema of the active model cannot be used: every shadow will be rejected",
				"schema", info.GetSchema(), "schema_hash", info.GetSchemaHash(), "error", m.problem)
		}
	}
	w.current.Store(m)
	return true
}

// domainOf returns the ranges of the model's features, nil unless all of them are known and valid.
func domainOf(info *mlenginev1.GetModelInfoResponse) []decide.Range {
	domain := make([]decide.Range, 0, len(info.GetFeatures()))
	for _, f := range info.GetFeatures() {
		r := decide.Range{Low: f.GetProfileLow(), High: f.GetProfileHigh()}
		if f.ProfileLow == nil || f.ProfileHigh == nil || !(r.Low <= r.High) { // NaN too
			return nil
		}
		domain = append(domain, r)
	}
	return domain
}

// maxModelInfo limits the description of a model, in bytes: [feature.MaxFeatures] features of at most 400 bytes each.
const maxModelInfo = 1 << 20

// learn returns the schema of the model. It makes an unknown schema from the model's description and remembers it.
func (w *modelWatch) learn(info *mlenginev1.GetModelInfoResponse) (*feature.Schema, error) {
	if s, ok := w.schemas.Lookup(info.GetSchema()); ok && s.Hash() == info.GetSchemaHash() {
		return s, nil
	}
	defs := make([]feature.Def, 0, len(info.GetFeatures()))
	for _, f := range info.GetFeatures() {
		d := feature.Def{Name: f.GetName(), Unit: f.GetUnit(), Description: f.GetDescription()}
		defs = append(defs, d)
	}
	s, err := feature.MakeSchema(info.GetSchema(), "", 0, defs)
	if err != nil {
		return nil, err
	}
	if s.Hash() != info.GetSchemaHash() {
		return nil, errors.New("ml-engine's hash of the schema does not match its features")
	}
	return w.schemas.Add(s)
}
