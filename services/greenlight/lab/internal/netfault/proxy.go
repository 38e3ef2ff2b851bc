// Package netfault provides the network faults of the lab: a TCP proxy that injects them, and a name server that stops
// answering.
package netfault

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy is a TCP proxy on loopback that injects faults.
type Proxy struct{ proxy *toxiproxy.Proxy }

// NewProxy listens on a free port and forwards to the upstream.
func NewProxy(upstream string) (*Proxy, error) {
	registerToxics()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{proxy: toxiproxy.NewProxy(server, "ml-engine", "127.0.0.1:0", upstream)}
	if err := p.proxy.Start(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return p, nil
}

// Addr returns the address of the proxy, which never changes.
func (p *Proxy) Addr() string { return p.proxy.Listen }

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.proxy.Stop()
	return nil
}

// Poison is a toxic from the library or from toxics.go: its type, and its attributes under the library's names.
type Poison struct {
	Kind string
	// Chance is the share of connections that get it, [0,1].
	Chance float64
	Attrs  map[string]any
	// Both also affects requests; otherwise only answers are affected.
	Both bool
}

// Poison adds the toxics to all connections, present and future.
func (p *Proxy) Poison(poisons ...Poison) error {
	for _, one := range poisons {
		directions := []string{"downstream"}
		if one.Both {
			directions = append(directions, "upstream")
		}
		for _, direction := range directions {
			raw, err := json.Marshal(map[string]any{
				"type": one.Kind, "stream": direction, "toxicity": one.Chance, "attributes": one.Attrs,
			})
			if err != nil {
				return err
			}
			if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(raw))); err != nil {
				return fmt.Errorf("proxy: %s: %w", one.Kind, err)
			}
		}
	}
	return nil
}

// Vanish makes the packets of connections with a [VanishKind] vanish, or stops that for new connections.
func (p *Proxy) Vanish(on bool) { vanishing.Store(on) }

// cureTime is how long connections may take to forward the data that a toxic holds back.
const cureTime = 15 * time.Second

// Cure removes the toxics. Connections stay open.
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
		// The library waits for connections that do not read their data. Closing them unblocks the library.
		if err := p.Cut(); err != nil {
			return err
		}
		<-done
		return nil
	}
}

// Cut closes all connections.
func (p *Proxy) Cut() error { return p.Route(p.proxy.Upstream) }

// Refuse closes all connections and refuses new ones until [Proxy.Open].
func (p *Proxy) Refuse() { p.proxy.Stop() }

// Open accepts connections again.
func (p *Proxy) Open() error { return p.proxy.Start() }

// Route closes all connections and forwards new ones to the upstream.
func (p *Proxy) Route(upstream string) error {
	p.proxy.Stop()
	p.proxy.Upstream = upstream
	return p.proxy.Start()
}
