package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// plaintext are credentials without TLS that record whether a connection leaves the machine. Tokens are sent only over
// connections that do not.
type plaintext struct {
	credentials.TransportCredentials
}

func newPlaintext() credentials.TransportCredentials { return plaintext{insecure.NewCredentials()} }

// ClientHandshake implements credentials.TransportCredentials.
func (p plaintext) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := p.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		return nil, nil, err
	}
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}
	return c, plaintextInfo{level, info.AuthType(), onThisMachine(conn.RemoteAddr())}, nil
}

// Clone implements credentials.TransportCredentials.
func (p plaintext) Clone() credentials.TransportCredentials {
	return plaintext{p.TransportCredentials.Clone()}
}

// plaintextInfo describes the connection of a call.
type plaintextInfo struct {
	credentials.CommonAuthInfo

	kind  string
	local bool
}

// AuthType implements credentials.AuthInfo.
func (p plaintextInfo) AuthType() string { return p.kind }

// onThisMachine reports whether traffic with the address stays on this machine. Addresses other than IP are Unix sockets or
// in memory.
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
