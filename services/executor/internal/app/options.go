package app

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/oipengine"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

// Options configures executor.
type Options struct {
	serve.Options

	// Baseline is the scorer that decides: see [decision.LoadBaseline]. Models is the registry folder.
	Baseline, Models string
	// RequireSignature is a file of public keys. The baseline's model must be signed with one of them. Empty requires no
	// signature.
	RequireSignature string
	// Schemas are files with schemas whose vectors are accepted, besides the built-in schemas and those of ml-engine's
	// models.
	Schemas []string
	// EngineAddr is the gRPC address of ml-engine, or the address of a model server, see [oipengine.ParseTarget]. EngineSchema is
	// the file with the schema for model servers, or the name of a built-in schema.
	EngineAddr, EngineSchema string
	// Challengers are the other models that get the sampled requests.
	Challengers []Challenger
	// EngineTLS secures the connections to ml-engine and to the engines of the challengers.
	EngineTLS certs.Client
	// SamplePercent is the percentage of requests that get a shadow, in [0,100], until a rollout is set. SampleSalt determines
	// which requests are sampled.
	SamplePercent float64
	SampleSalt    string
	// MaxSymbols limits the symbols whose features are computed from quotes, at least 1, about 100 kB each. KeepCrossed
	// accepts quotes whose bid is above their ask.
	MaxSymbols  int
	KeepCrossed bool
	// MaxQuoteAhead is how far the time of a quote, or an event_time, may be ahead of this machine's clock; 0 is no limit.
	MaxQuoteAhead time.Duration
	// StateDir is the folder that keeps features and rollout across restarts. Empty keeps nothing.
	StateDir string
	// AllowGated lets RolloutService set a gate, behind which a model decides. It needs StateDir.
	AllowGated bool
	// Fleet is the group of the executor.
	Fleet Fleet
	// Kill has the signals that kill the gate; nil never does.
	Kill <-chan os.Signal
	// JudgeQuality is set if the verdict on the model's quality uses only this executor's requests.
	JudgeQuality bool
	// FeatureLog is the folder of the feature log, which has a row per request and is written every FeatureLogInterval. Empty
	// means off.
	FeatureLog         string
	FeatureLogInterval time.Duration
	// Shadow configures the dispatcher.
	Shadow shadow.Options
}

// Challenger is a model that gets the sampled requests next to the model under trial.
type Challenger struct {
	// Name is its name in metrics, logs and reports, Engine the gRPC address of its ml-engine.
	Name, Engine string
}

// Flags declares the options as flags.
func Flags(fs *flag.FlagSet) *Options {
	o := &Options{Shadow: shadow.DefaultOptions()}
	fs.StringVar(&o.Baseline, "baseline", "", "the scorer that decides: heuristic=`file` for a baseline.json, model=entry of the registry, or caller=name@version for the score that comes with each request (required)")
	fs.StringVar(&o.Models, "models", "models", "registry `folder`, for --baseline model=...")
	fs.StringVar(&o.RequireSignature, "require-signature", "", "`file` with public keys (PEM); the baseline's model must be signed with one of them")
	fs.Func("schema", "`file` with a feature schema whose vectors are accepted from the start, whatever ml-engine serves; may be given several times", func(path string) error {
		o.Schemas = append(o.Schemas, path)
		return nil
	})
	fs.StringVar(&o.EngineAddr, "engine-addr", "127.0.0.1:4010", "gRPC `address` of ml-engine: host:port, dns:///name:port or unix:path; or a model on a server of the Open Inference Protocol: oip://host:port?model=name[&version=][&input=][&output=][&column=]")
	fs.StringVar(&o.EngineSchema, "engine-schema", "", "`file` with the feature schema of the model server's model, or the name of a built-in schema; required with oip:// addresses")
	fs.Func("challenger", "`name=address` of another model that gets the sampled requests, after the model under trial; the address takes the same forms as --engine-addr; may be given up to 8 times", func(s string) error {
		name, engine, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("want name=address")
		}
		o.Challengers = append(o.Challengers, Challenger{name, engine})
		return nil
	})
	o.Options.Declare(fs, "127.0.0.1:4020", "127.0.0.1:4021", "RolloutService, FeedService and OutcomeService")
	o.EngineTLS.Declare(fs, enginePrefix, "ml-engine")
	fs.Float64Var(&o.SamplePercent, "sample-percent", 100, "percentage of the requests that get a shadow, 0 to 100, until RolloutService sets it; with --state-dir a set rollout survives a restart")
	fs.StringVar(&o.SampleSalt, "sample-salt", "greenlight", "`salt` of the sampling hash: replicas with the same salt sample the same requests")

	fs.IntVar(&o.MaxSymbols, "max-symbols", feature.DefaultMaxSymbols, "symbols whose features are computed from quotes, about 100 kB each; quotes of further symbols are refused")
	fs.BoolVar(&o.KeepCrossed, "keep-crossed", false, "accept quotes whose bid is above their ask, for a model that was trained on such quotes")
	fs.DurationVar(&o.MaxQuoteAhead, "max-quote-ahead", time.Minute, "how far the time of a quote, or an event_time, may be ahead of this machine's clock; a quote or event_time further ahead is ignored; 0 is no limit")
	fs.StringVar(&o.StateDir, "state-dir", "", "`folder` that keeps the rollout, the features computed from quotes, and the labels and records of quality across restarts; empty is off")
	fs.BoolVar(&o.AllowGated, "allow-gated", false, "let RolloutService set a gate, behind which the model decides; without it no model can decide, whatever anyone sends; needs --state-dir")
	fs.BoolVar(&o.JudgeQuality, "judge-quality", true, "judge the quality of the model by this executor's requests alone; set false for one of several executors, whose records greenlight agent and greenlight quality combine and judge")
	o.Fleet.declare(fs)
	fs.StringVar(&o.FeatureLog, "feature-log", "", "`folder` of the feature log, Parquet files with a row per request; empty is off")
	fs.DurationVar(&o.FeatureLogInterval, "feature-log-interval", featurelog.DefaultInterval, "how often the feature log is written, which is also how much a kill can lose")

	s := &o.Shadow
	fs.Float64Var(&s.MatchTolerance, "match-tolerance", s.MatchTolerance, "largest difference between shadow and baseline that counts as a match, more than 0 and less than 1; a canary's policy must have the same value")
	fs.Float64Var(&s.DecisionThreshold, "decision-threshold", 0, "score at or above which you act, more than 0 and less than 1: the report then includes the agreement of decisions; 0 is off")
	fs.DurationVar(&s.Timeout, "shadow-timeout", s.Timeout, "how long a shadow may take from the arrival of its request")
	fs.IntVar(&s.QueueSize, "shadow-queue", s.QueueSize, "shadows that may wait; more are shed")
	fs.IntVar(&s.MaxInFlight, "shadow-in-flight", s.MaxInFlight, "largest number of concurrent calls to ml-engine")
	fs.IntVar(&s.MaxBatch, "shadow-batch", s.MaxBatch, "largest number of shadows in one call")
	fs.DurationVar(&s.Window, "report-window", s.Window, "rolling window of the match rate and the report")

	b := &s.Breaker
	fs.Float64Var(&b.MaxErrorRate, "breaker-error-rate", b.MaxErrorRate, "share of failed predictions in the window above which the breaker opens")
	fs.DurationVar(&b.Window, "breaker-window", b.Window, "rolling window of the breaker")
	uint32Var(fs, &b.MinRequests, "breaker-min-requests", "predictions that the window must hold before the rate is judged")
	uint32Var(fs, &b.MaxConsecutive, "breaker-consecutive", "consecutive failed predictions that open the breaker")
	fs.Float64Var(&b.Confidence, "breaker-confidence", b.Confidence, "also require the rate to be too high with this confidence, for example 0.99; 0 is off")
	fs.DurationVar(&b.OpenFor, "breaker-open", b.OpenFor, "how long the breaker stays open before it probes; doubles with each failed probe")
	fs.DurationVar(&b.MaxOpenFor, "breaker-open-max", b.MaxOpenFor, "longest time that the breaker stays open, unless ml-engine is known to have recovered")
	uint32Var(fs, &b.Probes, "breaker-probes", "consecutive successful probes that close the breaker")
	return o
}

