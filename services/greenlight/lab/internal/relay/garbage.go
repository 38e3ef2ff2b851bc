package relay

import (
	"bytes"
	"context"
	"net"
	"sync"
)

// Garbage is a server that answers everything with bytes that are not HTTP/2.
type Garbage struct {
	listener net.Listener
	stop     context.CancelFunc
	busy     sync.WaitGroup
}

// StartGarbage serves on the address.
func StartGarbage(ctx context.Context, addr string) (*Garbage, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	g := &Garbage{listener: l, stop: stop}
	g.busy.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			g.busy.Go(func() { answerJunk(ctx, conn) })
		}
	})
	return g, nil
}

// answerJunk answers until either end closes the connection or ctx ends.
func answerJunk(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	junk, buffer := bytes.Repeat([]byte("HTTP/1.1 200 OK\r\n\r\n\x00\xff\x00"), 64), make([]byte, 4096)
	for {
		if _, err := conn.Read(buffer); err != nil {
			return
		}
		if _, err := conn.Write(junk); err != nil {
			return
		}
	}
}

// Addr returns the address.
func (g *Garbage) Addr() string { return g.listener.Addr().String() }

// Close ends the server and its connections.
func (g *Garbage) Close() error {
	err := g.listener.Close()
	g.stop()
	g.busy.Wait()
	return err
}
