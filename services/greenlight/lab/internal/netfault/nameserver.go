package netfault

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// engineName is the name that the name server knows; the domain is reserved for tests (RFC 2606).
const engineName = "ml-engine.greenlight.test."

// NameServer is a DNS server on loopback that knows one name, and can stop answering: see [NameServer.Silence].
type NameServer struct {
	conn   net.PacketConn
	silent atomic.Bool
	done   chan struct{}
}

// StartNameServer serves on a free port.
func StartNameServer(ctx context.Context) (*NameServer, error) {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &NameServer{conn: conn, done: make(chan struct{})}
	go s.serve()
	return s, nil
}

// Target returns the gRPC target that resolves the name with this server, with the port of the address.
func (s *NameServer) Target(addr string) (string, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("dns://%s/%s:%s", s.conn.LocalAddr(), engineName, port), nil
}

// Silence stops answering, or answers again.
func (s *NameServer) Silence(on bool) { s.silent.Store(on) }

// Close ends the server.
func (s *NameServer) Close() error {
	err := s.conn.Close()
	<-s.done
	return err
}

func (s *NameServer) serve() {
	defer close(s.done)
	buffer := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return // closed
		}
		if s.silent.Load() {
			continue
		}
		if reply, err := answerDNS(buffer[:n]); err == nil {
			_, _ = s.conn.WriteTo(reply, from)
		}
	}
}

// answerDNS answers a query: 127.0.0.1 for the name, no data for its other types, and NXDOMAIN for other names.
func answerDNS(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.RecursionAvailable = true, true, true
	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	if len(m.Questions) != 1 || !strings.EqualFold(m.Questions[0].Name.String(), engineName) {
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	q := m.Questions[0]
	if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	return m.Pack()
}