// enginePrefix is the prefix of the TLS flags for the connection to ml-engine.
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
		return errors.New("no baseline: give --baseline " + decision.Forms)
	}
	if kind, what, _ := strings.Cut(o.Baseline, "="); !slices.Contains([]string{"heuristic", "model", "caller"}, kind) || what == "" {
		return fmt.Errorf("--baseline %q: want %s", o.Baseline, decision.Forms)
	}
	if err := errors.Join(o.Options.Validate(), o.EngineTLS.Validate(enginePrefix)); err != nil {
		return err
	}
	if err := o.checkEngines(); err != nil {
		return err
	}
	if o.MaxSymbols < 1 {
		return fmt.Errorf("--max-symbols %d: want at least 1", o.MaxSymbols)
	}
	if o.MaxQuoteAhead < 0 {
		return fmt.Errorf("--max-quote-ahead %v: want 0 or more", o.MaxQuoteAhead)
	}
	if o.AllowGated && o.StateDir == "" {
		return errors.New("--allow-gated needs --state-dir: a kill of the gate must survive a restart")
	}
	if err := o.checkFleet(); err != nil {
		return err
	}
	if o.FeatureLogInterval <= 0 {
		return errors.New("--feature-log-interval must be positive")
	}
	if !(o.SamplePercent >= 0 && o.SamplePercent <= 100) {
		return fmt.Errorf("--sample-percent %v: want a number in [0,100]", o.SamplePercent)
	}
	return nil
}

// checkEngines checks the addresses of the models.
func (o *Options) checkEngines() error {
	server, err := checkEngine("--engine-addr", o.EngineAddr)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range o.Challengers {
		if err := shadow.CheckChallenger(c.Name, names); err != nil {
			return fmt.Errorf("--challenger: %w", err)
		}
		names = append(names, c.Name)
		s, err := checkEngine("--challenger "+c.Name, c.Engine)
		if err != nil {
			return err
		}
		server = server || s
	}
	switch {
	case server && o.EngineSchema == "":
		return errors.New("a model server does not send its model's schema: give --engine-schema (greenlight schema new makes one)")
	case !server && o.EngineSchema != "":
		return errors.New("--engine-schema is for a model server (--engine-addr oip://...): ml-engine sends its model's schema")
	}
	return nil
}

// checkEngine checks the address of a flag, and reports whether it is a model server's.
func checkEngine(flag, addr string) (server bool, err error) {
	if server = oipengine.IsTarget(addr); server {
		_, err = oipengine.ParseTarget(addr)
	} else {
		err = rpc.CheckTarget(addr)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", flag, err)
	}
	return server, err
}
