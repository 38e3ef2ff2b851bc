package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
)

// Every gRPC call and every HTTP page except the two for probes needs a certificate.
func TestClientsNeedACertificate(t *testing.T) {
	a := certstest.NewAuthority(t, "ca")
	e := serve(t, a)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	e.server.SecureHTTP(web.Config)
	web.TLS = web.Config.TLSConfig
	web.StartTLS()
	defer web.Close()

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM)
	pair := func(p certstest.Pair) []tls.Certificate {
		c, err := tls.X509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	own, foreign := pair(a.Issue("scraper")), pair(certstest.NewAuthority(t, "other").Issue("scraper"))
	for name, tt := range map[string]struct {
		certificate []tls.Certificate
		path        string
		older       bool
		want        string
	}{
		"with a certificate":             {certificate: own, path: "/metrics", want: "200 OK hello"},
		"without":                        {path: "/metrics", want: "403 Forbidden this page needs a client certificate"},
		"a path that only looks alike":   {path: "/healthz/../metrics", want: "403 Forbidden"},
		"a probe":                        {path: "/readyz", want: "200 OK hello"},
		"of somebody else's authority":   {certificate: foreign, path: "/readyz", want: "certificate"},
		"with TLS 1.2 and a certificate": {certificate: own, path: "/metrics", older: true, want: "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{
				RootCAs: pool, ServerName: "server.test", MinVersion: tls.VersionTLS12,
				// Sent regardless of the CAs that the server lists.
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if tt.certificate == nil {
						return &tls.Certificate{}, nil
					}
					return &tt.certificate[0], nil
				},
			}
			if tt.older {
				config.MaxVersion = tls.VersionTLS12
			}
			transport := &http.Transport{TLSClientConfig: config}
			defer transport.CloseIdleConnections()
			var got string
			if resp, err := (&http.Client{Transport: transport}).Get(web.URL + tt.path); err != nil {
				got = err.Error()
			} else {
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				got = resp.Status + " " + string(body)
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}

	for name, store := range map[string]*certs.Store{"no certificate": e.anonymous(t, a), "of another authority": e.store(t, certstest.NewAuthority(t, "x").Issue("x"), a)} {
		conn := e.dial(t, store.Credentials(""))
		if _, err := predict(t.Context(), conn); status.Code(err) != codes.Unavailable {
			t.Errorf("gRPC, %s: got %v, want it refused", name, err)
		}
		_ = conn.Close()
	}
	conn := e.dial(t, nil)
	defer conn.Close()
	if _, err := predict(t.Context(), conn); status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC in the clear: got %v, want it refused", err)
	}
	// A client can know that it was refused before the server has logged it. A stopped server has logged everything.
	web.Close()
	e.calls.Stop()
	if e.log.count("refused in the TLS handshake") == 0 || e.log.count("http: TLS handshake error") == 0 {
		t.Errorf("log: want both kinds of refusals, got %s", e.log.log.String())
	}
}

// The client verifies the server by the address or by the configured name.
func TestServerName(t *testing.T) {
	a := certstest.NewAuthority(t, "ca")
	e := serve(t, a)
	for name, want := range map[string]codes.Code{"": codes.OK, "server.test": codes.OK, "other.test": codes.Unavailable} {
		conn := e.dial(t, e.client.Credentials(name))
		if _, err := predict(t.Context(), conn); status.Code(err) != want {
			t.Errorf("name %q: got %v, want %v", name, err, want)
		}
		_ = conn.Close()
	}
	conn := e.dial(t, e.store(t, a.Issue("c"), certstest.NewAuthority(t, "other")).Credentials(""))
	defer conn.Close()
	if _, err := predict(t.Context(), conn); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a server of another authority: got %v", err)
	}
}
