// Package link connects executor to ml-engine. An [Engine] is a client of all addresses of a name: it balances batches over them
// and sends them over streams. It bounds everything that ml-engine sends: sizes, texts, error codes and rates.
package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

const (
	// resolveEvery is how often a name is resolved, minus up to a fifth so that executors do not ask in step. An added
	// ml-engine gets rows after at most this plus the time to connect. resolveRetry applies until the first answer.
	resolveEvery, resolveRetry = 5 * time.Second, time.Second
	// resolveTimeout bounds a lookup.
	resolveTimeout = 2 * time.Second
	// maxAddresses is how many addresses of a name an executor uses. If there are more, it picks some at random and keeps
	// them, so that a fleet of executors uses them all.
	maxAddresses = 32
)

// Options configures an [Engine]. All but Challenger are required.
type Options struct {
	// Timeout is how long ml-engine may take to answer a batch.
	Timeout time.Duration
	// MaxInFlight is how many batches may be in flight, MaxBatch how many rows a batch may have.
	MaxInFlight, MaxBatch int
	// Logger logs changes of the addresses.
	Logger *slog.Logger
	// Registerer receives the metrics.
	Registerer prometheus.Registerer
	// Challenger is the name of this engine's challenger; empty for the model under trial. grpc_client_* count only calls to
	// the engine of the model under trial.
	Challenger string
}

func (o Options) validate() error {
	switch {
	case o.Logger == nil || o.Registerer == nil:
		return errors.New("link to ml-engine: logger and registerer are required")
	case o.Timeout <= 0 || o.MaxInFlight < 1 || o.MaxBatch < 1:
		return fmt.Errorf("link to ml-engine: timeout %v, %d calls in flight, batches of %d rows: want more than 0", o.Timeout, o.MaxInFlight, o.MaxBatch)
	}
	return nil
}

// Engine is a client of ml-engine at one or several addresses. BatchPredict sends a batch over a stream to the address with the
// fewest values in flight. The other calls go to the connected addresses in turn.
//
// gRPC's own balancing resolves a name again only when a connection is lost, at most every 30 s, and does not know the load
// of an address.
type Engine struct {
	mlenginev1.ScoringServiceClient // over Invoke

	opts    Options
	dial    func(addr string) (*grpc.ClientConn, error)
	metrics engineMetrics
	turn    atomic.Uint64

	ctx     context.Context //nolint:containedctx // it ends the streams and the goroutines of the engine
	stop    context.CancelFunc
	running sync.WaitGroup

	current  atomic.Pointer[[]*address]
	resolved chan struct{} // closed after the first lookup
	// unresolved is why the last lookup gave no address.
	unresolved atomic.Pointer[error]

	mu  sync.Mutex
	all map[*address]bool // the current addresses and those being drained
}

// Connect returns a client of ml-engine at the target, with the limits of opts. A target dns:///name:port means all addresses
// of the name, followed as they change; any other target is one address. With nil credentials the connection is not encrypted.
// Call Close after the last call.
func Connect(target string, creds credentials.TransportCredentials, opts Options, extra ...grpc.DialOption) (*Engine, error) {
	var network net.Dialer
	return connect(target, creds, opts, lookupOf(target, network.DialContext), network.DialContext, extra)
}

// lookup returns the addresses of a name.
type lookup func(context.Context) ([]netip.AddrPort, error)

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// connect is Connect with a given network. find is nil for a target with one address.
func connect(target string, creds credentials.TransportCredentials, opts Options, find lookup, network dialer, extra []grpc.DialOption) (*Engine, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	var common []grpc.DialOption
	if opts.Challenger == "" {
		var err error
		if common, err = rpc.ClientMetrics(opts.Registerer); err != nil {
			return nil, err
		}
	}
	common = append(append(common, dialOptions(creds, opts.MaxBatch)...), extra...)
	series := telemetry.Series(opts.Registerer, opts.Challenger)
	e := &Engine{opts: opts, resolved: make(chan struct{}), all: map[*address]bool{}, metrics: newEngineMetrics(series)}
	e.ScoringServiceClient = mlenginev1.NewScoringServiceClient(e)
	e.current.Store(new([]*address))
	e.ctx, e.stop = context.WithCancel(context.Background())
	if err := series.Register(addressCollector{e}); err != nil {
		return nil, err
	}
	if find == nil {
		e.dial = func(string) (*grpc.ClientConn, error) { return rpc.Dial(target, nil, common...) }
		a, err := e.add(target)
		if err != nil {
			return nil, err
		}
		e.current.Store(&[]*address{a})
		close(e.resolved)
		return e, nil
	}
	// The target of each connection is the name, so that the certificate and the authority are checked against it.
	named := "passthrough:///" + endpointOf(target)
	e.dial = func(addr string) (*grpc.ClientConn, error) {
		to := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return network(ctx, "tcp", addr) })
		return rpc.Dial(named, nil, append(slices.Clip(common), to)...)
	}
	e.running.Go(func() { e.follow(find) })
	return e, nil
}

