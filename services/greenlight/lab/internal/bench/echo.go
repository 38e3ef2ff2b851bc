package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/greenlight-ml/greenlight/pkg/serve"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// echoScore is the score of every answer.
const echoScore = 0.25

// echoDigest is as long as a digest.
var echoDigest = strings.Repeat("0", 64)

// EchoOptions configures [Echo].
type EchoOptions struct {
	// ModelVersion and BaselineVersion appear in the answers, so that these are as long as those of the services.
	ModelVersion, BaselineVersion string
	// AddressFile is the file for the bound address.
	AddressFile string
}

// Echo serves Predict of both services, and Decide, on plain gRPC, without interceptors, checks or work, until ctx ends. It
// measures the cost of gRPC on this machine. It binds a free port on loopback.
func Echo(ctx context.Context, opts EchoOptions) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// The client pings as often as the services allow; gRPC's default would close the connection.
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	mlenginev1.RegisterScoringServiceServer(server, scoringEcho{version: opts.ModelVersion})
	executorv1.RegisterDecisionServiceServer(server, decisionEcho{version: opts.BaselineVersion})
	ping, err := listenPing(ctx)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer ping.stop() //nolint:errcheck // a folder of the system's temporary files may stay
	if err := serve.WriteAddresses(opts.AddressFile, map[string]net.Addr{"grpc": l.Addr(), pingAddress: ping.Addr()}); err != nil {
		return errors.Join(err, l.Close())
	}
	defer context.AfterFunc(ctx, server.Stop)()
	go ping.serve()
	return server.Serve(l)
}

type scoringEcho struct {
	mlenginev1.UnimplementedScoringServiceServer

	version string
}

// Predict implements ScoringService.
func (e scoringEcho) Predict(_ context.Context, req *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	return &mlenginev1.PredictResponse{
		RequestId: req.GetRequestId(), Score: echoScore, ModelVersion: e.version, ModelDigest: echoDigest,
	}, nil
}

type decisionEcho struct {
	executorv1.UnimplementedDecisionServiceServer

	version string
}

// Predict implements DecisionService.
func (e decisionEcho) Predict(_ context.Context, req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	return e.answer(req), nil
}

func (e decisionEcho) answer(req *executorv1.PredictRequest) *executorv1.PredictResponse {
	return &executorv1.PredictResponse{RequestId: req.GetRequestId(), Score: echoScore, ModelVersion: e.version, ModelDigest: echoDigest}
}

// Decide implements DecisionService.
func (e decisionEcho) Decide(stream grpc.BidiStreamingServer[executorv1.DecideRequest, executorv1.DecideResponse]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			answer := &executorv1.DecideResponse_Response{Response: e.answer(req.GetRequest())}
			err = stream.Send(&executorv1.DecideResponse{Sequence: req.GetSequence(), Result: answer})
		}
		if err != nil {
			return err
		}
	}
}
