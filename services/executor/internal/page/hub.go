package page

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

const (
	// interval is how often viewers get a status.
	interval = time.Second
	// maxViewers bounds what idle browser tabs can cost.
	maxViewers = 64
)

// hub sends every viewer the latest status. A slow viewer misses some but delays no one.
type hub struct {
	make   func(context.Context) (*Status, error)
	logger *slog.Logger
	end    func()        // of the goroutine
	came   chan struct{} // holds one token while a viewer waits for its first status

	mu      sync.Mutex
	viewers map[chan []byte]struct{}
	latest  []byte
	made    time.Time // when latest was made
	stopped bool
}

// startHub returns a hub that makes statuses with the function, in one goroutine, until stop is called.
func startHub(status func(context.Context) (*Status, error), logger *slog.Logger) *hub {
	h := &hub{make: status, logger: logger, viewers: map[chan []byte]struct{}{}, came: make(chan struct{}, 1)}
	h.end = serve.Go(h.run)
	return h
}

// stop ends the streams and waits for the goroutine. It may be called more than once.
func (h *hub) stop() {
	h.end()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for v := range h.viewers {
		delete(h.viewers, v)
		close(v)
	}
}

// subscribe returns a channel of statuses, the first of which comes immediately. It is closed when the hub stops. It is nil if
// there are too many viewers or the hub has stopped.
func (h *hub) subscribe() chan []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || len(h.viewers) >= maxViewers {
		return nil
	}
	v := make(chan []byte, 1)
	h.viewers[v] = struct{}{}
	if h.latest != nil && time.Since(h.made) < interval {
		v <- h.latest // frequent requests cost no more than a stream
		return v
	}
	select {
	case h.came <- struct{}{}:
	default:
	}
	return v
}

func (h *hub) unsubscribe(v chan []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.viewers, v)
}

// run makes statuses while there are viewers, and otherwise sleeps without a timer.
func (h *hub) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.came:
		}
		for h.watched() {
			h.publish(ctx)
			select {
			case <-ctx.Done():
				return
			case <-time.After(interval):
			}
		}
	}
}

func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.viewers) > 0
}

// publish makes a status and sends it to all viewers. A slow viewer's unread status is replaced.
func (h *hub) publish(ctx context.Context) {
	status, err := h.make(ctx)
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(status)
	}
	if err != nil {
		h.logger.Error("the status page cannot be updated", "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latest, h.made = raw, time.Now()
	for v := range h.viewers {
		select {
		case <-v:
		default:
		}
		v <- raw // never blocks: the buffer holds one, and only the holder of the lock sends
	}
}
