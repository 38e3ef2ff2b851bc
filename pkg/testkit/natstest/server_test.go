package natstest

import (
	"runtime"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// recorder records a test's Fatal, which ends its goroutine as in a test.
type recorder struct {
	testing.TB

	cleanups []func()
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Fatal(...any) { runtime.Goexit() }

// If a later server cannot start, the test stops the ones that have started.
func TestStartFails(t *testing.T) {
	r := &recorder{TB: t}
	c := &Cluster{t: r}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.start(3, func(o *server.Options) {
			if o.ServerName == "server-1" {
				o.ServerName = "not a name" // the server refuses spaces
			}
		})
	}()
	<-done
	first := c.servers[0]
	if !first.Running() || c.servers[1] != nil {
		t.Fatalf("want one server that runs: got %v", c.servers)
	}
	for _, f := range r.cleanups {
		f()
	}
	if first.Running() {
		t.Error("the first server still runs")
	}
}
