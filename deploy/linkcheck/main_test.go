package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// sidecar answers like an executor whose shadow matches.
type sidecar struct {
	executorv1.UnimplementedDecisionServiceServer
}

func (sidecar) Predict(_ context.Context, r *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	return &executorv1.PredictResponse{
		RequestId: r.GetRequestId(), Score: 0.25, ModelVersion: "heuristic-v1", ShadowSampled: true,
	}, nil
}

func (sidecar) PredictWithShadow(_ context.Context, r *executorv1.PredictWithShadowRequest) (*executorv1.PredictWithShadowResponse, error) {
	return &executorv1.PredictWithShadowResponse{
		RequestId:       r.GetRequestId(),
		Baseline:        &executorv1.Score{Score: 0.25, ModelVersion: "heuristic-v1"},
		Outcome:         executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH,
		Shadow:          &executorv1.Score{Score: 0.26, ModelVersion: "v1.8.1-rc1"},
		Comparison:      &executorv1.Comparison{Delta: 0.01, Match: true},
		ShadowLatencyMs: 0.5,
	}, nil
}

func (s sidecar) Decide(stream executorv1.DecisionService_DecideServer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if !m.GetDeadline().IsValid() {
			return status.Error(codes.Internal, "the message has no deadline")
		}
		decision, err := s.Predict(stream.Context(), m.GetRequest())
		if err != nil {
			return err
		}
		if err := stream.Send(&executorv1.DecideResponse{
			Sequence: m.GetSequence(), Result: &executorv1.DecideResponse_Response{Response: decision},
		}); err != nil {
			return err
		}
	}
}

func TestRunPrintsAllAnswers(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	executorv1.RegisterDecisionServiceServer(server, sidecar{})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)

	// The deadlines are a trader's; a busy test machine gets more.
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{
		"--addr", listener.Addr().String(), "--connect-timeout", "30s", "--timeout", "30s", "--shadow-timeout", "30s",
	}, &stdout, &stderr)
	want := `Predict            linkcheck-1: score 0.250000 by heuristic-v1 (sampled for a shadow: true)
Decide             linkcheck-3: score 0.250000 by heuristic-v1 (sampled for a shadow: true)
PredictWithShadow  linkcheck-4: baseline 0.250000 by heuristic-v1, shadow match 0.260000 by v1.8.1-rc1, delta +0.010000, 0.50 ms
`
	if code != 0 || stdout.String() != want {
		t.Errorf("exit %d, want 0\ngot\n%swant\n%sstderr\n%s", code, stdout.String(), want, stderr.String())
	}
}

func TestRunFails(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"nobody listens", []string{"--addr", "127.0.0.1:1", "--connect-timeout", "200ms"}, 1, "connect to 127.0.0.1:1"},
		{"unknown flag", []string{"--no-such"}, 2, "no-such"},
		{"argument", []string{"extra"}, 2, "everything is a flag"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), test.args, &stdout, &stderr); code != test.code {
				t.Errorf("exit %d, want %d", code, test.code)
			}
			if !strings.Contains(stderr.String(), test.says) {
				t.Errorf("stderr %q does not say %q", stderr.String(), test.says)
			}
		})
	}
}
