package certs_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
)

// failing returns the metrics of a store that has refused files so many times.
func failing(t *testing.T, reg *prometheus.Registry, refused, now float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if got["ml_tls_reload_errors_total"] != refused || got["ml_tls_reload_failing"] != now {
		t.Errorf("metrics: got %v, want %v refused and failing %v", got, refused, now)
	}
}

// Files that do not match, are incomplete or are not valid leave the old certificate in use. That is logged once and shows
// in the metrics until the files are valid.
func TestBadFilesKeepTheOldOnes(t *testing.T) {
	a := certstest.NewAuthority(t, "ca")
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, e *ends)
		want  string
	}{
		"key of another certificate": {func(t *testing.T, e *ends) { certstest.Write(t, e.dir, "server.key", a.Issue("x").Key) }, "private key does not match"},
		"half a certificate": {func(t *testing.T, e *ends) {
			raw := a.Issue("server.test").Cert
			certstest.Write(t, e.dir, "server.pem", raw[:len(raw)/2])
		}, "not a certificate and its key"},
		"no certificate": {func(t *testing.T, e *ends) { remove(t, e.serverCert) }, "no such file"},
		"empty key":      {func(t *testing.T, e *ends) { certstest.Write(t, e.dir, "server.key", nil) }, "failed to find any PEM data"},
		"expired": {func(t *testing.T, e *ends) {
			p := a.IssueFor(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour), "server.test")
			certstest.Write(t, e.dir, "server.pem", p.Cert)
			certstest.Write(t, e.dir, "server.key", p.Key)
		}, "is not valid now"},
		"not valid yet": {func(t *testing.T, e *ends) {
			p := a.IssueFor(time.Now().Add(time.Hour), time.Now().Add(2*time.Hour), "server.test")
			certstest.Write(t, e.dir, "server.pem", p.Cert)
			certstest.Write(t, e.dir, "server.key", p.Key)
		}, "is not valid now"},
		"half a list of authorities": {func(t *testing.T, e *ends) {
			certstest.Write(t, e.dir, "clients-ca.pem", append(a.PEM, a.PEM[:len(a.PEM)/2]...))
		}, "the file is incomplete"},
		"no authority":        {func(t *testing.T, e *ends) { certstest.Write(t, e.dir, "clients-ca.pem", []byte("\n")) }, "no certificate in it"},
		"key as an authority": {func(t *testing.T, e *ends) { certstest.Write(t, e.dir, "clients-ca.pem", a.Issue("x").Key) }, "want only certificates"},
		"huge file":           {func(t *testing.T, e *ends) { certstest.Write(t, e.dir, "clients-ca.pem", make([]byte, 2<<20)) }, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, a)
			reg := prometheus.NewPedanticRegistry()
			e.server.RegisterMetrics(reg)
			call := func() {
				t.Helper()
				conn := e.dial(t, e.client.Credentials(""))
				defer conn.Close()
				if _, err := predict(t.Context(), conn); err != nil {
					t.Errorf("a call: %v", err)
				}
			}
			call()
			failing(t, reg, 0, 0)
			tt.spoil(t, e)
			call()
			call()
			if got := e.log.count("certificates NOT reloaded"); got != 1 {
				t.Errorf("logged %d times, want once", got)
			}
			if e.log.count(tt.want) == 0 {
				t.Errorf("log: want %q in it, got %s", tt.want, e.log.log.String())
			}
			failing(t, reg, 1, 1)
			good := a.Issue("server.test", "127.0.0.1")
			certstest.Write(t, e.dir, "server.key", good.Key)
			certstest.Write(t, e.dir, "server.pem", good.Cert)
			certstest.Write(t, e.dir, "clients-ca.pem", a.PEM)
			call()
			failing(t, reg, 1, 0)
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// Run logs problems even without connections, and warns about an expiry once an hour in the last fifth of the certificate's
// life.
func TestRunWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, log := t.TempDir(), &journal{}
		a := certstest.NewAuthority(t, "ca") // valid for the next 24 hours
		p := a.IssueFor(time.Now(), time.Now().Add(10*time.Hour), "x")
		server := certs.Server{Cert: certstest.Write(t, dir, "c.pem", p.Cert), Key: certstest.Write(t, dir, "c.key", p.Key)}
		s, err := server.Open(slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run() }()
		for _, step := range []struct {
			wait          time.Duration
			soon, expired int
		}{{7*time.Hour + 59*time.Minute, 0, 0}, {2 * time.Minute, 1, 0}, {30 * time.Minute, 1, 0}, {time.Hour, 2, 0}, {time.Hour, 3, 1}, {2 * time.Hour, 3, 3}} {
			time.Sleep(step.wait)
			if soon, expired := log.count("expires soon"), log.count("EXPIRED"); soon != step.soon || expired != step.expired {
				t.Errorf("after %v more: got %d and %d warnings, want %d and %d", step.wait, soon, expired, step.soon, step.expired)
			}
		}
		certstest.Write(t, dir, "c.key", []byte("oh no"))
		time.Sleep(11 * time.Second)
		if log.count("NOT reloaded") != 1 {
			t.Error("a broken key was not noticed")
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestMetrics(t *testing.T) {
	e := serve(t, certstest.NewAuthority(t, "ca"))
	reg := prometheus.NewPedanticRegistry()
	e.server.RegisterMetrics(reg)
	e.client.RegisterMetrics(reg)
	(*certs.Store)(nil).RegisterMetrics(reg)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v", problems, err)
	}
	page := &strings.Builder{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			page.WriteString(f.GetName())
			for _, l := range m.GetLabel() {
				page.WriteString(" " + l.GetName() + "=" + l.GetValue())
			}
			page.WriteString("\n")
			if left := m.GetGauge().GetValue() - float64(time.Now().Unix()); f.GetName() == "ml_tls_certificate_not_after_seconds" && (left < 11*3600 || left > 24*3600) {
				t.Errorf("%v: %v seconds are left, want 12 or 24 hours", m, left)
			}
		}
	}
	telemetrytest.Golden(t, "testdata/metrics.txt", page.String())
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	p := certstest.NewAuthority(t, "ca").Issue("x")
	cert, key := certstest.Write(t, dir, "c.pem", p.Cert), certstest.Write(t, dir, "c.key", p.Key)
	logger := slog.New(slog.DiscardHandler)
	for name, tt := range map[string]struct {
		open func() (*certs.Store, error)
		want string
	}{
		"server: no key":         {func() (*certs.Store, error) { return certs.Server{Cert: cert}.Open(logger) }, "--tls-cert and --tls-key must be set together"},
		"server: authority only": {func() (*certs.Store, error) { return certs.Server{ClientCA: cert}.Open(logger) }, "--tls-client-ca needs --tls-cert"},
		"server: swapped":        {func() (*certs.Store, error) { return certs.Server{Cert: key, Key: cert}.Open(logger) }, "--tls-cert: "},
		"server: no file": {func() (*certs.Store, error) {
			return certs.Server{Cert: filepath.Join(dir, "no"), Key: key}.Open(logger)
		}, "no such file"},
		"client: no authority": {func() (*certs.Store, error) {
			return certs.Client{Cert: cert, Key: key}.Open("engine-", "ml-engine", logger)
		}, "need --engine-tls-ca"},
		"client: no key": {func() (*certs.Store, error) {
			return certs.Client{CA: cert, Cert: cert}.Open("engine-", "ml-engine", logger)
		}, "--engine-tls-cert and --engine-tls-key must be set together"},
		"server: no authority": {func() (*certs.Store, error) {
			return certs.Server{Cert: cert, Key: key, ClientCA: filepath.Join(dir, "no")}.Open(logger)
		}, "--tls-client-ca: open "},
		"client: no such authority": {func() (*certs.Store, error) {
			return certs.Client{CA: filepath.Join(dir, "no")}.Open("engine-", "ml-engine", logger)
		}, "--engine-tls-ca: open "},
		"client: a key for an authority": {func() (*certs.Store, error) {
			return certs.Client{CA: key}.Open("", "x", logger)
		}, "--tls-ca: "},
		"client: swapped": {func() (*certs.Store, error) {
			return certs.Client{CA: cert, Cert: key, Key: cert}.Open("", "x", logger)
		}, "--tls-cert: "},
		"client: name only": {func() (*certs.Store, error) { return certs.Client{ServerName: "x"}.Open("", "x", logger) }, "need --tls-ca"},
	} {
		if s, err := tt.open(); s != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, %v; want %q", name, s, err, tt.want)
		}
	}
	// Inconsistent flags are found without reading a file, so that a service can report a usage error.
	for _, err := range []error{certs.Server{Key: "k"}.Validate(), certs.Server{ClientCA: "c"}.Validate(), certs.Client{Cert: "c"}.Validate("engine-")} {
		if err == nil {
			t.Error("flags that do not go together are taken")
		}
	}
	for name, open := range map[string]func() (*certs.Store, error){
		"server": func() (*certs.Store, error) { return certs.Server{}.Open(logger) },
		"client": func() (*certs.Store, error) { return certs.Client{}.Open("", "x", logger) },
	} {
		if s, err := open(); s != nil || err != nil || s.Mutual() || s.ServerCredentials() != nil || s.Credentials("") != nil {
			t.Errorf("%s without flags: got %v, %v; want nothing", name, s, err)
		}
	}
}
