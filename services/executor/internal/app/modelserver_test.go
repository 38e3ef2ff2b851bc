package app_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/oiptest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// A model server may be absent at startup, and reports no drift.
func TestModelServer(t *testing.T) {
	schema := filepath.Join(t.TempDir(), "desk.yaml")
	own := enginetest.Own(t, "desk", 2)
	raw, err := own.YAML()
	if err == nil {
		err = os.WriteFile(schema, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := oiptest.Start(t, oiptest.KServe(), 2, func(x []float64) float64 { return model.Sigmoid(x[0] - x[1]) }, true)
	server.Stop()
	o := options(t, loopback(t))
	o.EngineAddr, o.EngineSchema = "oip://"+server.Addr()+"?model=m", schema
	r := start(t, o)
	if code, body := r.Get("/readyz"); code != http.StatusOK || !strings.Contains(body, "no shadow: the model server cannot be asked at "+o.EngineAddr) {
		t.Errorf("/readyz: got %d %q", code, body)
	}
	both := strings.TrimSuffix(features, "}") + `,"own_0":1,"own_1":0.5}`
	code, body := r.Post("/predict-with-shadow", `{"features":`+both+`}`)
	if code != http.StatusOK || !strings.Contains(body, "SHADOW_OUTCOME_UNAVAILABLE") {
		t.Errorf("got %d %s, want the baseline with an unavailable shadow", code, body)
	}

	server.Restart()
	r.reached()
	if _, body := r.Get("/readyz"); !strings.Contains(body, "shadow m\n") {
		t.Errorf("/readyz: got %q", body)
	}
	code, body = r.Post("/predict-with-shadow", `{"features":`+both+`}`)
	var got struct {
		Shadow struct {
			Score                     float64
			ModelVersion, ModelDigest string
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK || got.Shadow.Score != model.Sigmoid(0.5) ||
		got.Shadow.ModelVersion != "m" || !strings.HasPrefix(got.Shadow.ModelDigest, "oip:") {
		t.Errorf("got %d %s, %v", code, body, err)
	}
	code, body = r.Get("/status")
	if code != http.StatusOK || !strings.Contains(body, `"driftNote":"a model server of the Open Inference Protocol reports no drift"`) || strings.Contains(body, "driftError") {
		t.Errorf("/status: got %d %s", code, body)
	}
	if log := r.Log(); !strings.Contains(log, "engine="+`"`+o.EngineAddr+`"`) || !strings.Contains(log, `msg="the model server describes its model" model=m`) {
		t.Errorf("log: %s", log)
	}
}

// The flags for the connection to ml-engine also secure the connection to a model server.
func TestModelServerOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.NewAuthority(t, "desk")
	certstest.Write(t, dir, "ca.pem", ca.PEM)
	pair := ca.Issue("127.0.0.1")
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	server := oiptest.Start(t, oiptest.KServe(), 7, func([]float64) float64 { return 0.25 }, true, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	o := options(t, loopback(t))
	o.EngineAddr, o.EngineSchema, o.EngineTLS.CA = "oip://"+server.Addr()+"?model=m", "v1.8.1", filepath.Join(dir, "ca.pem")
	r := start(t, o)
	r.reached()
	got, err := executorv1.NewDecisionServiceClient(r.Conn).PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Vector: vector()})
	if err != nil || got.GetShadow().GetScore() != 0.25 {
		t.Errorf("got %v, %v", got, err)
	}
}
