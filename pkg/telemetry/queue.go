package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// maxQueued is how many lines may wait. The values of a bounded line have at most maxLogLine bytes, so they take at most 8 MB.
	maxQueued = 1024
	// flushWait is how long a program waits for the last lines before it exits.
	flushWait = time.Second
)

// Queued returns a logger whose caller never waits: a goroutine writes the lines. While the writer is stuck, for example at a
// pipe without a reader, up to 1,024 lines wait; further lines are dropped and counted. Call flush at the end of the program: it
// writes the waiting lines, for at most a second. Later lines are lost. logger must come from [NewLogger].
func Queued(logger *slog.Logger) (queued *slog.Logger, flush func()) {
	b := logger.Handler().(bounded) //nolint:forcetypeassert // documented
	q := &logQueue{lines: make(chan queuedLine, maxQueued), end: make(chan struct{}), ended: make(chan struct{})}
	go q.write(b.Handler)
	return slog.New(bounded{queuedHandler{b.Handler, q}, b.rates}), q.flush
}

// logQueue holds the waiting lines.
type logQueue struct {
	lines      chan queuedLine
	dropped    atomic.Uint64
	end, ended chan struct{}
}

// queuedLine is a line and the handler that writes it.
type queuedLine struct {
	handler slog.Handler
	record  slog.Record
}

// write writes lines until flush is called, then the waiting ones.
func (q *logQueue) write(h slog.Handler) {
	defer close(q.ended)
	ctx := context.Background()
	for {
		if len(q.lines) == 0 {
			if n := q.dropped.Swap(0); n > 0 {
				r := slog.NewRecord(time.Now(), slog.LevelError, "log lines were lost: the writer was stuck", 0)
				r.AddAttrs(slog.Uint64("lines", n))
				_ = h.Handle(ctx, r)
			}
		}
		select {
		case l := <-q.lines:
			_ = l.handler.Handle(ctx, l.record) // an error cannot be reported anywhere
		case <-q.end:
			if len(q.lines) == 0 {
				return
			}
		}
	}
}

func (q *logQueue) flush() {
	close(q.end)
	t := time.NewTimer(flushWait)
	defer t.Stop()
	select {
	case <-q.ended:
	case <-t.C:
	}
}

// queuedHandler puts lines into the queue.
type queuedHandler struct {
	slog.Handler

	queue *logQueue
}

// Handle implements slog.Handler. It does not wait.
func (h queuedHandler) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.queue.lines <- queuedLine{h.Handler, r}:
	default:
		h.queue.dropped.Add(1)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h queuedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queuedHandler{h.Handler.WithAttrs(attrs), h.queue}
}

// WithGroup implements slog.Handler.
func (h queuedHandler) WithGroup(name string) slog.Handler {
	return queuedHandler{h.Handler.WithGroup(name), h.queue}
}
