package telemetry_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

func newLogger(t *testing.T, w io.Writer, format string) *slog.Logger {
	t.Helper()
	logger, err := telemetry.NewLogger(w, "info", format)
	if err != nil {
		t.Fatal(err)
	}
	return logger
}

type odd struct{ Text string }

type valuer struct{ s string }

func (v valuer) LogValue() slog.Value { return slog.StringValue(v.s) }

// Whatever the values, lines are short and contain no bytes that move a terminal's cursor or start another line.
func TestLogLinesAreShort(t *testing.T) {
	const evil = "v1\x1b[2J\xff\u009b\u202e\nlevel=ERROR msg=forged\r"
	mega := evil + strings.Repeat("v", 3<<20)
	for _, format := range []string{"text", "json"} {
		for name, log := range map[string]func(*slog.Logger){
			"a string":     func(l *slog.Logger) { l.Info("seen", "v", mega) },
			"an error":     func(l *slog.Logger) { l.Info("seen", "v", errors.New(mega)) },
			"a struct":     func(l *slog.Logger) { l.Info("seen", "v", odd{mega}) },
			"bytes":        func(l *slog.Logger) { l.Info("seen", "v", []byte(mega)) },
			"a LogValuer":  func(l *slog.Logger) { l.Info("seen", "v", valuer{mega}) },
			"a group":      func(l *slog.Logger) { l.Info("seen", slog.Group("g", "v", mega, "w", mega)) },
			"the message":  func(l *slog.Logger) { l.Info(mega) }, //nolint:sloglint // a misuse that must be bounded
			"with":         func(l *slog.Logger) { l.With("v", mega).WithGroup("g").Info("seen", "w", mega) },
			"many values":  func(l *slog.Logger) { l.Info("seen", manyValues(mega)...) },
			"an audit":     func(l *slog.Logger) { telemetry.Audit(l).Info("seen", "v", mega) },
			"with audited": func(l *slog.Logger) { telemetry.Audit(l.With("v", mega)).Info("seen", "w", mega) },
		} {
			var out strings.Builder
			log(newLogger(t, &out, format))
			got := out.String()
			if len(got) == 0 || len(got) > 16<<10 || strings.Count(got, "\n") != 1 || !utf8.ValidString(got) || strings.ContainsAny(got, "\x1b\u009b\u202e\r") {
				t.Errorf("%s, %s: got %d bytes, %.300q", format, name, len(got), got)
			}
		}
	}
}

func manyValues(v string) (args []any) {
	for i := range 40 {
		args = append(args, fmt.Sprint("v", i), v)
	}
	return args
}

// Short values are unchanged.
func TestLogValuesStay(t *testing.T) {
	var text, json strings.Builder
	for _, l := range []*slog.Logger{newLogger(t, &text, "text"), newLogger(t, &json, "json")} {
		l.Info("seen", "n", 1, "took", time.Second, "error", errors.Join(errors.New("a"), errors.New("b")), "none", nil, "addr", &net.TCPAddr{Port: 1}, "name", "Zürich")
	}
	if want := `msg=seen n=1 took=1s error="a\nb" none=<nil> addr=:1 name=Zürich` + "\n"; !strings.HasSuffix(text.String(), want) {
		t.Errorf("got %s, want %s", text.String(), want)
	}
	if want := `"msg":"seen","n":1,"took":1000000000,"error":"a\nb","none":null,"addr":":1","name":"Zürich"}` + "\n"; !strings.HasSuffix(json.String(), want) {
		t.Errorf("got %s, want %s", json.String(), want)
	}
}

func TestLogRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := newLogger(t, &out, "text")
		lines := func() (n int) {
			n = strings.Count(out.String(), "\n")
			out.Reset()
			return n
		}
		child := l.With("of", "a child") // shares the counts
		for range 500 {
			l.Info("flood")
			child.Info("flood")
		}
		l.Warn("another")
		l.Debug("not enabled")
		if n := lines(); n != 11 {
			t.Errorf("a flood and another message: %d lines, want 10 and 1", n)
		}
		time.Sleep(59 * time.Second)
		l.Info("flood")
		if n := lines(); n != 0 {
			t.Errorf("within the minute: %d lines", n)
		}
		time.Sleep(time.Second)
		l.Info("flood")
		l.Info("flood")
		if got := out.String(); strings.Count(got, "suppressed=991") != 1 || lines() != 2 {
			t.Errorf("a minute later: got %s", got)
		}
		// Messages that differ each time share one count.
		for i := range 10_000 {
			l.Info(fmt.Sprint("message ", i)) //nolint:sloglint // a misuse that must be bounded
		}
		if n := lines(); n > 150 {
			t.Errorf("10,000 different messages: %d lines", n)
		}
		time.Sleep(time.Minute)
		l.Info("the next")
		if n := lines(); n != 1 {
			t.Errorf("after them: %d lines, want 1", n)
		}
		audit := telemetry.Audit(child)
		for range 500 {
			audit.Info("flood")
		}
		if n := lines(); n != 500 {
			t.Errorf("an audit: %d lines, want 500", n)
		}
	})
}

func TestAuditOfAnotherHandler(t *testing.T) {
	l := slog.New(slog.DiscardHandler)
	if telemetry.Audit(l) != l {
		t.Error("the logger was changed")
	}
}

func TestLinesThatAreNotEnabledCostNothing(t *testing.T) {
	l := newLogger(t, io.Discard, "text")
	if n := testing.AllocsPerRun(100, func() { l.Debug("seen", "v", "text") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
