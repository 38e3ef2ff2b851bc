// Package spans creates the spans of shadows and of calls to ml-engine. They contain no feature values.
package spans

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// maxLinks is how many rows a call's span links to. Further rows of a batch have no link.
const maxLinks = 64

// Shadow is how a shadow ended.
type Shadow struct {
	Outcome, Version string
	// Delta is set if the shadow was compared.
	Delta *float64
	// Gate is the decision of the gate; nil if none is set.
	Gate *decide.Decision
	// Failed is set if the outcome is a failure.
	Failed bool
}

// Begin starts the span of a shadow, a child of its decision's span, which may end first. challenger is empty for the model
// under trial. If the decision is not sampled, its span is nil, and so is this one.
func Begin(decision trace.Span, challenger string) trace.Span {
	if decision == nil {
		return nil
	}
	_, span := telemetry.SpanTracer(decision).Start(trace.ContextWithSpan(context.Background(), decision), "shadow")
	if challenger != "" {
		span.SetAttributes(attribute.String("greenlight.challenger", challenger))
	}
	return span
}

// End ends the span of a shadow.
func End(span trace.Span, s Shadow) {
	span.SetAttributes(attribute.String("greenlight.shadow.outcome", s.Outcome))
	if s.Version != "" {
		span.SetAttributes(attribute.String("greenlight.model.version", s.Version))
	}
	if s.Delta != nil {
		span.SetAttributes(attribute.Float64("greenlight.shadow.delta", *s.Delta))
	}
	if s.Gate != nil {
		Gate(span, *s.Gate)
	}
	if s.Failed {
		span.SetStatus(codes.Error, s.Outcome)
	}
	span.End()
}

// Gate sets the decision of a gate. A decision for the model has no reason.
func Gate(span trace.Span, d decide.Decision) {
	const by = "greenlight.gate.decided_by"
	if d.ByModel() {
		span.SetAttributes(attribute.String(by, "model"))
	} else {
		span.SetAttributes(attribute.String(by, "baseline"), attribute.String("greenlight.gate.reason", d.Reason.String()))
	}
}

// Call starts the span of a call to ml-engine. row returns the span of each row's shadow, or nil. The call's span begins a
// separate trace and links to the rows, which may belong to many traces. Call returns the context for a unary call and the
// traceparent for a message. If no row is sampled, the span is nil.
func Call(ctx context.Context, rows int, row func(int) trace.Span) (_ context.Context, span trace.Span, traceparent string) {
	var links []trace.Link
	var first trace.Span
	for i := range rows {
		if s := row(i); s != nil && len(links) < maxLinks {
			if first == nil {
				first = s
			}
			links = append(links, trace.Link{SpanContext: s.SpanContext()})
		}
	}
	if first == nil {
		return ctx, nil, ""
	}
	ctx, span = telemetry.SpanTracer(first).Start(ctx, "ml-engine batch", trace.WithNewRoot(), trace.WithLinks(links...),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.Int("greenlight.rows", rows)))
	traceparent = telemetry.TraceParent(span)
	return metadata.AppendToOutgoingContext(ctx, telemetry.TraceHeader, traceparent), span, traceparent
}
