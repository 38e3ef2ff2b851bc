package page

import (
	"fmt"
	"net/http"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

// writeTimeout is how long a viewer may take to receive a status before it is disconnected.
const writeTimeout = 10 * time.Second

// serveEvents streams the statuses as server-sent events.
func (h *hub) serveEvents(w http.ResponseWriter, r *http.Request) {
	serve.SecureHeaders(w.Header())
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	v := h.subscribe()
	if v == nil {
		refuse(w)
		return
	}
	defer h.unsubscribe(v)
	stream := http.NewResponseController(w)
	// The server's read deadline is for requests and would end the stream.
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case raw, open := <-v:
			if !open {
				return
			}
			if err := stream.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", raw); err != nil {
				return
			}
			if err := stream.Flush(); err != nil {
				return
			}
		}
	}
}

// serveStatus answers with one status, for viewers that cannot hold a stream.
func (h *hub) serveStatus(w http.ResponseWriter, r *http.Request) {
	serve.SecureHeaders(w.Header())
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return
	}
	v := h.subscribe()
	if v == nil {
		refuse(w)
		return
	}
	defer h.unsubscribe(v)
	select {
	case <-r.Context().Done():
	case raw, open := <-v:
		if !open {
			refuse(w)
			return
		}
		_, _ = w.Write(raw)
	}
}

func refuse(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "10")
	http.Error(w, fmt.Sprintf("there are %d viewers already, or the executor is stopping: try again later", maxViewers), http.StatusServiceUnavailable)
}
