package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// maxFile limits a file, in bytes: far more than any chain.
const maxFile = 1 << 20

// contents are the raw files.
type contents struct{ cert, key, ca []byte }

func (c contents) equal(o contents) bool {
	return bytes.Equal(c.cert, o.cert) && bytes.Equal(c.key, o.key) && bytes.Equal(c.ca, o.ca)
}

// authorityError is an error in the CA file, which has its own flag.
type authorityError struct{ error }

// Unwrap implements errors.Unwrap.
func (e authorityError) Unwrap() error { return e.error }

// flagOf returns the flag of the file that caused err.
func flagOf(err error, authority, certificate string) string {
	if errors.As(err, new(authorityError)) {
		return authority
	}
	return certificate
}

// read reads the configured files.
func (f Files) read() (c contents, err error) {
	for _, part := range []struct {
		path string
		into *[]byte
	}{{f.Cert, &c.cert}, {f.Key, &c.key}, {f.CA, &c.ca}} {
		if part.path == "" {
			continue
		}
		if *part.into, err = durable.ReadFile(part.path, maxFile); err != nil {
			if part.into == &c.ca {
				err = authorityError{err}
			}
			return contents{}, err
		}
	}
	return c, nil
}

// validity is a period of time.
type validity struct{ from, to time.Time }

func (v validity) at(t time.Time) bool { return !t.Before(v.from) && !t.After(v.to) }

// material is a matching set of parsed files.
type material struct {
	// cert is nil if this end has no certificate, pool is nil if the peer needs none.
	cert *tls.Certificate
	pool *x509.CertPool
	// own is the validity of cert with its whole chain. trusted is the time in which any CA is valid: during a rotation the
	// file holds the old one and the new one.
	own, trusted validity
	// names are the names in the certificate, for the log.
	names []string
}

// parse parses the files.
func (f Files) parse(c contents) (*material, error) {
	m := &material{}
	if f.Cert != "" {
		pair, err := tls.X509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s are not a certificate and its key: %w", f.Cert, f.Key, err)
		}
		m.cert, m.names = &pair, slices.Concat(pair.Leaf.DNSNames, uris(pair.Leaf))
		m.own = validity{pair.Leaf.NotBefore, pair.Leaf.NotAfter}
		for _, der := range pair.Certificate[1:] {
			link, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("%s: certificate in the chain: %w", f.Cert, err)
			}
			m.own.to = earlier(m.own.to, link.NotAfter)
		}
	}
	if f.CA != "" {
		var err error
		if m.pool, m.trusted, err = authorities(c.ca); err != nil {
			return nil, authorityError{fmt.Errorf("%s: %w", f.CA, err)}
		}
	}
	return m, nil
}

// authorities parses the CA certificates in a file. Unlike x509.CertPool, it refuses a partly readable file: a half-written
// one would lock out the clients of the missing CAs.
func authorities(raw []byte) (*x509.CertPool, validity, error) {
	pool, v, n := x509.NewCertPool(), validity{}, 0
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			if len(bytes.TrimSpace(raw)) > 0 {
				return nil, v, errors.New("the end of the file is not PEM: the file is incomplete")
			}
			break
		}
		raw = rest
		if block.Type != "CERTIFICATE" {
			return nil, v, fmt.Errorf("PEM block %q: want only certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, v, err
		}
		pool.AddCert(cert)
		if n++; n == 1 {
			v = validity{cert.NotBefore, cert.NotAfter}
		}
		v.from, v.to = earlier(v.from, cert.NotBefore), later(v.to, cert.NotAfter)
	}
	if n == 0 {
		return nil, v, errors.New("no certificate in it")
	}
	return pool, v, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func uris(cert *x509.Certificate) []string {
	names := make([]string, len(cert.URIs))
	for i, u := range cert.URIs {
		names[i] = u.String()
	}
	return names
}

// Names returns the DNS and URI names of a certificate.
func Names(cert *x509.Certificate) []string {
	return append(append([]string(nil), cert.DNSNames...), uris(cert)...)
}
