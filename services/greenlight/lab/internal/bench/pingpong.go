package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// The ping-pong is the limit of the machine: two processes that exchange bytes over a Unix socket.
//
// A connection begins with two 32-bit numbers, the length of its messages and of their answers. An answer repeats as much of
// the message as fits.
const pingHeader = 8

// pingAddress is the kind of the ping-pong's address.
const pingAddress = "ping"

// pingServer answers the pings of any number of connections.
type pingServer struct {
	net.Listener

	dir   string
	conns sync.WaitGroup
}

func listenPing(ctx context.Context) (*pingServer, error) {
	dir, err := os.MkdirTemp("", "ping-") // socket paths must be short
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", filepath.Join(dir, "s"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &pingServer{Listener: l, dir: dir}, nil
}

// serve answers until the listener is closed and the clients are gone.
func (p *pingServer) serve() {
	for {
		conn, err := p.Accept()
		if err != nil {
			p.conns.Wait()
			return
		}
		p.conns.Go(func() {
			defer conn.Close()
			_ = answerPings(conn) // the client is gone
		})
	}
}

func (p *pingServer) stop() error { return errors.Join(p.Close(), os.RemoveAll(p.dir)) }

func answerPings(conn net.Conn) error {
	in := bufio.NewReader(conn)
	var header [pingHeader]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return err
	}
	size, want := binary.BigEndian.Uint32(header[:4]), binary.BigEndian.Uint32(header[4:])
	if size > maxPing || want > maxPing {
		return fmt.Errorf("a message of %d bytes, an answer of %d: want at most %d", size, want, maxPing)
	}
	message, answer := make([]byte, size), make([]byte, want)
	for {
		if _, err := io.ReadFull(in, message); err != nil {
			return err
		}
		copy(answer, message)
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

// maxPing is the largest message in bytes.
const maxPing = 1 << 20

// pings returns a side that sends messages of the sizes over n connections, one in flight on each: the i-th over connection i
// modulo n.
func (f *fleet) pings(ctx context.Context, p *process.Process, n, size, answer int) (*side, error) {
	s := &side{name: pingPong, process: p, answerSize: answer}
	type ping struct {
		net.Conn

		message, answer []byte
	}
	conns := make([]ping, n)
	for i := range conns {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", strings.TrimPrefix(p.Addr(pingAddress), "unix:"))
		if err != nil {
			return nil, err
		}
		f.OnClose(conn.Close)
		header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(size)), uint32(answer))
		if _, err := conn.Write(header); err != nil {
			return nil, err
		}
		conns[i] = ping{conn, make([]byte, size), make([]byte, answer)}
	}
	s.call = func(_ context.Context, i int) error {
		c := &conns[i%n]
		binary.BigEndian.PutUint64(c.message, uint64(i))
		if _, err := c.Write(c.message); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, c.answer); err != nil {
			return err
		}
		if got := binary.BigEndian.Uint64(c.answer); got != uint64(i) {
			return fmt.Errorf("%s answered %d to %d", s.name, got, i)
		}
		return nil
	}
	return s, nil
}
