package serve

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestCollector(t *testing.T) {
	const traces, all = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, tt := range []struct {
		name, given string
		env         map[string]string
		want, err   string
	}{
		{name: "off"},
		{name: "loopback", given: "127.0.0.1:4317", want: "http://127.0.0.1:4317"},
		{name: "IPv6 loopback", given: "[::1]:4317", want: "http://[::1]:4317"},
		{name: "another machine", given: "otel:4317", want: "https://otel:4317"},
		{name: "clear text by choice", given: "http://otel/", want: "http://otel:4317"},
		{name: "from the environment", env: map[string]string{all: "http://a:1"}, want: "http://a:1"},
		{name: "that of traces goes first", env: map[string]string{all: "http://a:1", traces: "https://b:2"}, want: "https://b:2"},
		{name: "the flag goes first", given: "c:3", env: map[string]string{all: "http://a:1"}, want: "https://c:3"},
		{name: "the SDK is disabled", given: "c:3", env: map[string]string{"OTEL_SDK_DISABLED": "true"}},
		{name: "no exporter", given: "c:3", env: map[string]string{"OTEL_TRACES_EXPORTER": "none"}},
		{name: "no port", given: "otel", err: "--otlp-endpoint"},
		{name: "no host", given: ":4317", err: "--otlp-endpoint"},
		{name: "another scheme", given: "ftp://otel:4317", err: "--otlp-endpoint"},
		{name: "a password", given: "http://me:secret@otel:4317", err: "--otlp-endpoint"},
		{name: "a path", given: "http://otel:4318/v1/traces", err: "--otlp-endpoint"},
		{name: "a wrong variable", env: map[string]string{all: "otel"}, err: all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Tracing{Endpoint: tt.given, Getenv: func(name string) string { return tt.env[name] }}
			got, err := o.collector()
			if got != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestSampler(t *testing.T) {
	sampled := func(s sdktrace.Sampler, parent trace.TraceFlags, links ...trace.Link) bool {
		id := trace.SpanContextConfig{TraceID: trace.TraceID{0xff}, SpanID: trace.SpanID{1}, TraceFlags: parent, Remote: true}
		ctx := t.Context()
		if parent != 0xff {
			ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(id))
		}
		// The id is above every limit of a ratio below 1.
		p := sdktrace.SamplingParameters{ParentContext: ctx, TraceID: trace.TraceID{8: 0xff, 9: 0xff, 10: 0xff}, Links: links}
		return s.ShouldSample(p).Decision == sdktrace.RecordAndSample
	}
	const none = 0xff
	link := trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})}
	for name, tt := range map[string]struct {
		ratio                       float64
		env, arg                    string
		root, sampledBy, notSampled bool // traces started here, and traces that callers sample and do not sample
		err                         string
	}{
		"default":                 {ratio: defaultTraceRatio, sampledBy: true},
		"all":                     {ratio: 1, root: true, sampledBy: true},
		"a wrong ratio":           {ratio: 1.5, err: "--trace-ratio"},
		"the variable overrides":  {ratio: 1, env: "parentbased_always_off", sampledBy: true},
		"without a parent's word": {env: "always_on", root: true, sampledBy: true, notSampled: true},
		"a ratio":                 {env: "traceidratio", arg: "0.5"},
		"a standard default":      {env: "parentbased_traceidratio", root: true, sampledBy: true},
		"a wrong argument":        {env: "traceidratio", arg: "2", err: "OTEL_TRACES_SAMPLER_ARG"},
		"an unknown sampler":      {env: "jaeger_remote", err: "OTEL_TRACES_SAMPLER"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"OTEL_TRACES_SAMPLER": tt.env, "OTEL_TRACES_SAMPLER_ARG": tt.arg}
			o := Tracing{Ratio: tt.ratio, Getenv: func(name string) string { return env[name] }}
			s, err := o.sampler()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error about %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if root, yes, no := sampled(s, none), sampled(s, trace.FlagsSampled), sampled(s, 0); root != tt.root || yes != tt.sampledBy || no != tt.notSampled {
				t.Errorf("root %t, sampled by its caller %t, not sampled %t; want %t, %t, %t", root, yes, no, tt.root, tt.sampledBy, tt.notSampled)
			}
			if !sampled(s, none, link) {
				t.Error("what is linked to a sampled span is not sampled")
			}
		})
	}
}

// slowCollector takes a batch for each value in the channel.
type slowCollector struct {
	next     chan struct{}
	exported int64
}

func (c *slowCollector) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	<-c.next
	c.exported += int64(len(spans))
	return nil
}

func (c *slowCollector) Shutdown(context.Context) error { return nil }

// Every span is exported or reported as dropped, at most once a minute and at the stop.
func TestDroppedSpansAreReported(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
	synctest.Test(t, func(t *testing.T) {
		c := &slowCollector{next: make(chan struct{})}
		var reports []int64
		q := newSpanQueue(c, func(n int64) { reports = append(reports, n) })
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(q))
		burst := func() { // of 20 spans, 8 of which have room
			for range 20 {
				_, span := provider.Tracer("test").Start(t.Context(), "span")
				span.End()
			}
			c.next <- struct{}{}
			synctest.Wait()
		}
		for _, step := range []struct {
			wait time.Duration
			want []int64
		}{{0, []int64{12}}, {time.Minute - time.Second, []int64{12}}, {time.Second, []int64{12, 24}}, {time.Second, []int64{12, 24}}} {
			time.Sleep(step.wait)
			if burst(); !slices.Equal(reports, step.want) {
				t.Errorf("reported %d, want %d", reports, step.want)
			}
		}
		if err := provider.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if want := []int64{12, 24, 12}; !slices.Equal(reports, want) || c.exported != 32 {
			t.Errorf("reported %d, exported %d; want %d, 32", reports, c.exported, want)
		}
	})
}
