package serve

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// dropReport is the minimum time between two reports of dropped spans.
const dropReport = time.Minute

// spanQueue exports spans in batches, in the background. The SDK drops spans silently when its queue is full; this queue is
// bounded before it, and reports what it drops.
type spanQueue struct {
	sdktrace.SpanProcessor

	// max is the largest number of spans in export, at most the queue size of the SDK.
	max             int64
	queued, dropped atomic.Int64
	// report gets the number of spans that were dropped since the last report.
	report func(spans int64)

	mu       sync.Mutex // guards reported
	reported time.Time
}

// newSpanQueue starts a queue whose size is OTEL_BSP_MAX_QUEUE_SIZE, 2,048 by default.
func newSpanQueue(exporter sdktrace.SpanExporter, report func(spans int64)) *spanQueue {
	q := &spanQueue{report: report}
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(&queueExporter{exporter, q}, func(o *sdktrace.BatchSpanProcessorOptions) { q.max = int64(o.MaxQueueSize) })
	return q
}

// OnEnd implements sdktrace.SpanProcessor.
func (q *spanQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	if q.queued.Add(1) > q.max {
		q.queued.Add(-1)
		q.dropped.Add(1)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// Shutdown implements sdktrace.SpanProcessor.
func (q *spanQueue) Shutdown(ctx context.Context) error {
	err := q.SpanProcessor.Shutdown(ctx)
	q.tell(0)
	return err
}

// tell reports the dropped spans, unless the last report is younger than least.
func (q *spanQueue) tell(least time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.reported) < least {
		return
	}
	if n := q.dropped.Swap(0); n > 0 {
		q.reported = time.Now()
		q.report(n)
	}
}

// queueExporter removes exported spans from the queue's count. A failed export goes to the SDK's error handler.
type queueExporter struct {
	sdktrace.SpanExporter

	queue *spanQueue
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *queueExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.queue.queued.Add(-int64(len(spans)))
	e.queue.tell(dropReport)
	return err
}
