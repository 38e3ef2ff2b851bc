package spans_test

import (
	"fmt"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/shadow/spans"
)

// record returns a tracer, and the spans that it has ended.
func record() (trace.Tracer, *tracetest.SpanRecorder) {
	ended := tracetest.NewSpanRecorder()
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(ended)).Tracer("test"), ended
}

// A call is linked to its first 64 rows that have a span, in their order, and counts all rows.
func TestLinks(t *testing.T) {
	for _, tt := range []struct{ rows, sampledFrom, want int }{{1, 0, 1}, {64, 0, 64}, {65, 0, 64}, {200, 0, 64}, {100, 50, 50}, {300, 200, 64}} {
		tracer, ended := record()
		all := make([]trace.Span, tt.rows)
		for i := tt.sampledFrom; i < tt.rows; i++ {
			_, all[i] = tracer.Start(t.Context(), "row")
		}
		_, call, _ := spans.Call(t.Context(), tt.rows, func(i int) trace.Span { return all[i] })
		call.End()
		got := ended.Ended()[0]
		if len(got.Links()) != tt.want {
			t.Errorf("%d rows, sampled from row %d: %d links, want %d", tt.rows, tt.sampledFrom, len(got.Links()), tt.want)
			continue
		}
		for i, l := range got.Links() {
			if !l.SpanContext.Equal(all[tt.sampledFrom+i].SpanContext()) {
				t.Errorf("%d rows: link %d is not to row %d", tt.rows, i, tt.sampledFrom+i)
			}
		}
		if rows := attributes(got)["greenlight.rows"]; rows != fmt.Sprint(tt.rows) || got.Parent().IsValid() {
			t.Errorf("%d rows: the span has %q, parent %v", tt.rows, rows, got.Parent())
		}
	}
	if _, call, traceparent := spans.Call(t.Context(), 3, func(int) trace.Span { return nil }); call != nil || traceparent != "" {
		t.Errorf("without a sampled row: %v, %q", call, traceparent)
	}
}

// The spans of a decision and of its shadow name who decided, and why the baseline did.
func TestGate(t *testing.T) {
	reasons := append([]decide.Reason{decide.None}, decide.Reasons()...)
	tracer, ended := record()
	for _, r := range reasons {
		made := decide.Decision{Score: 0.25, Reason: r}
		_, decision := tracer.Start(t.Context(), "decision")
		spans.Gate(decision, made)
		spans.End(spans.Begin(decision, ""), spans.Shadow{Outcome: "match", Gate: &made})
		decision.End()
	}
	all := ended.Ended()
	if len(all) != 2*len(reasons) {
		t.Fatalf("%d spans, want %d", len(all), 2*len(reasons))
	}
	for i, s := range all {
		got, reason := attributes(s), reasons[i/2]
		want := map[string]string{"greenlight.gate.decided_by": "baseline", "greenlight.gate.reason": reason.String()}
		if reason == decide.None {
			want = map[string]string{"greenlight.gate.decided_by": "model"}
		}
		if s.Name() == "shadow" {
			want["greenlight.shadow.outcome"] = "match"
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s of %q: %v, want %v", s.Name(), reason, got, want)
		}
	}
	tracer, ended = record()
	_, decision := tracer.Start(t.Context(), "decision")
	spans.End(spans.Begin(decision, "challenger"), spans.Shadow{Outcome: "deadline", Failed: true})
	want := map[string]string{"greenlight.challenger": "challenger", "greenlight.shadow.outcome": "deadline"}
	if got := attributes(ended.Ended()[0]); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("without a gate: %v, want %v", got, want)
	}
}

func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}
