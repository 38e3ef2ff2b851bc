package app

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/lifecycle"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// Options configures executor.
type Options struct {
	// Baseline says what decides: "heuristic=<file>" or "model=<registry entry>"; Models is the registry folder.
	Baseline, Models string
	// RequireSignature is a file of public keys: a baseline that is not of a model that one of them has signed decides
	// nothing. Empty requires none.
	RequireSignature string
	// EngineAddr is where ml-engine answers gRPC.
	EngineAddr string
	// GRPCAddr and HTTPAddr are where to listen; port 0 takes a free one. GRPCAddr may be a Unix socket, "unix:path", and
	// GRPCSocketMode says who may connect to it.
	GRPCAddr, HTTPAddr string
	GRPCSocketMode     lifecycle.SocketMode
	// HTTPHosts are names by which clients reach the HTTP address, besides localhost and addresses of IP.
	HTTPHosts facade.Hosts
	// AddressFile, if set, gets the addresses that were bound.
	AddressFile string
	// Reflection lets people explore the service with grpcurl.
	Reflection bool
	// Profiles serves /debug/pprof/ beside the other pages.
	Profiles bool
	// ShutdownGrace is how long calls and shadows under way may take to finish after a signal.
	ShutdownGrace time.Duration
	// TLS secures both listeners, EngineTLS the connection to ml-engine.
	TLS       certs.Server
	EngineTLS certs.Client
	// MaxRequestRate is how many calls a second each client address may begin; 0 is no limit.
	MaxRequestRate float64
	// MaxConnections is how many connections each listener may have open; 0 is no limit.
	MaxConnections int
	// Control says who may change the rollout.
	Control rpc.ControlOptions
	// SamplePercent is the share of requests that get a shadow, in [0,100], until the rollout is set; SampleSalt makes the choice of requests.
	SamplePercent float64
	SampleSalt    string
	// MaxSymbols is how many symbols' features are computed from quotes, at least 1, about 100 kB each. KeepCrossed takes
	// quotes whose bid is above their ask.
	MaxSymbols  int
	KeepCrossed bool
	// MaxQuoteAhead is by how much the time of a quote, or an event_time, may be ahead of this machine's clock; 0 is no
	// limit.
	MaxQuoteAhead time.Duration
	// StateDir is the folder where those features, and the rollout, outlive a restart. Empty is none.
	StateDir string
	// FeatureLog is the folder that gets a row of every request, every FeatureLogInterval. Empty is none.
	FeatureLog         string
	FeatureLogInterval time.Duration
	// Shadow configures the dispatcher.
	Shadow shadow.Options
}

