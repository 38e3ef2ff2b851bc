package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

const (
	// defaultTraceRatio is the share of locally started traces that is sampled.
	defaultTraceRatio = 0.01
	// flushTraces bounds the export of the last spans at a stop, and abortTraces the wait for a running export after that.
	flushTraces, abortTraces = 2 * time.Second, 100 * time.Millisecond
)

// Tracing configures the export of traces, which is off without an endpoint.
type Tracing struct {
	// Endpoint is the collector: host:port or a URL. Empty uses the standard variables.
	Endpoint string
	// Ratio is the share of locally started traces that is sampled, in [0,1]. OTEL_TRACES_SAMPLER overrides it.
	Ratio float64
	// Getenv, if set, returns a standard variable of OpenTelemetry. The SDK reads the other variables itself.
	Getenv func(string) string
}

// Declare declares the options as flags.
func (o *Tracing) Declare(fs *flag.FlagSet) {
	fs.StringVar(&o.Endpoint, "otlp-endpoint", "", "`address` of the OTLP/gRPC collector for traces: host:port or a URL; uses TLS except on loopback or with http://; default: OTEL_EXPORTER_OTLP_ENDPOINT, or no traces if that is not set")
	fs.Float64Var(&o.Ratio, "trace-ratio", defaultTraceRatio, "`share` of the traces started here that are sampled, in [0,1]; a caller's trace is sampled if the caller samples it; OTEL_TRACES_SAMPLER overrides it")
}

func (o *Tracing) env(name string) string {
	if o.Getenv == nil {
		return ""
	}
	return strings.TrimSpace(o.Getenv(name))
}

// collector returns the URL of the collector; empty if traces are off.
func (o *Tracing) collector() (string, error) {
	given, what := o.Endpoint, "--otlp-endpoint"
	if strings.EqualFold(o.env("OTEL_SDK_DISABLED"), "true") || o.env("OTEL_TRACES_EXPORTER") == "none" {
		return "", nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if given == "" {
			given, what = o.env(name), name
		}
	}
	if given == "" {
		return "", nil
	}
	if scheme, _, ok := strings.Cut(given, "://"); ok {
		u, err := url.Parse(given)
		if err != nil || scheme != "http" && scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
			return "", fmt.Errorf("%s %q: want host:port, http://host:port or https://host:port", what, given)
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), "4317")
		}
		return scheme + "://" + u.Host, nil
	}
	host, port, err := net.SplitHostPort(given)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" {
		return "", fmt.Errorf("%s %q: want host:port, http://host:port or https://host:port", what, given)
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return "http://" + given, nil
	}
	return "https://" + given, nil
}

// sampler returns the sampler of the flag or of the standard variables.
func (o *Tracing) sampler() (sdktrace.Sampler, error) {
	name, ratio := o.env("OTEL_TRACES_SAMPLER"), o.Ratio
	if name == "" && !(ratio >= 0 && ratio <= 1) {
		return nil, fmt.Errorf("--trace-ratio %v: want a number from 0 to 1", ratio)
	}
	if name != "" {
		ratio = 1 // the default of the standard
	}
	if arg := o.env("OTEL_TRACES_SAMPLER_ARG"); name != "" && arg != "" {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG %q: want a number from 0 to 1", arg)
		}
	}
	base, parent := strings.CutPrefix(name, "parentbased_")
	var root sdktrace.Sampler
	switch base {
	case "":
		root, parent = sdktrace.TraceIDRatioBased(ratio), true
	case "traceidratio":
		root = sdktrace.TraceIDRatioBased(ratio)
	case "always_on":
		root = sdktrace.AlwaysSample()
	case "always_off":
		root = sdktrace.NeverSample()
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER %q: want always_on, always_off, traceidratio, or one of these with parentbased_ before it", name)
	}
	if parent {
		root = sdktrace.ParentBased(root)
	}
	return linked{root}, nil
}

// linked also samples spans that link to sampled spans: a call to ml-engine with rows of sampled decisions.
type linked struct{ sdktrace.Sampler }

// ShouldSample implements sdktrace.Sampler.
func (s linked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	for _, l := range p.Links {
		if l.SpanContext.IsSampled() {
			return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
		}
	}
	return s.Sampler.ShouldSample(p)
}

// Validate returns an error for values that are wrong on any machine.
func (o *Tracing) Validate() error {
	_, err := o.collector()
	_, wrong := o.sampler()
	return errors.Join(err, wrong)
}

// trace exports traces until the service stops. Without an endpoint it does nothing, and Tracer stays nil.
func (a *App) trace(ctx context.Context, program string) error {
	endpoint, err := a.opts.Tracing.collector()
	if err != nil || endpoint == "" {
		return Usage(err)
	}
	sampler, err := a.opts.Tracing.sampler()
	if err != nil {
		return Usage(err)
	}
	// The SDK has one error handler per process. The logger limits its rate.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		a.logger.Warn("spans are lost: check the trace collector", "collector", endpoint, "error", err)
	}))
	otel.SetLogger(logr.FromSlogHandler(a.logger.Handler()))
	of, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", program), attribute.String("service.version", telemetry.BuildOf().Version),
	), resource.WithFromEnv())
	if err != nil {
		return fmt.Errorf("traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint)) // dials in the background
	if err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	queue := newSpanQueue(exporter, func(spans int64) {
		a.logger.Warn("spans were dropped: the trace collector is too slow; sample fewer, or set OTEL_BSP_MAX_QUEUE_SIZE", "spans", spans, "collector", endpoint)
	})
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(queue), sdktrace.WithSampler(sampler), sdktrace.WithResource(of))
	a.Tracer = telemetry.NewTracer(provider)
	a.OnStop("traces", func(ctx context.Context) error {
		flush, cancel := context.WithTimeout(ctx, flushTraces)
		defer cancel()
		if err := provider.Shutdown(flush); err != nil { // a missing collector is not a failure of the service
			a.logger.Warn("spans were lost at shutdown: check the trace collector", "collector", endpoint, "error", err)
			abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTraces)
			defer cancel()
			_ = exporter.Shutdown(abort) // ends the retries, which Shutdown of the provider leaves behind
		}
		return nil
	})
	a.logger.Info("traces are exported", "collector", endpoint, "sampler", sampler.Description())
	return nil
}

// traced starts a span for each POST.
func (a *App) traced(next http.Handler) http.Handler {
	if a.Tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		ctx, span := a.Tracer.Serve(r.Context(), r.Method, r.Header.Get(telemetry.TraceHeader))
		r = r.WithContext(ctx)
		if span != nil {
			defer span.End()
			defer func() { span.SetName(r.Pattern) }() // set by the mux
		}
		next.ServeHTTP(w, r)
	})
}
