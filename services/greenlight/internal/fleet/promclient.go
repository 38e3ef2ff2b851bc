package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	// promTimeout bounds dialing and the TLS handshake.
	promTimeout = 3 * time.Second
	// maxAnswer bounds an answer from Prometheus, uncompressed. A replica needs about 10 KB.
	maxAnswer = 8 << 20
	// maxHeader bounds the headers of an answer.
	maxHeader = 64 << 10
	// maxSecret bounds a credential file, maxCA a certificate file.
	maxSecret, maxCA = 4 << 10, 1 << 20
)

// PrometheusOptions name a Prometheus server and how to reach it. They hold paths of credential files, not credentials,
// because the plan of a canary stores them as JSON.
type PrometheusOptions struct {
	// URL has no user or password: see [PrometheusOptions.SetURL]. Empty means no Prometheus.
	URL string `json:"prometheus,omitempty"`
	// Match selects the executors' series: PromQL label matchers, without the braces.
	Match string `json:"match,omitempty"`
	// TokenFile holds a bearer token, BasicFile a user and a password as "user:password". At most one may be set.
	TokenFile string `json:"prometheus_token_file,omitempty"`
	BasicFile string `json:"prometheus_basic_file,omitempty"`
	// CA is a file with the trusted CA certificates; empty means the system's.
	CA string `json:"prometheus_ca,omitempty"`

	// user is from the URL. It is not stored.
	user *url.Userinfo
}

// errPromURL is the error of an unusable address. It does not repeat the address, which may contain a password.
var errPromURL = errors.New("--prometheus: want a URL such as http://127.0.0.1:9090, without a query")

// SetURL sets the address. Only this process uses a user and a password in it: they are not stored.
func (o *PrometheusOptions) SetURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return errPromURL
	}
	o.user, u.User = u.User, nil
	o.URL = u.String()
	return nil
}

// Secret reports whether the URL had a user or a password, which the next process will not have.
func (o *PrometheusOptions) Secret() bool { return o.user != nil }

// credential returns the Authorization header; empty without one. It reads the files every time, because credentials change.
func (o *PrometheusOptions) credential() (string, error) {
	switch {
	case o.TokenFile != "":
		token, err := readSecret("--prometheus-token-file", o.TokenFile)
		if err == nil && strings.ContainsAny(token, " \t") {
			err = fmt.Errorf("--prometheus-token-file %s: a token has no spaces", o.TokenFile)
		}
		return "Bearer " + token, err
	case o.BasicFile != "":
		pair, err := readSecret("--prometheus-basic-file", o.BasicFile)
		user, password, ok := strings.Cut(pair, ":")
		if err == nil && !ok {
			err = fmt.Errorf("--prometheus-basic-file %s: want user:password", o.BasicFile)
		}
		return basic(user, password), err
	case o.user != nil:
		password, _ := o.user.Password()
		return basic(o.user.Username(), password), nil
	}
	return "", nil
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// readSecret returns the only line of a file. Its errors do not contain it.
func readSecret(flag, path string) (string, error) {
	raw, err := durable.ReadFile(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	if line == "" {
		return "", fmt.Errorf("%s %s: the file is empty", flag, path)
	}
	for _, c := range line {
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("%s %s: want one line of printable ASCII characters", flag, path)
		}
	}
	return line, nil
}

// client returns a client of the Prometheus server. It uses no proxy, follows no redirect and reads at most [maxAnswer] bytes
// of an answer. Without TLS it sends credentials only to this machine.
func (o *PrometheusOptions) client() (promv1.API, error) {
	if err := (&PrometheusOptions{}).SetURL(o.URL); err != nil {
		return nil, err
	}
	if o.TokenFile != "" && o.BasicFile != "" {
		return nil, errors.New("--prometheus-token-file and --prometheus-basic-file: give one of them")
	}
	if _, err := o.credential(); err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: promTimeout}
	if secret := o.TokenFile != "" || o.BasicFile != "" || o.user != nil; secret && strings.HasPrefix(o.URL, "http:") {
		if u, err := url.Parse(o.URL); err != nil || !loopback(u.Hostname()) {
			return nil, fmt.Errorf("%s: %w", o.URL, errInTheClear)
		}
		// Check again at dial time: the host name may resolve to another address.
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if host, _, err := net.SplitHostPort(address); err != nil || !net.ParseIP(host).IsLoopback() {
				return errInTheClear
			}
			return nil
		}
	}
	trust, err := o.trust()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: trust, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: promTimeout, MaxResponseHeaderBytes: maxHeader, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
	}
	c, err := api.NewClient(api.Config{Address: o.URL, Client: &http.Client{
		Transport: guarded{transport, o},
		CheckRedirect: func(to *http.Request, _ []*http.Request) error {
			return fmt.Errorf("it redirects to %s://%s: give the final address", to.URL.Scheme, to.URL.Host)
		},
	}})
	if err != nil {
		return nil, errPromURL
	}
	return promv1.NewAPI(c), nil
}

// errInTheClear means that a credential would leave this machine without TLS.
var errInTheClear = errors.New("a token or password is sent only over https, or to a loopback address")

func loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

func (o *PrometheusOptions) trust() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA == "" {
		return c, nil
	}
	raw, err := durable.ReadFile(o.CA, maxCA)
	if err != nil {
		return nil, fmt.Errorf("--prometheus-ca: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("--prometheus-ca %s: no certificate in it", o.CA)
	}
	return c, nil
}

// guarded adds the credential to requests and limits the size of answers.
type guarded struct {
	next http.RoundTripper
	opts *PrometheusOptions
}

// RoundTrip implements http.RoundTripper.
func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	credential, err := g.opts.credential()
	if err != nil {
		return nil, err
	}
	if credential != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", credential)
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}
