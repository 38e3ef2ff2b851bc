package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// The values of requests and the operators' token contain this mark, which must not appear in a log.
const (
	mark      = "73182946"
	markPrice = 73182.946
	markToken = "tok-" + mark + "-en-of-the-desk"
)

// TestLogsHoldNoSecrets sends requests of every kind, good, bad and failing, to both services, and searches their debug
// logs for the marks of the values and tokens.
func TestLogsHoldNoSecrets(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	bin := need.Programs(t, root, "ml-engine", "executor", "greenlight")
	run(t, work, nil, filepath.Join(bin, "greenlight"), "train", "--models", "models")
	token := filepath.Join(work, "token")
	if err := os.WriteFile(token, []byte("alice "+markToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	service := func(name string, args ...string) *process.Process {
		p, err := process.Start(ctx, filepath.Join(bin, name), work, append(args, "--control-token-file", token, "--log-level", "debug",
			"--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--state-dir", filepath.Join(work, "state-"+name))...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	engine := service("ml-engine", "--models", filepath.Join(work, "models"), "--model", "v1.8.1-rc1")
	executor := service("executor", "--baseline", "heuristic="+filepath.Join(work, "models", "simulated", "v1.8.1-rc1", "baseline.json"),
		"--engine-addr", engine.Addr("grpc"), "--feature-log", filepath.Join(work, "rows"), "--feature-log-interval", "100ms", "--max-symbols", "1")
	t.Cleanup(func() { stop(t, executor) })

	s := sender{t: t, ctx: ctx, engine: connect(t, engine), executor: connect(t, executor), codes: map[codes.Code]int{}}
	s.send()
	for _, body := range []string{
		`{"features":{"vol1m_log_rel":0.` + mark + `}}`, `{"features":{"rsi14_z":"` + mark + `x"}}`, `{"vector":{"schema":"v1.8.1","values":[` + mark + `]}}`, mark,
	} {
		s.post("http://"+engine.Addr("http")+"/ml/predict", body)
		s.post("http://"+executor.Addr("http")+"/predict-with-shadow", body)
	}
	stop(t, engine) // the next calls fail
	s.send()
	for _, want := range []codes.Code{codes.OK, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unavailable, codes.FailedPrecondition} {
		if s.codes[want] == 0 {
			t.Errorf("no call returned %v: got %v", want, s.codes)
		}
	}
	stop(t, executor) // it has then written its whole log
	for _, name := range []string{"ml-engine", "executor"} {
		raw, err := os.ReadFile(filepath.Join(work, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), "control call") || !strings.Contains(string(raw), "who=token:alice") {
			t.Errorf("log of %s: want audit lines, got %s", name, raw)
		}
		for line := range strings.Lines(string(raw)) {
			if strings.Contains(strings.NewReplacer(".", "", "e+07", "", "e+06", "").Replace(line), mark) {
				t.Errorf("log of %s: %s", name, line)
			}
		}
	}
}

func connect(t *testing.T, p *process.Process) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(p.Addr("grpc"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// sender calls both services and counts the status codes.
type sender struct {
	t                *testing.T
	ctx              context.Context
	engine, executor *grpc.ClientConn
	codes            map[codes.Code]int
}

func (s *sender) ended(err error) {
	s.codes[grpcstatus.Code(err)]++
	if strings.Contains(fmt.Sprint(err), markToken) {
		s.t.Errorf("a token in an error: %v", err)
	}
}

// send sends marked requests of every kind to both services.
func (s *sender) send() {
	scoring, decisions := mlenginev1.NewScoringServiceClient(s.engine), executorv1.NewDecisionServiceClient(s.executor)
	good := []float64{1, markPrice, -markPrice, 0.73182946, 7.3182946, -7.3182946, 73.182946}
	for _, values := range [][]float64{good, good[:3], append(good[:6:6], math.NaN()), append(good[:6:6], math.Inf(1)), nil} {
		_, err := scoring.Predict(s.ctx, &mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: values}, Watched: map[string]float64{"mid": markPrice}})
		s.ended(err)
		_, err = scoring.BatchPredict(s.ctx, &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: values})
		s.ended(err)
		_, err = decisions.Predict(s.ctx, &executorv1.PredictRequest{Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: values}})
		s.ended(err)
		_, err = decisions.PredictWithShadow(s.ctx, &executorv1.PredictWithShadowRequest{Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: values}})
		s.ended(err)
	}
	for _, symbol := range []string{"A", "B"} { // there is room for one symbol
		for _, bid := range []float64{markPrice, -markPrice, math.NaN()} {
			quote := &executorv1.Quote{Time: timestamppb.Now(), Bid: bid, Ask: markPrice}
			_, err := decisions.Predict(s.ctx, &executorv1.PredictRequest{Symbol: symbol, Quote: quote})
			s.ended(err)
			if stream, err := decisions.ObserveQuotes(s.ctx); err == nil {
				_ = stream.Send(&executorv1.ObserveQuotesRequest{Symbol: symbol, Quotes: []*executorv1.Quote{quote}})
				_, err = stream.CloseAndRecv()
				s.ended(err)
			}
		}
	}
	for _, authorization := range []string{"", "Bearer " + markToken, "Bearer " + markToken + "x", "Basic " + markToken, markToken} {
		ctx := s.ctx
		if authorization != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
		}
		_, err := mlenginev1.NewModelRegistryServiceClient(s.engine).RollbackModel(ctx, &mlenginev1.RollbackModelRequest{})
		s.ended(err)
		_, err = executorv1.NewRolloutServiceClient(s.executor).GetRollout(ctx, &executorv1.GetRolloutRequest{})
		s.ended(err)
	}
}

func (s *sender) post(url, body string) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+markToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
