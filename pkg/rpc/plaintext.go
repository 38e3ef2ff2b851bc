package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// plaintext is a client's connection without TLS that knows whether it leaves the machine: a token goes over none that does.
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

// plaintextInfo is what a call may know of its connection.
type plaintextInfo struct {
	credentials.CommonAuthInfo

	kind  string
	local bool
}

// AuthType implements credentials.AuthInfo.
func (p plaintextInfo) AuthType() string { return p.kind }

// onThisMachine says whether what is sent to the address, or comes from it, never leaves the machine. Addresses that are not
// of IP are of sockets in the file system or in memory.
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
