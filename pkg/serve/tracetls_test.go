package serve_test

import (
	"crypto/tls"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/tracetest"
)

// A TLS collector gets the spans of a service that trusts its authority, and none from a service that does not.
func TestTracesOverTLS(t *testing.T) {
	ours, another := certstest.NewAuthority(t, "ours"), certstest.NewAuthority(t, "another")
	pair := ours.Issue("127.0.0.1")
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		authority []byte
		want      int
	}{"trusted": {ours.PEM, 1}, "not trusted": {another.PEM, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", certstest.Write(t, t.TempDir(), "ca.pem", tt.authority))
			collector := tracetest.Start(t, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
			a, err := newApp(t, "--otlp-endpoint=https://"+collector.Addr, "--trace-ratio=1")
			if err != nil {
				t.Fatal(err)
			}
			_, span := a.Tracer.Serve(t.Context(), "call", "")
			span.End()
			if err := a.Stop(t.Context()); err != nil { // the last spans leave
				t.Error(err)
			}
			if got := len(tracetest.Find(collector.Spans(), "test", "call")); got != tt.want {
				t.Errorf("%d spans, want %d", got, tt.want)
			}
		})
	}
}
