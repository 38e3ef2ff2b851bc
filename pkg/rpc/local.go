package rpc

import (
	"fmt"
	"net"
	"net/netip"
)

// localPeer is the address of a client of a Unix socket, which has none of its own: who it is.
type localPeer struct {
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

// localListener tells who the clients of a Unix socket are.
type localListener struct{ net.Listener }

// identified is a listener that tells who the clients of a Unix socket are; itself, unless it is one.
func identified(l net.Listener) net.Listener {
	if l.Addr().Network() != "unix" {
		return l
	}
	return localListener{l}
}

// Accept implements net.Listener.
func (l localListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return c, nil
	}
	peer := &localPeer{}
	peer.user, peer.pid, peer.known = credentialsOf(unix)
	return &localConn{UnixConn: unix, peer: peer}, nil
}

// localConn is a connection that knows its client, and gives its place back when it is closed.
type localConn struct {
	*net.UnixConn

	peer  *localPeer
	place place
}

// Close implements net.Conn.
func (c *localConn) Close() error {
	defer c.place.giveBack()
	return c.UnixConn.Close()
}

// RemoteAddr implements net.Conn.
func (c *localConn) RemoteAddr() net.Addr { return c.peer }

// addressOf is by what the limiter knows a client. All of a Unix socket are one, and the same as 127.0.0.1.
func addressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return clientOf(tcp.AddrPort().Addr())
	}
	return thisMachine
}

var thisMachine = netip.AddrFrom4([4]byte{127, 0, 0, 1})
