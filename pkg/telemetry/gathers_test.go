package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// unread is the response to a client that does not read.
type unread struct {
	http.ResponseWriter

	read chan struct{}
}

func (u unread) Write(b []byte) (int, error) {
	<-u.read
	return u.ResponseWriter.Write(b)
}

// A thousand clients that request metrics but do not read them cost the memory of a few, and block no one else.
func TestMetricsForManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		reg := prometheus.NewRegistry()
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "slow", Help: "Takes a while."}, func() float64 {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Millisecond)
			return 1
		}))
		h := telemetry.MetricsHandler(reg)
		ask := func(w http.ResponseWriter) { h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil)) }
		read := make(chan struct{})
		var clients sync.WaitGroup
		for range 1000 {
			clients.Go(func() { ask(unread{httptest.NewRecorder(), read}) })
		}
		synctest.Wait()
		time.Sleep(time.Second)
		scrape := httptest.NewRecorder()
		ask(scrape)
		if scrape.Code != http.StatusOK || !strings.Contains(scrape.Body.String(), "slow 1") {
			t.Errorf("while nobody reads, a scrape has %d: %s", scrape.Code, scrape.Body)
		}
		if n := most.Load(); n > 4 {
			t.Errorf("%d requests were worked on at once", n)
		}
		close(read)
		clients.Wait()
	})
}
