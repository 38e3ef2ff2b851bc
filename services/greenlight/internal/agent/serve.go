package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

// stopGrace is how long the agent may take to stop.
const stopGrace = 12 * time.Second

// Serve runs the agent, and srv at the HTTP address addr, until ctx ends. The bound address goes to the file addresses, if
// that is not empty.
func (a *Agent) Serve(ctx context.Context, srv *http.Server, addr, addresses string) error {
	var stack serve.Stack
	listener, err := stack.Listen(ctx, addr, "--metrics-listen")
	if err != nil {
		return err
	}
	stack.OnStop("metrics", srv.Shutdown)
	stack.Serve("metrics", func() error { return serve.ServeHTTP(srv, listener) })
	agentCtx, stop := context.WithCancel(ctx)
	defer stop()
	stack.OnStop("agent", func(context.Context) error { stop(); return nil })
	stack.Serve("agent", func() error { return a.Run(agentCtx, clockwork.NewRealClock()) })
	a.Logger.Info("listening", "metrics", listener.Addr().String())
	if err := serve.WriteAddresses(addresses, map[string]net.Addr{"metrics": listener.Addr()}); err != nil {
		return errors.Join(err, stack.Stop(ctx, stopGrace))
	}
	stack.Start(ctx)
	return stack.Wait(ctx, stopGrace, a.Logger)
}