// Flags declares the options as flags.
func Flags(fs *flag.FlagSet) *Options {
	o := &Options{Shadow: shadow.DefaultOptions(), GRPCSocketMode: lifecycle.DefaultSocketMode}
	fs.StringVar(&o.Baseline, "baseline", "", "what decides: heuristic=`file`, a baseline.json, or model=entry of the registry (required)")
	fs.StringVar(&o.Models, "models", "models", "registry `folder`, for --baseline model=...")
	fs.StringVar(&o.RequireSignature, "require-signature", "", "`file` with public keys, PEM: a baseline of a model whose manifest none of them has signed is refused")
	fs.StringVar(&o.EngineAddr, "engine-addr", "127.0.0.1:4010", "gRPC `address` of ml-engine, a gRPC target: host:port, dns:///name:port or unix:path")
	fs.StringVar(&o.GRPCAddr, "grpc-addr", "127.0.0.1:4020", "`address` of the gRPC listener: host:port, or unix:path for a Unix socket")
	fs.Var(&o.GRPCSocketMode, "grpc-socket-mode", "`mode` of that socket's file, octal: who may write to it may connect")
	fs.StringVar(&o.HTTPAddr, "http-addr", "127.0.0.1:4021", "`address` of the HTTP listener")
	fs.Var(&o.HTTPHosts, "http-host", "`name` by which clients reach the HTTP address, such as that of a Kubernetes service; several by commas; a POST to any name but these, localhost and IP addresses is refused, since a web page may have sent it")
	fs.StringVar(&o.AddressFile, "address-file", "", "`file` that gets the bound addresses, for whoever asked for port 0")
	fs.BoolVar(&o.Reflection, "reflection", true, "serve gRPC reflection")
	fs.BoolVar(&o.Profiles, "profiles", false, "serve CPU and memory profiles at /debug/pprof/ of the HTTP address, to whoever reaches it")
	fs.DurationVar(&o.ShutdownGrace, "shutdown-grace", 10*time.Second, "how long calls and shadows under way may take to finish after a signal")
	o.TLS.Declare(fs)
	o.EngineTLS.Declare(fs, enginePrefix, "ml-engine")
	o.Control.Declare(fs, "RolloutService and FeedService")
	fs.Float64Var(&o.MaxRequestRate, "max-request-rate", 0, "calls a `second` that each client address may begin, over gRPC and HTTP; 0 is no limit")
	fs.IntVar(&o.MaxConnections, "max-connections", rpc.DefaultMaxConnections, "connections that each listener may have open; more are refused; 0 is no limit")
	fs.Float64Var(&o.SamplePercent, "sample-percent", 100, "share of the requests that get a shadow, 0 to 100, until RolloutService sets it; what was set outlives a restart in --state-dir")
	fs.StringVar(&o.SampleSalt, "sample-salt", "greenlight", "`salt` of the sampling hash: replicas with the same one sample the same requests")

	fs.IntVar(&o.MaxSymbols, "max-symbols", feature.DefaultMaxSymbols, "symbols whose features are computed from quotes, about 100 kB each; quotes of more are refused")
	fs.BoolVar(&o.KeepCrossed, "keep-crossed", false, "take quotes whose bid is above their ask, for a model that was trained on such")
	fs.DurationVar(&o.MaxQuoteAhead, "max-quote-ahead", time.Minute, "by how much the time of a quote, or an event_time, may be ahead of this machine's clock; a quote further ahead is left out, an event_time is ignored; 0 is no limit")
	fs.StringVar(&o.StateDir, "state-dir", "", "`folder` where the rollout and the features of quotes outlive a restart; none when empty")
	fs.StringVar(&o.FeatureLog, "feature-log", "", "`folder` that gets a row of every request, as Parquet; none when empty")
	fs.DurationVar(&o.FeatureLogInterval, "feature-log-interval", featurelog.DefaultInterval, "how often those rows are written: what a kill can lose")

	s := &o.Shadow
	fs.DurationVar(&s.Timeout, "shadow-timeout", s.Timeout, "how long a shadow may take from the arrival of its request")
	fs.IntVar(&s.QueueSize, "shadow-queue", s.QueueSize, "shadows that may wait; more are shed")
	fs.IntVar(&s.MaxInFlight, "shadow-in-flight", s.MaxInFlight, "calls to ml-engine that may be under way at once")
	fs.IntVar(&s.MaxBatch, "shadow-batch", s.MaxBatch, "most shadows in one call")
	fs.DurationVar(&s.Window, "report-window", s.Window, "rolling window of the match rate and the report")

	b := &s.Breaker
	fs.Float64Var(&b.MaxErrorRate, "breaker-error-rate", b.MaxErrorRate, "share of failed predictions in the window above which the breaker opens")
	fs.DurationVar(&b.Window, "breaker-window", b.Window, "rolling window of the breaker")
	uint32Var(fs, &b.MinRequests, "breaker-min-requests", "predictions that the window must hold before the rate is judged")
	uint32Var(fs, &b.MaxConsecutive, "breaker-consecutive", "failed predictions in a row that open the breaker")
	fs.Float64Var(&b.Confidence, "breaker-confidence", b.Confidence, "also require the rate to be too high with this confidence, for example 0.99; 0 is off")
	fs.DurationVar(&b.OpenFor, "breaker-open", b.OpenFor, "how long the breaker stays open before it probes; doubles at each reopening")
	fs.DurationVar(&b.MaxOpenFor, "breaker-open-max", b.MaxOpenFor, "longest that the breaker stays open, unless ml-engine is seen to be back before")
	uint32Var(fs, &b.Probes, "breaker-probes", "successful probes in a row that close the breaker")
	return o
}

// enginePrefix is what the TLS flags of the connection to ml-engine begin with.
const enginePrefix = "engine-"

func uint32Var(fs *flag.FlagSet, p *uint32, name, usage string) {
	fs.Func(name, fmt.Sprintf("%s (default %d)", usage, *p), func(s string) error {
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return errors.New("want a whole number of at least 0")
		}
		*p = uint32(v)
		return nil
	})
}

func (o *Options) validate() error {
	if o.Baseline == "" {
		return errors.New("no baseline: give --baseline heuristic=<file> or --baseline model=<registry entry>")
	}
	if kind, what, _ := strings.Cut(o.Baseline, "="); kind != "heuristic" && kind != "model" || what == "" {
		return fmt.Errorf("--baseline %q: want heuristic=<file> or model=<registry entry>", o.Baseline)
	}
	if o.ShutdownGrace <= 0 {
		return errors.New("--shutdown-grace must be positive")
	}
	if err := errors.Join(o.TLS.Validate(), o.EngineTLS.Validate(enginePrefix)); err != nil {
		return err
	}
	if err := lifecycle.CheckListen(o.GRPCAddr, "--grpc-addr", true); err != nil {
		return err
	}
	if err := lifecycle.CheckListen(o.HTTPAddr, "--http-addr", false); err != nil {
		return err
	}
	if err := rpc.CheckTarget(o.EngineAddr); err != nil {
		return fmt.Errorf("--engine-addr: %w", err)
	}
	if err := rpc.ValidateMaxConnections(o.MaxConnections); err != nil {
		return err
	}
	if !(o.MaxRequestRate >= 0) {
		return fmt.Errorf("--max-request-rate %v: want 0 or more", o.MaxRequestRate)
	}
	if o.MaxSymbols < 1 {
		return fmt.Errorf("--max-symbols %d: want at least 1", o.MaxSymbols)
	}
	if o.MaxQuoteAhead < 0 {
		return fmt.Errorf("--max-quote-ahead %v: want 0 or more", o.MaxQuoteAhead)
	}
	if o.FeatureLogInterval <= 0 {
		return errors.New("--feature-log-interval must be positive")
	}
	if !(o.SamplePercent >= 0 && o.SamplePercent <= 100) {
		return fmt.Errorf("--sample-percent %v: want a number in [0,100]", o.SamplePercent)
	}
	return nil
}
