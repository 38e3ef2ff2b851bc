package rpc_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/connectivity"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// The client pings while nothing is asked, and the server takes no offence: through a quiet night the connection is the
// same, and the first call of the morning takes no time to connect.
func TestConnectionOutlivesAQuietNight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, &stub{predict: answer})
		if _, err := p.client.Predict(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		changed := make(chan bool, 1)
		go func() { changed <- p.conn.WaitForStateChange(ctx, connectivity.Ready) }()
		time.Sleep(12 * time.Hour)
		select {
		case <-changed:
			t.Fatalf("the connection left READY for %v", p.conn.GetState())
		default:
		}
		start := time.Now()
		if _, err := p.client.Predict(t.Context(), nil); err != nil || time.Since(start) != 0 {
			t.Errorf("first call of the morning: got %v after %v", err, time.Since(start))
		}
		_ = p.conn.Close()
		<-changed
	})
}

func TestDialConnectsWithoutACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, &stub{predict: answer})
		synctest.Wait()
		if got := p.conn.GetState(); got != connectivity.Ready {
			t.Errorf("state: got %v, want READY", got)
		}
	})
}

func TestDialRefuses(t *testing.T) {
	if _, err := rpc.Dial("dns://%%", nil); err == nil {
		t.Error("a target that is no address: got no error")
	}
	reg := prometheus.NewRegistry()
	for i, wantErr := range []bool{false, true} {
		conn, err := rpc.Dial("127.0.0.1:1", reg)
		if (err != nil) != wantErr {
			t.Errorf("dial %d with one registry: got %v", i, err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}
