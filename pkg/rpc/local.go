package rpc

import (
	"fmt"
	"net"
	"net/netip"
)

// localPeer is the address of a client of a Unix socket: the process that connected.
type localPeer struct {
	// user and pid identify the process, as reported by the kernel; known is false if it does not report them.
	user  uint32
	pid   int32
	known bool
}

// Network implements net.Addr.
func (*localPeer) Network() string { return "unix" }

// String implements net.Addr. The audit log shows it.
func (p *localPeer) String() string {
	if !p.known {
		return "unix"
	}
	return fmt.Sprintf("unix:uid=%d,pid=%d", p.user, p.pid)
}

// localListener identifies the clients of a Unix socket.
type localListener struct{ net.Listener }

// identified wraps a listener on a Unix socket so that its clients are identified. It returns other listeners unchanged.
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

// localConn is a connection with an identified client.
type localConn struct {
	*net.UnixConn

	peer *localPeer
}

// RemoteAddr implements net.Conn.
func (c *localConn) RemoteAddr() net.Addr { return c.peer }

// addressOf returns the address by which limits identify a client. All clients of a Unix socket count as 127.0.0.1.
func addressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return clientOf(tcp.AddrPort().Addr())
	}
	return thisMachine
}

var thisMachine = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// onThisMachine reports whether traffic with the address stays on this machine. Addresses without an IP are Unix sockets or in
// memory.
func onThisMachine(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case nil:
		return false
	default:
		return a.Network() != "tcp" && a.Network() != "udp"
	}
}
