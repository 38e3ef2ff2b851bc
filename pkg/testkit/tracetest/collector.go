// Package tracetest is a collector of OTLP traces, for tests.
package tracetest

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// Collector receives spans on a loopback port.
type Collector struct {
	collectorpb.UnimplementedTraceServiceServer

	// Addr is its host and port.
	Addr string

	mu    sync.Mutex
	spans []Span
}

// Span is a received span.
type Span struct {
	// Service is the sender's name. The ids are hexadecimal; Parent is empty for the root of a trace.
	Service, Name, Trace, ID, Parent string
	// Links are the ids of the linked spans.
	Links []string
	// Attributes are the string, number and boolean attributes.
	Attributes map[string]any
}

// Start serves until the test ends. Without options it is not encrypted.
func Start(t testing.TB, opts ...grpc.ServerOption) *Collector {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{Addr: l.Addr().String()}
	server := grpc.NewServer(opts...)
	collectorpb.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// Export implements the TraceService of OTLP.
func (c *Collector) Export(_ context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		service := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, spanOf(service, s))
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func spanOf(service string, s *tracepb.Span) Span {
	span := Span{
		Service: service, Name: s.GetName(), Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()),
		Parent: hex.EncodeToString(s.GetParentSpanId()), Attributes: map[string]any{},
	}
	for _, l := range s.GetLinks() {
		span.Links = append(span.Links, hex.EncodeToString(l.GetSpanId()))
	}
	for _, a := range s.GetAttributes() {
		v := a.GetValue()
		switch {
		case v.GetStringValue() != "":
			span.Attributes[a.GetKey()] = v.GetStringValue()
		case v.GetDoubleValue() != 0:
			span.Attributes[a.GetKey()] = v.GetDoubleValue()
		case v.GetIntValue() != 0:
			span.Attributes[a.GetKey()] = v.GetIntValue()
		default:
			span.Attributes[a.GetKey()] = v.GetBoolValue()
		}
	}
	return span
}

// Spans returns the spans so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Find returns the spans of that service and name.
func Find(spans []Span, service, name string) (found []Span) {
	for _, s := range spans {
		if s.Service == service && s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// Exemplars returns the trace ids of a histogram's exemplars, from a metrics page in the OpenMetrics format.
func Exemplars(t testing.TB, url, histogram string) (traces []string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if _, after, ok := strings.Cut(line, `# {trace_id="`); ok && strings.HasPrefix(line, histogram+"_bucket{") {
			id, _, _ := strings.Cut(after, `"`)
			traces = append(traces, id)
		}
	}
	return traces
}
