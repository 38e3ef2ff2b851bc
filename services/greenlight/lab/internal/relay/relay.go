// Package relay forwards calls from an executor to its ml-engine, and changes the answers as a bad model or network would.
package relay

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Relay forwards the calls of an executor to ml-engine.
type Relay struct {
	mlenginev1.UnimplementedScoringServiceServer

	engine mlenginev1.ScoringServiceClient
	change atomic.Pointer[Change]
	// changed counts answers since the last Set.
	changed atomic.Int64
	server  *grpc.Server
	conn    *grpc.ClientConn
	served  chan error
	addr    string
}

// Change changes an answer. If it returns an error, the caller gets the error instead.
type Change func(context.Context, *mlenginev1.BatchPredictResponse) error

// Start serves on a free port in front of the ml-engine at the address. It changes nothing until [Relay.Set].
func Start(ctx context.Context, engine string) (*Relay, error) {
	conn, err := rpc.Dial(engine, nil)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r := &Relay{
		engine: mlenginev1.NewScoringServiceClient(conn), conn: conn, addr: l.Addr().String(),
		server: grpc.NewServer(grpc.MaxRecvMsgSize(rpc.MaxMessage)), served: make(chan error, 1),
	}
	mlenginev1.RegisterScoringServiceServer(r.server, r)
	go func() { r.served <- r.server.Serve(l) }()
	return r, nil
}

// Addr returns its gRPC address.
func (r *Relay) Addr() string { return r.addr }

// Set applies c to all further answers; nil changes none.
func (r *Relay) Set(c Change) {
	r.change.Store(&c)
	r.changed.Store(0)
}

// Changed returns the number of answers changed since the last [Relay.Set].
func (r *Relay) Changed() int64 { return r.changed.Load() }

// Close ends the relay.
func (r *Relay) Close() error {
	r.server.Stop()
	return errors.Join(<-r.served, r.conn.Close())
}

// BatchPredict implements ScoringService.
func (r *Relay) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	resp, err := r.engine.BatchPredict(ctx, req)
	if change := r.change.Load(); err == nil && change != nil && *change != nil {
		r.changed.Add(1)
		err = (*change)(ctx, resp)
	}
	return resp, err
}

// StreamPredict implements ScoringService.
func (r *Relay) StreamPredict(stream batches.Stream) error {
	return batches.Answer(stream, nil, r.BatchPredict)
}

// GetModelInfo implements ScoringService.
func (r *Relay) GetModelInfo(ctx context.Context, req *mlenginev1.GetModelInfoRequest) (*mlenginev1.GetModelInfoResponse, error) {
	return r.engine.GetModelInfo(ctx, req)
}

// Scores changes every score.
func Scores(change func(float64) float64) Change {
	return func(_ context.Context, r *mlenginev1.BatchPredictResponse) error {
		for i, s := range r.GetScores() {
			r.Scores[i] = change(s)
		}
		return nil
	}
}

// Late delays every answer by d.
func Late(d time.Duration) Change {
	return func(ctx context.Context, _ *mlenginev1.BatchPredictResponse) error {
		if !traffic.Pause(ctx, d) {
			return status.FromContextError(ctx.Err()).Err()
		}
		return nil
	}
}
