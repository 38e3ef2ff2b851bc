// Package certs manages the TLS certificates of both services. It re-reads PEM files when they change, so that a rotation
// needs no restart and fails no call.
//
// The files are checked before every handshake and every ten seconds. New files take effect once they match each other.
// Until then the old ones stay in use, which the log and the metrics report. Only TLS 1.3 is allowed.
//
// gRPC's own certificate provider (credentials/tls/certprovider/pemfile) does much of this, but reports neither refused
// files nor an approaching expiry where operators would see it.
package certs

import (
	"errors"
	"fmt"
	"log/slog"
)

// Files are the PEM files of one end of a connection.
type Files struct {
	// Cert is this end's certificate, followed by its chain; Key is its private key. Both or neither.
	Cert, Key string
	// CA holds the CA certificates that may sign the peer's certificate.
	CA string
}

// Server configures the TLS of a server. The zero value disables TLS.
type Server struct {
	// Cert and Key turn on TLS. ClientCA makes it mutual: clients need a certificate signed by one of its CAs.
	Cert, Key, ClientCA string
}

// Client configures the TLS of a client's connections. The zero value disables TLS.
type Client struct {
	// CA turns on TLS and holds the CAs that may sign the server's certificate. Cert and Key are for a server that asks
	// for a client certificate.
	CA, Cert, Key string
	// ServerName is the name that the server's certificate must have, if it differs from the address.
	ServerName string
}

// flagSet is the common part of the flag sets of the services and the command.
type flagSet interface {
	StringVar(p *string, name, value, usage string)
}

// Declare declares --tls-cert, --tls-key and --tls-client-ca.
func (s *Server) Declare(fs flagSet) {
	fs.StringVar(&s.Cert, "tls-cert", "", "`file` with the server's certificate and its chain (PEM); turns on TLS for gRPC and HTTP; re-read when it changes")
	fs.StringVar(&s.Key, "tls-key", "", "`file` with the private key of --tls-cert (PEM)")
	fs.StringVar(&s.ClientCA, "tls-client-ca", "", "`file` with the CA certificates that sign client certificates (PEM); requires a client certificate, except for /healthz and /readyz")
}

// Declare declares --<prefix>tls-ca, -cert, -key and -server-name. of names the server in the help.
func (c *Client) Declare(fs flagSet, prefix, of string) {
	fs.StringVar(&c.CA, prefix+"tls-ca", "", "`file` with the CA certificates that sign the certificate of "+of+" (PEM); turns on TLS")
	fs.StringVar(&c.Cert, prefix+"tls-cert", "", "`file` with the client certificate for "+of+" (PEM)")
	fs.StringVar(&c.Key, prefix+"tls-key", "", "`file` with the private key of that certificate (PEM)")
	fs.StringVar(&c.ServerName, prefix+"tls-server-name", "", "`name` in the certificate of "+of+", if it differs from the address")
}

// Validate returns an error if the flags are inconsistent. It reads no files.
func (s Server) Validate() error {
	switch {
	case (s.Cert == "") != (s.Key == ""):
		return errors.New("--tls-cert and --tls-key must be set together")
	case s.ClientCA != "" && s.Cert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key: without TLS clients cannot send a certificate")
	}
	return nil
}

// Validate returns an error if the flags, which begin with the prefix, are inconsistent. It reads no files.
func (c Client) Validate(prefix string) error {
	switch {
	case (c.Cert == "") != (c.Key == ""):
		return fmt.Errorf("--%[1]stls-cert and --%[1]stls-key must be set together", prefix)
	case c.CA == "" && (c.Cert != "" || c.ServerName != ""):
		return fmt.Errorf("--%[1]stls-cert and --%[1]stls-server-name need --%[1]stls-ca, which turns on TLS and names the trusted CAs", prefix)
	}
	return nil
}

// Open opens the server's certificates. The store is nil without --tls-cert.
func (s Server) Open(logger *slog.Logger) (*Store, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	store, err := Open(Files{Cert: s.Cert, Key: s.Key, CA: s.ClientCA}, "server", logger)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flagOf(err, "tls-client-ca", "tls-cert"), err)
	}
	return store, nil
}

// Open opens the certificates for connections to a server. The store is nil without --<prefix>tls-ca. end is the server's
// name in the log and the metrics.
func (c Client) Open(prefix, end string, logger *slog.Logger) (*Store, error) {
	if err := c.Validate(prefix); err != nil {
		return nil, err
	}
	store, err := Open(Files{Cert: c.Cert, Key: c.Key, CA: c.CA}, end, logger)
	if err != nil {
		return nil, fmt.Errorf("--%s%s: %w", prefix, flagOf(err, "tls-ca", "tls-cert"), err)
	}
	return store, nil
}
