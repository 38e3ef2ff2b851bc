// Package natshost runs a cluster of three NATS servers in this process, behind proxies, outside of tests.
package natshost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/netfault"
)

// N is the number of servers.
const N = 3

// Servers are NATS servers behind proxies.
type Servers struct {
	cluster *natstest.Cluster
	ctx     context.Context //nolint:containedctx // the proxies need it
	proxies []*netfault.Proxy
	// down and frozen mark the faulty servers.
	down, frozen [N]bool
}

// startTries bounds the attempts to start the servers.
const startTries = 3

// With starts three servers, calls use, and stops them. Dir holds their storage, and is removed.
func With(ctx context.Context, dir string, use func(*Servers) error) (err error) {
	h := &host{ctx: ctx, dir: dir}
	defer h.end()
	s := &Servers{ctx: ctx}
	for try := 1; s.cluster == nil; try++ {
		err := h.run(func() error { s.cluster = natstest.Start(h, N); return nil })
		if err != nil && try == startTries {
			return err
		}
		if err != nil { // another program may have taken a free port
			h.end()
		}
	}
	return h.run(func() error { return s.proxied(h, use) })
}

// proxied puts proxies before the servers, and calls use.
func (s *Servers) proxied(h *host, use func(*Servers) error) error {
	for server := range strings.SplitSeq(s.cluster.URL, ",") {
		p, err := netfault.NewProxy(strings.TrimPrefix(server, "nats://"))
		if err != nil {
			return err
		}
		h.Cleanup(func() { _ = p.Close() }) // it returns no error
		s.proxies = append(s.proxies, p)
	}
	return use(s)
}

// Traffic returns the number and the bytes of the clients' messages that have entered and left the servers.
func (s *Servers) Traffic() (messages, bytes int64) { return s.cluster.Traffic() }

// Direct returns the addresses of the servers, separated by commas.
func (s *Servers) Direct() string { return s.cluster.URL }

// URL returns the addresses of the proxies, separated by commas.
func (s *Servers) URL() string {
	var all []string
	for _, p := range s.proxies {
		all = append(all, "nats://"+p.Addr())
	}
	return strings.Join(all, ",")
}

// Heal starts the servers that are down, and ends freezes.
func (s *Servers) Heal() {
	for i := range N {
		if s.down[i] {
			s.cluster.Restart(i)
			s.down[i] = false
		}
		if s.frozen[i] {
			_ = s.proxies[i].Cure(s.ctx)
			s.frozen[i] = false
		}
	}
}

// Kill kills a server. Its storage stays.
func (s *Servers) Kill(i int) {
	if !s.down[i] {
		s.cluster.Kill(i)
		s.down[i] = true
	}
}

// Wipe kills a server and deletes its storage.
func (s *Servers) Wipe(i int) {
	s.Kill(i)
	s.cluster.Wipe(i)
}

// Freeze makes a server silent for its clients. Its connections stay open.
func (s *Servers) Freeze(i int) error {
	if s.frozen[i] {
		return nil
	}
	s.frozen[i] = true
	return s.proxies[i].Poison(netfault.Poison{Kind: "timeout", Chance: 1, Attrs: map[string]any{"timeout": 0}, Both: true})
}

// host replaces the testing.TB that test servers need, outside a test.
type host struct {
	testing.TB

	ctx      context.Context //nolint:containedctx // like a test's
	dir      string
	n        int
	cleanups []func()
}

// fatal is the panic of [host.Fatal].
type fatal string

// Helper implements [testing.TB].
func (*host) Helper() {}

// Context implements [testing.TB].
func (h *host) Context() context.Context { return h.ctx }

// Cleanup implements [testing.TB].
func (h *host) Cleanup(f func()) { h.cleanups = append(h.cleanups, f) }

// Fatal implements [testing.TB].
func (*host) Fatal(args ...any) { panic(fatal(fmt.Sprint(args...))) } //nolint:forbidigo // With recovers it, because a Fatal must not return

// TempDir implements [testing.TB].
func (h *host) TempDir() string {
	h.n++
	path := filepath.Join(h.dir, fmt.Sprint(h.n))
	if err := os.MkdirAll(path, 0o700); err != nil {
		h.Fatal(err)
	}
	return path
}

// run calls do, which may call Fatal.
func (h *host) run(do func() error) (err error) {
	defer func() {
		switch f := recover().(type) {
		case nil:
		case fatal:
			err = errors.New(string(f))
		default:
			panic(f) //nolint:forbidigo // a bug, not a Fatal
		}
	}()
	return do()
}

func (h *host) end() {
	for len(h.cleanups) > 0 {
		last := h.cleanups[len(h.cleanups)-1]
		h.cleanups = h.cleanups[:len(h.cleanups)-1]
		last()
	}
	_ = os.RemoveAll(h.dir)
}
