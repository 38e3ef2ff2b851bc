package rpc

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// localPeer is the address of a client of a Unix socket, which has none of its own: a number, and who it is.
type localPeer struct {
	// number is that of the connection, from 1 on.
	number uint32
	// user and pid are of the process that connected, as the kernel says; known is false where it does not.
	user  uint32
	pid   int32
	known bool
}

// Network implements net.Addr.
func (*localPeer) Network() string { return "unix" }

// String implements net.Addr. It is what the audit log has.
func (p *localPeer) String() string {
	if !p.known {
		return "unix"
	}
	return fmt.Sprintf("unix:uid=%d,pid=%d", p.user, p.pid)
}

// localListener tells the clients of a Unix socket apart.
type localListener struct {
	net.Listener

	accepted atomic.Uint32
}

// tellApart is the listener itself, unless it is of a Unix socket.
func tellApart(l net.Listener) net.Listener {
	if l.Addr().Network() != "unix" {
		return l
	}
	return &localListener{Listener: l}
}

// Accept implements net.Listener.
func (l *localListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return c, nil
	}
	peer := &localPeer{number: l.accepted.Add(1)}
	peer.user, peer.pid, peer.known = credentialsOf(unix)
	return &localConn{unix, peer}, nil
}

// localConn is a connection that knows its client.
type localConn struct {
	*net.UnixConn

	peer *localPeer
}

// RemoteAddr implements net.Conn.
func (c *localConn) RemoteAddr() net.Addr { return c.peer }

// connectionOf is a number that tells the connections of a server apart, as far as that is possible.
func connectionOf(addr net.Addr) uint32 {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return uint32(a.Port)
	case *localPeer:
		return a.number
	}
	return 0
}

// addressOf is by what the limiter knows a client. All of a Unix socket are one, and the same as 127.0.0.1.
func addressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return clientOf(tcp.AddrPort().Addr())
	}
	return thisMachine
}

var thisMachine = netip.AddrFrom4([4]byte{127, 0, 0, 1})