// endpointOf returns the name and the port of a dns target.
func endpointOf(target string) string {
	_, rest, _ := strings.Cut(target, ":")
	if at, ok := strings.CutPrefix(rest, "//"); ok {
		_, rest, _ = strings.Cut(at, "/")
	}
	return rest
}

// lookupOf returns the lookup of a dns target; nil for any other target.
func lookupOf(target string, network dialer) lookup {
	if !strings.HasPrefix(target, "dns:") {
		return nil
	}
	resolver := &net.Resolver{}
	var server string
	if u, err := url.Parse(target); err == nil && u.Host != "" { // dns://nameserver/name:port
		server = u.Host
		if u.Port() == "" {
			server = net.JoinHostPort(u.Hostname(), "53")
		}
		resolver.PreferGo = true
		resolver.Dial = func(ctx context.Context, protocol, _ string) (net.Conn, error) { return network(ctx, protocol, server) }
	}
	return func(ctx context.Context) ([]netip.AddrPort, error) {
		host, service, err := net.SplitHostPort(endpointOf(target))
		if err != nil {
			return nil, err
		}
		port, err := resolver.LookupPort(ctx, "tcp", service)
		if err != nil {
			return nil, err
		}
		ips, err := resolver.LookupNetIP(ctx, "ip", host)
		var failed *net.DNSError
		if errors.As(err, &failed) && server != "" {
			failed.Server = server // the resolver reports the server of resolv.conf, which was not asked
		}
		if err != nil {
			return nil, err
		}
		found := make([]netip.AddrPort, 0, len(ips))
		for _, ip := range ips {
			found = append(found, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
		}
		return found, nil
	}
}

// follow resolves the name until the engine is closed.
func (e *Engine) follow(find lookup) {
	seed := maphash.MakeSeed()
	for first := true; ; first = false {
		ctx, cancel := context.WithTimeout(e.ctx, resolveTimeout)
		found, err := find(ctx)
		cancel()
		if err == nil && len(found) == 0 {
			err = errors.New("the name has no address")
		}
		if err == nil {
			err = e.use(chosen(found, seed))
		}
		pause := resolveEvery - rand.N(resolveEvery/5)
		if err != nil && e.ctx.Err() == nil {
			e.opts.Logger.Warn("the name of ml-engine cannot be resolved: keeping the current addresses", "in_use", len(*e.current.Load()), "error", err)
			if len(*e.current.Load()) == 0 {
				pause = resolveRetry
			}
		}
		e.unresolved.Store(&err)
		if first {
			close(e.resolved)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-e.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// chosen returns at most maxAddresses of the addresses, without duplicates.
func chosen(found []netip.AddrPort, seed maphash.Seed) []string {
	names := make([]string, 0, len(found))
	for _, a := range found {
		names = append(names, a.String())
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(maphash.String(seed, a), maphash.String(seed, b)), cmp.Compare(a, b))
	})
	names = slices.Compact(names)
	return names[:min(len(names), maxAddresses)]
}

// use connects to new addresses and drains those that the name no longer has.
func (e *Engine) use(names []string) error {
	before := *e.current.Load()
	var next []*address
	var errs []error
	for _, name := range names {
		if i := slices.IndexFunc(before, func(a *address) bool { return a.name == name }); i >= 0 {
			next = append(next, before[i])
			continue
		}
		a, err := e.add(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e.opts.Logger.Info("ml-engine has a new address", "address", name)
		next = append(next, a)
	}
	e.current.Store(&next)
	for _, a := range before {
		if !slices.Contains(next, a) {
			e.opts.Logger.Info("ml-engine has lost an address: waiting for its rows in flight", "address", a.name)
			e.running.Go(func() { e.remove(a) })
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) add(name string) (*address, error) {
	conn, err := e.dial(name)
	if err != nil {
		return nil, err
	}
	a := newAddress(e, name, conn)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all[a] = true
	return a, nil
}

// remove drains an address and closes its connection.
func (e *Engine) remove(a *address) {
	a.drain()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.all, a)
}

// Close drains all addresses, which takes at most twice the timeout of a shadow, and closes their connections.
func (e *Engine) Close() error {
	e.stop()
	e.running.Wait()
	var drained sync.WaitGroup
	for _, a := range *e.current.Swap(new([]*address)) {
		drained.Go(func() { e.remove(a) })
	}
	drained.Wait()
	return nil
}

// pick returns the best address, preferably one that is connected and has not just failed. Among equals it returns the one
// with the smallest cost, then the one that was picked longest ago.
func (e *Engine) pick(ctx context.Context, cost func(*address) int64) (*address, error) {
	select {
	case <-e.resolved:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	all := *e.current.Load()
	if len(all) == 0 {
		err := errors.New("the client is closed")
		if why := e.unresolved.Load(); why != nil && *why != nil {
			err = *why
		}
		return nil, cleanError(status.Errorf(codes.Unavailable, "no address of ml-engine is known: %v", err))
	}
	if len(all) == 1 {
		return all[0], nil
	}
	best := slices.MinFunc(all, func(a, b *address) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(cost(a), cost(b)), cmp.Compare(a.picked.Load(), b.picked.Load()))
	})
	best.picked.Store(e.turn.Add(1))
	return best, nil
}

func inTurn(*address) int64 { return 0 }

// maxTries is how often a batch is sent if no ml-engine reads it: an engine that stops ends its streams.
const maxTries = 3

var (
	// errElsewhere ends a call that ml-engine has not read. The call can be made again.
	errElsewhere = errors.New("ml-engine has not read the call")
	errUnread    = status.Error(codes.Unavailable, "ml-engine closes its streams without an answer")
)

// BatchPredict implements the ScoringServiceClient. It sets the sequence of the request. An answer after the end of ctx is
// counted and dropped.
func (e *Engine) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest, _ ...grpc.CallOption) (*mlenginev1.BatchPredictResponse, error) {
	for range maxTries {
		a, err := e.pick(ctx, func(a *address) int64 { return a.inFlight.Load() })
		if err != nil {
			return nil, err
		}
		resp, err := a.predict(ctx, req)
		if !errors.Is(err, errElsewhere) {
			return resp, err
		}
	}
	return nil, errUnread
}

// Invoke implements grpc.ClientConnInterface.
func (e *Engine) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	a, err := e.pick(ctx, inTurn)
	if err != nil {
		return err
	}
	return a.conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (e *Engine) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	a, err := e.pick(ctx, inTurn)
	if err != nil {
		return nil, err
	}
	return a.conn.NewStream(ctx, desc, method, opts...)
}

// engineMetrics are the counters of an engine. [telemetry.Series] adds the prefix of the names.
type engineMetrics struct {
	late, reopened prometheus.Counter
}

func newEngineMetrics(reg prometheus.Registerer) engineMetrics {
	f := promauto.With(reg)
	return engineMetrics{
		late: f.NewCounter(prometheus.CounterOpts{
			Name: "late_answers_total",
			Help: "Answers of ml-engine over a stream that arrived after the deadline of all their rows and were dropped.",
		}),
		reopened: f.NewCounter(prometheus.CounterOpts{
			Name: "streams_reopened_total",
			Help: "Streams to ml-engine that replaced one that had ended.",
		}),
	}
}

var (
	addressesDesc = prometheus.NewDesc("engine_addresses",
		"Addresses of ml-engine by state: ready; unary (ready, but takes no streams); unreachable; draining (no longer an address of the name).",
		[]string{"state"}, nil)
	streamsDesc = prometheus.NewDesc("engine_streams",
		"Open streams to ml-engine by the state of their address.", []string{"state"}, nil)
)

// The states of an address.
const (
	addressReady       = "ready"
	addressUnary       = "unary"
	addressUnreachable = "unreachable"
	addressDraining    = "draining"
)

// addressCollector exports the addresses of an engine.
type addressCollector struct{ engine *Engine }

// Describe implements prometheus.Collector.
func (addressCollector) Describe(ch chan<- *prometheus.Desc) { ch <- addressesDesc; ch <- streamsDesc }

// Collect implements prometheus.Collector.
func (c addressCollector) Collect(ch chan<- prometheus.Metric) {
	to, states := telemetry.Sink(ch), []string{addressReady, addressUnary, addressUnreachable, addressDraining}
	addresses, streams := map[string]int{}, map[string]int{}
	c.engine.mu.Lock()
	for a := range c.engine.all {
		s := a.state()
		addresses[s]++
		streams[s] += int(a.open.Load())
	}
	c.engine.mu.Unlock()
	for _, s := range states {
		to.Gauge(addressesDesc, float64(addresses[s]), s)
		to.Gauge(streamsDesc, float64(streams[s]), s)
	}
}
