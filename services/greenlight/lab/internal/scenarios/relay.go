package scenarios

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// relay stands between an executor and its ml-engine, and does to the scores what a bad model or a bad network does.
type relay struct {
	mlenginev1.UnimplementedScoringServiceServer

	engine mlenginev1.ScoringServiceClient
	server *grpc.Server
	served chan error
	addr   string
	// delay is how much later an answer comes, shift how much higher its scores are.
	delay atomic.Int64
	shift atomic.Pointer[float64]
}

func startRelay(ctx context.Context, engine mlenginev1.ScoringServiceClient) (*relay, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{engine: engine, server: grpc.NewServer(), served: make(chan error, 1), addr: l.Addr().String()}
	mlenginev1.RegisterScoringServiceServer(r.server, r)
	go func() { r.served <- r.server.Serve(l) }()
	return r, nil
}

func (r *relay) stop() error {
	r.server.Stop()
	if err := <-r.served; !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func (r *relay) wait(ctx context.Context) error {
	if !traffic.Pause(ctx, time.Duration(r.delay.Load())) {
		return ctx.Err()
	}
	return nil
}

// moved is the score with the shift, within [0,1].
func (r *relay) moved(score float64) float64 {
	by := r.shift.Load()
	if by == nil {
		return score
	}
	return max(0, min(1, score+*by))
}

// GetModelInfo implements mlenginev1.ScoringServiceServer.
func (r *relay) GetModelInfo(ctx context.Context, req *mlenginev1.GetModelInfoRequest) (*mlenginev1.GetModelInfoResponse, error) {
	return r.engine.GetModelInfo(ctx, req)
}

// Predict implements mlenginev1.ScoringServiceServer.
func (r *relay) Predict(ctx context.Context, req *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	resp, err := r.engine.Predict(ctx, req)
	if err == nil {
		resp.Score = r.moved(resp.GetScore())
	}
	return resp, err
}

// BatchPredict implements mlenginev1.ScoringServiceServer.
func (r *relay) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	resp, err := r.engine.BatchPredict(ctx, req)
	if err == nil {
		for i, s := range resp.GetScores() {
			resp.Scores[i] = r.moved(s)
		}
	}
	return resp, err
}

// StreamPredict implements mlenginev1.ScoringServiceServer.
func (r *relay) StreamPredict(stream batches.Stream) error {
	return batches.Answer(stream, nil, r.BatchPredict)
}
