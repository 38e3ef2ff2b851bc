package faults

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}

// Liar is an ml-engine whose answers are not those of its model. It passes calls on and changes the scores that come back.
type Liar struct {
	mlenginev1.UnimplementedScoringServiceServer

	engine mlenginev1.ScoringServiceClient
	lie    atomic.Pointer[Lie]
	server *grpc.Server
	conn   *grpc.ClientConn
	served chan error
	addr   string
}

// Lie changes an answer. An error is answered instead.
type Lie func(context.Context, *mlenginev1.BatchPredictResponse) error

// StartLiar serves on a free port in front of the ml-engine at the address. It changes nothing until [Liar.Tell].
func StartLiar(ctx context.Context, engine string) (*Liar, error) {
	conn, err := rpc.Dial(engine, nil)
	if err != nil {
		return nil, err
	}
	listener, err := listen(ctx)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	l := &Liar{
		engine: mlenginev1.NewScoringServiceClient(conn), conn: conn, addr: listener.Addr().String(),
		server: grpc.NewServer(grpc.MaxRecvMsgSize(rpc.MaxMessage)), served: make(chan error, 1),
	}
	mlenginev1.RegisterScoringServiceServer(l.server, l)
	go func() { l.served <- l.server.Serve(listener) }()
	return l, nil
}

// Addr is its gRPC address.
func (l *Liar) Addr() string { return l.addr }

// Tell changes all further answers by the lie.
func (l *Liar) Tell(lie Lie) { l.lie.Store(&lie) }

// Close ends the liar.
func (l *Liar) Close() error {
	l.server.Stop()
	return errors.Join(<-l.served, l.conn.Close())
}

// BatchPredict implements ScoringService.
func (l *Liar) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	resp, err := l.engine.BatchPredict(ctx, req)
	if lie := l.lie.Load(); err == nil && lie != nil {
		err = (*lie)(ctx, resp)
	}
	return resp, err
}

// GetModelInfo implements ScoringService.
func (l *Liar) GetModelInfo(ctx context.Context, req *mlenginev1.GetModelInfoRequest) (*mlenginev1.GetModelInfoResponse, error) {
	return l.engine.GetModelInfo(ctx, req)
}

// Scored is the lie that changes every score.
func Scored(change func(float64) float64) Lie {
	return func(_ context.Context, r *mlenginev1.BatchPredictResponse) error {
		for i, s := range r.GetScores() {
			r.Scores[i] = change(s)
		}
		return nil
	}
}

// Late is the lie that answers later by d.
func Late(d time.Duration) Lie {
	return func(ctx context.Context, _ *mlenginev1.BatchPredictResponse) error {
		if !traffic.Pause(ctx, d) {
			return status.FromContextError(ctx.Err()).Err()
		}
		return nil
	}
}

func oneRowTooMany(_ context.Context, r *mlenginev1.BatchPredictResponse) error {
	r.Scores = append(r.GetScores(), 0.5)
	return nil
}

func anotherVersion(_ context.Context, r *mlenginev1.BatchPredictResponse) error {
	r.ModelVersion, r.ModelDigest = "v0.0-unheard-of", "sha256:00"
	return nil
}

// Garbage is a server that answers whatever comes with bytes that are no HTTP/2.
type Garbage struct {
	listener net.Listener
	mu       sync.Mutex
	conns    map[net.Conn]bool
	busy     sync.WaitGroup
}

// startGarbage serves on a free port.
func startGarbage(ctx context.Context) (*Garbage, error) {
	l, err := listen(ctx)
	if err != nil {
		return nil, err
	}
	g := &Garbage{listener: l, conns: map[net.Conn]bool{}}
	g.busy.Go(g.serve)
	return g, nil
}

func (g *Garbage) serve() {
	junk := bytes.Repeat([]byte("HTTP/1.1 200 OK\r\n\r\n\x00\xff\x00"), 64)
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return // closed
		}
		g.mu.Lock()
		g.conns[conn] = true
		g.mu.Unlock()
		g.busy.Go(func() {
			buffer := make([]byte, 4096)
			for {
				if _, err := conn.Read(buffer); err != nil {
					break
				}
				if _, err := conn.Write(junk); err != nil {
					break
				}
			}
			g.mu.Lock()
			delete(g.conns, conn)
			g.mu.Unlock()
			_ = conn.Close()
		})
	}
}

// Close ends the server and its connections.
func (g *Garbage) Close() error {
	err := g.listener.Close()
	g.mu.Lock()
	for conn := range g.conns {
		_ = conn.Close()
	}
	g.mu.Unlock()
	g.busy.Wait()
	return err
}
