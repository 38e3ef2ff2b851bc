package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"

	"google.golang.org/grpc/credentials"
)

// serverConfig returns a listener's configuration. Every handshake uses the current files.
func (s *Store) serverConfig(clients tls.ClientAuthType, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := s.refresh()
			c := &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*m.cert}, NextProtos: []string{protocol},
				// A resumed session would be accepted even if its CA is no longer trusted.
				SessionTicketsDisabled: true,
			}
			if m.pool != nil {
				c.ClientCAs, c.ClientAuth = m.pool, clients
			}
			return c, nil
		},
	}
}

// ServerCredentials returns the credentials of a gRPC server; nil for a nil Store.
func (s *Store) ServerCredentials() credentials.TransportCredentials {
	if s == nil {
		return nil
	}
	return serverCredentials{credentials.NewTLS(s.serverConfig(tls.RequireAndVerifyClientCert, "h2")), s}
}

// serverCredentials log refused clients, which gRPC does not.
type serverCredentials struct {
	credentials.TransportCredentials

	store *Store
}

// ServerHandshake implements credentials.TransportCredentials.
func (c serverCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) { // EOF is a port check
		c.store.refusals.Do(func() {
			c.store.logger.Warn("client refused in the TLS handshake", "from", conn.RemoteAddr().String(), "error", err)
		})
	}
	return secured, info, err
}

// Clone implements credentials.TransportCredentials.
func (c serverCredentials) Clone() credentials.TransportCredentials {
	return serverCredentials{c.TransportCredentials.Clone(), c.store}
}

// Mutual reports whether clients need a certificate.
func (s *Store) Mutual() bool { return s != nil && s.files.CA != "" }

// SecureHTTP enables TLS on the server. If the Store has client CAs, every page except /healthz and /readyz needs a client
// certificate; health probes have none. A nil Store changes nothing.
func (s *Store) SecureHTTP(srv *http.Server) {
	if s == nil {
		return
	}
	srv.TLSConfig = s.serverConfig(tls.VerifyClientCertIfGiven, "http/1.1")
	srv.ErrorLog = slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn)
	// HTTP/1.1 only: people and scrapers need no more, and HTTP/2 adds attack surface.
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	if s.Mutual() {
		srv.Handler = identified(srv.Handler)
	}
}

func identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		probe := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		if !probe && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			http.Error(w, "this page needs a client certificate", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// errClientOnly is returned if client credentials are used on a server.
var errClientOnly = errors.New("client credentials used on a server")

// Credentials returns credentials for a client's connections; nil for a nil Store. serverName, if not empty, is the name
// that the server's certificate must have instead of the host in the address.
func (s *Store) Credentials(serverName string) credentials.TransportCredentials {
	if s == nil {
		return nil
	}
	return &clientCredentials{store: s, serverName: serverName}
}

// clientCredentials create TLS credentials for each handshake from the current files. A tls.Config can reload the
// certificate, but not the authorities.
type clientCredentials struct {
	store      *Store
	serverName string
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	m := c.store.refresh()
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: m.pool}
	if m.cert != nil {
		config.Certificates = []tls.Certificate{*m.cert}
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errClientOnly
}

// Info implements credentials.TransportCredentials. gRPC uses the server's name as the authority.
func (c *clientCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", ServerName: c.serverName} //nolint:staticcheck // gRPC still takes the authority from it
}

// Clone implements credentials.TransportCredentials.
func (c *clientCredentials) Clone() credentials.TransportCredentials {
	clone := *c
	return &clone
}

// OverrideServerName implements credentials.TransportCredentials.
func (c *clientCredentials) OverrideServerName(name string) error {
	c.serverName = name
	return nil
}
