package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Limits of the log, so that no remote client can fill the disk with large or frequent requests.
const (
	// maxLogMessage limits a message, maxLogValue one value and maxLogLine all values of a line, in bytes.
	maxLogMessage, maxLogValue, maxLogLine = 256, 1 << 10, 8 << 10
	// A message is logged at most logBurst times per logPeriod. The rest is counted.
	logBurst, logPeriod = 10, time.Minute
	// maxLogMessages is how many messages have a separate count per period. Messages are constants, so there are fewer;
	// any others share one count.
	maxLogMessages = 128
)

// bounded is a handler that limits the length of lines and the rate of each message.
type bounded struct {
	slog.Handler

	rates *logRates // nil suppresses no message
}

// BoundLog returns a handler that bounds lines and the rate of each message. The next line after suppressed ones reports their
// number.
func BoundLog(h slog.Handler) slog.Handler {
	return bounded{h, &logRates{messages: map[string]*logRate{}}}
}

// Audit returns a logger that suppresses no line but bounds its length like the others. Use it for actions of operators, not
// for lines that any remote client can trigger.
func Audit(logger *slog.Logger) *slog.Logger {
	if b, ok := logger.Handler().(bounded); ok {
		return slog.New(bounded{b.Handler, nil})
	}
	return logger
}

// Handle implements slog.Handler.
func (b bounded) Handle(ctx context.Context, r slog.Record) error {
	message := cleanText(r.Message, maxLogMessage)
	suppressed, pass := b.rates.pass(message)
	if !pass {
		return nil
	}
	line := slog.NewRecord(r.Time, r.Level, message, r.PC)
	room := maxLogLine
	r.Attrs(func(a slog.Attr) bool {
		line.AddAttrs(cleanAttr(a, &room))
		return true
	})
	if suppressed > 0 {
		line.AddAttrs(slog.Uint64("suppressed", suppressed))
	}
	return b.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (b bounded) WithAttrs(attrs []slog.Attr) slog.Handler {
	room := maxLogLine
	return bounded{b.Handler.WithAttrs(cleanAttrs(attrs, &room)), b.rates}
}

// WithGroup implements slog.Handler.
func (b bounded) WithGroup(name string) slog.Handler {
	return bounded{b.Handler.WithGroup(name), b.rates}
}

func cleanAttrs(attrs []slog.Attr, room *int) []slog.Attr {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = cleanAttr(a, room)
	}
	return clean
}

// cleanAttr bounds the value. Numbers and times stay as they are, everything else becomes text.
func cleanAttr(a slog.Attr, room *int) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		v = slog.GroupValue(cleanAttrs(v.Group(), room)...)
	case slog.KindString:
		v = cleanValue(v.String(), room)
	case slog.KindAny:
		if v.Any() != nil {
			v = cleanValue(fmt.Sprintf("%+v", v.Any()), room)
		}
	case slog.KindBool, slog.KindDuration, slog.KindFloat64, slog.KindInt64, slog.KindTime, slog.KindUint64, slog.KindLogValuer:
	}
	return slog.Attr{Key: a.Key, Value: v}
}

func cleanValue(s string, room *int) slog.Value {
	s = cleanText(s, min(maxLogValue, *room))
	*room -= len(s)
	return slog.StringValue(s)
}

// cleanText applies text.Clean to each line. It keeps line breaks, since handlers escape them and errors and stacks have them.
func cleanText(s string, limit int) string {
	lines := strings.Split(strings.ReplaceAll(text.Cut(s, limit), "\t", " "), "\n")
	for i, l := range lines {
		lines[i] = text.Clean(l, limit)
	}
	return text.Cut(strings.Join(lines, "\n"), limit)
}

// logRates counts how often each message was logged in the current period. A nil logRates passes everything.
type logRates struct {
	mu       sync.Mutex
	began    time.Time // when the period began
	messages map[string]*logRate
	others   logRate // shared by messages beyond maxLogMessages
}

// logRate is a message's count in the period, and its suppressed lines since the last logged one.
type logRate struct {
	lines      int
	suppressed uint64
}

// pass reports whether the message may be logged now, and how many lines of it were suppressed before.
func (l *logRates) pass(message string) (suppressed uint64, ok bool) {
	if l == nil {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.began) >= logPeriod {
		l.next(now)
	}
	r := l.messages[message]
	switch {
	case r != nil:
	case len(l.messages) < maxLogMessages:
		r = &logRate{}
		l.messages[message] = r
	default:
		r = &l.others
	}
	if r.lines++; r.lines > logBurst {
		r.suppressed++
		return 0, false
	}
	suppressed, r.suppressed = r.suppressed, 0
	return suppressed, true
}

// next starts a period. It drops messages without suppressed lines, and all messages if there are too many.
func (l *logRates) next(now time.Time) {
	l.began, l.others.lines = now, 0
	if len(l.messages) == maxLogMessages {
		clear(l.messages)
	}
	for message, r := range l.messages {
		if r.lines = 0; r.suppressed == 0 {
			delete(l.messages, message)
		}
	}
}

// NewLogger returns a logger that writes to w at the level ("debug", "info", "warn", "error") in the format ("text",
// "json"). Its lines are bounded, and each message is logged at most ten times a minute; see [Audit].
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(BoundLog(slog.NewTextHandler(w, opts))), nil
	case "json":
		return slog.New(BoundLog(slog.NewJSONHandler(w, opts))), nil
	}
	return nil, fmt.Errorf("log format %q: want text or json", format)
}
