package telemetry_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// stuckWriter blocks every write until it is opened.
type stuckWriter struct {
	open chan struct{}
	mu   sync.Mutex
	text strings.Builder
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	<-w.open
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *stuckWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// A caller does not wait for a stuck writer. Lines keep their order and attributes, and the lost ones are counted.
func TestQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{open: make(chan struct{})}
		logger, flush := telemetry.Queued(newLogger(t, w, "json"))
		audit := telemetry.Audit(logger).With("service", "executor").WithGroup("call")
		const logged = 5000
		start := time.Now()
		for i := range logged {
			audit.Info(fmt.Sprint("line-", i), "n", i) //nolint:sloglint // numbered for this test
			if i == 0 {
				synctest.Wait() // the goroutine is stuck at this line, so exactly 1,024 more are kept
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the caller waited for %v", took)
		}
		close(w.open)
		synctest.Wait()
		logger.Info("last")
		flush()
		lines := strings.Split(strings.TrimSpace(w.String()), "\n")
		kept := len(lines) - 2
		for i, l := range lines[:kept] {
			if !strings.Contains(l, fmt.Sprintf(`"msg":"line-%d","service":"executor","call":{"n":%d}`, i, i)) {
				t.Fatalf("line %d: %s", i, l)
			}
		}
		if lost := fmt.Sprintf(`"lines":%d}`, logged-kept); kept != 1025 || !strings.Contains(lines[kept], lost) || !strings.Contains(lines[kept+1], "last") {
			t.Errorf("%d lines were kept, then: %s", kept, strings.Join(lines[kept:], "\n"))
		}
	})
}

// At its end a program writes the waiting lines, but does not wait long for a stuck writer.
func TestQueuedEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{open: make(chan struct{})}
		logger, flush := telemetry.Queued(newLogger(t, w, "text"))
		logger.Info("one")
		start := time.Now()
		flush()
		if took := time.Since(start); took != time.Second {
			t.Errorf("the end waited for %v, want 1 s", took)
		}
		close(w.open)
		synctest.Wait()
		if !strings.Contains(w.String(), "msg=one") {
			t.Errorf("got %q", w.String())
		}
	})
}
