// Package certs keeps the TLS certificates of the pair: PEM files that are re-read when they change, so that a rotation
// needs no restart and fails no call.
//
// The files are looked at before every handshake and every ten seconds besides. New ones are taken when they belong
// together; until then the old ones stay in use, which is logged and shows in the metrics. TLS 1.3 is spoken, and nothing
// older.
//
// gRPC's own provider of certificates in files (credentials/tls/certprovider/pemfile) does much of this, but says nothing
// of files that it refuses, or of an end that comes near, where an operator would see it.
package certs

import (
	"errors"
	"fmt"
	"log/slog"
)

// Files are the PEM files of one end of a connection.
type Files struct {
	// Cert is the own certificate, followed by its chain; Key is its private key. Both or neither.
	Cert, Key string
	// CA has the authorities of which one must have signed the certificate of the other end.
	CA string
}

// Server says how a server is secured. The zero value is not at all.
type Server struct {
	// Cert and Key turn TLS on. ClientCA, besides, makes it mutual: clients need a certificate of these authorities.
	Cert, Key, ClientCA string
}

// Client says how a client's connections are secured. The zero value is not at all.
type Client struct {
	// CA turns TLS on: who must have signed the server's certificate. Cert and Key are shown to a server that asks.
	CA, Cert, Key string
	// ServerName is the name that the server's certificate must have, where it is not that of the address.
	ServerName string
}

// flagSet is what the flag sets of the services and of the command have in common.
type flagSet interface {
	StringVar(p *string, name, value, usage string)
}

// Declare declares --tls-cert, --tls-key and --tls-client-ca.
func (s *Server) Declare(fs flagSet) {
	fs.StringVar(&s.Cert, "tls-cert", "", "`file` with the server's certificate and its chain, PEM; turns on TLS for gRPC and HTTP; re-read when it changes")
	fs.StringVar(&s.Key, "tls-key", "", "`file` with the private key of --tls-cert, PEM")
	fs.StringVar(&s.ClientCA, "tls-client-ca", "", "`file` with the authorities that sign clients' certificates, PEM; clients must have one then (/healthz and /readyz excepted)")
}

// Declare declares --<prefix>tls-ca, -cert, -key and -server-name; of is whose server it is.
func (c *Client) Declare(fs flagSet, prefix, of string) {
	fs.StringVar(&c.CA, prefix+"tls-ca", "", "`file` with the authorities that sign the certificate of "+of+", PEM; turns on TLS")
	fs.StringVar(&c.Cert, prefix+"tls-cert", "", "`file` with the certificate that is shown to "+of+", PEM")
	fs.StringVar(&c.Key, prefix+"tls-key", "", "`file` with the private key of that certificate, PEM")
	fs.StringVar(&c.ServerName, prefix+"tls-server-name", "", "`name` in the certificate of "+of+", where it is not that of the address")
}

// Validate returns an error if the flags do not go together. It reads no file.
func (s Server) Validate() error {
	switch {
	case (s.Cert == "") != (s.Key == ""):
		return errors.New("--tls-cert and --tls-key belong together")
	case s.ClientCA != "" && s.Cert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key: without TLS no client can show a certificate")
	}
	return nil
}

// Validate returns an error if the flags, which begin with the prefix, do not go together. It reads no file.
func (c Client) Validate(prefix string) error {
	switch {
	case (c.Cert == "") != (c.Key == ""):
		return fmt.Errorf("--%[1]stls-cert and --%[1]stls-key belong together", prefix)
	case c.CA == "" && (c.Cert != "" || c.ServerName != ""):
		return fmt.Errorf("--%[1]stls-cert and --%[1]stls-server-name need --%[1]stls-ca: it says whom to trust, and turns on TLS", prefix)
	}
	return nil
}

// Open opens the server's certificates; nil without --tls-cert.
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

// Open opens the certificates of connections to a server; nil without --<prefix>tls-ca. end is what the server is called in
// the log and the metrics.
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
