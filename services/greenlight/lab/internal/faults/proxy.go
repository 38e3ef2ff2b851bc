package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy is a TCP proxy on loopback that can be made ill.
type Proxy struct {
	proxy  *toxiproxy.Proxy
	vanish *vanishing
}

// NewProxy listens on a free port and leads to the upstream.
func NewProxy(upstream string) (*Proxy, error) {
	vanish := registerToxics()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{proxy: toxiproxy.NewProxy(server, "ml-engine", "127.0.0.1:0", upstream), vanish: vanish}
	if err := p.proxy.Start(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return p, nil
}

// Addr is where the proxy listens. It stays the same.
func (p *Proxy) Addr() string { return p.proxy.Listen }

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.proxy.Stop()
	return nil
}

// poison is one ill of the library, or of toxics.go: its type, and its attributes as the library names them.
type poison struct {
	kind string
	// chance is the share of connections that have it, [0,1].
	chance float64
	attrs  map[string]any
	// both is for both directions, not for the answers alone.
	both bool
}

// Poison gives connections the ills, those that there are and those to come.
func (p *Proxy) Poison(ills ...poison) error {
	for _, ill := range ills {
		directions := []string{"downstream"}
		if ill.both {
			directions = append(directions, "upstream")
		}
		for _, direction := range directions {
			raw, err := json.Marshal(map[string]any{
				"type": ill.kind, "stream": direction, "toxicity": ill.chance, "attributes": ill.attrs,
			})
			if err != nil {
				return err
			}
			if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(raw))); err != nil {
				return fmt.Errorf("proxy: %s: %w", ill.kind, err)
			}
		}
	}
	return nil
}

// cureTime is how long connections may take to be rid of their ills: to pass on what is stuck in them.
const cureTime = 15 * time.Second

// Cure ends the ills. Connections go on.
func (p *Proxy) Cure(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.proxy.Toxics.ResetToxics(ctx)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(cureTime):
		// The library waits for a connection that does not take its data. Closing it lets the library go on.
		if err := p.Cut(); err != nil {
			return err
		}
		<-done
		return nil
	}
}

// Cut closes all connections.
func (p *Proxy) Cut() error { return p.Route(p.proxy.Upstream) }

// Refuse refuses connections, and closes those that there are, until [Proxy.Open].
func (p *Proxy) Refuse() { p.proxy.Stop() }

// Open takes connections again.
func (p *Proxy) Open() error { return p.proxy.Start() }

// Route closes all connections, and leads new ones to the upstream.
func (p *Proxy) Route(upstream string) error {
	p.proxy.Stop()
	p.proxy.Upstream = upstream
	return p.proxy.Start()
}
