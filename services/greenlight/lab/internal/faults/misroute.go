package faults

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"sync"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}

// Liar is an ml-engine whose answers are not what the model says. It passes calls on and changes what comes back.
type Liar struct {
	mlenginev1.UnimplementedScoringServiceServer

	engine mlenginev1.ScoringServiceClient
	lie    func(*mlenginev1.BatchPredictResponse)
	server *grpc.Server
	conn   *grpc.ClientConn
	served chan error
	addr   string
}

// startLiar serves on a free port in front of the ml-engine at the address.
func startLiar(ctx context.Context, engine string, lie func(*mlenginev1.BatchPredictResponse)) (*Liar, error) {
	conn, err := rpc.Dial(engine, nil)
	if err != nil {
		return nil, err
	}
	l, err := listen(ctx)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	liar := &Liar{
		engine: mlenginev1.NewScoringServiceClient(conn), lie: lie, conn: conn, addr: l.Addr().String(),
		server: grpc.NewServer(grpc.MaxRecvMsgSize(rpc.MaxMessage)), served: make(chan error, 1),
	}
	mlenginev1.RegisterScoringServiceServer(liar.server, liar)
	go func() { liar.served <- liar.server.Serve(l) }()
	return liar, nil
}

// Close ends the liar.
func (l *Liar) Close() error {
	l.server.Stop()
	return errors.Join(<-l.served, l.conn.Close())
}

// BatchPredict implements ScoringService.
func (l *Liar) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	resp, err := l.engine.BatchPredict(ctx, req)
	if err == nil {
		l.lie(resp)
	}
	return resp, err
}

// StreamPredict implements ScoringService.
func (l *Liar) StreamPredict(stream batches.Stream) error {
	return batches.Answer(stream, nil, l.BatchPredict)
}

// GetModelInfo implements ScoringService.
func (l *Liar) GetModelInfo(ctx context.Context, req *mlenginev1.GetModelInfoRequest) (*mlenginev1.GetModelInfoResponse, error) {
	return l.engine.GetModelInfo(ctx, req)
}

// Lies.

// answers is the lie that gives every row the score.
func answers(score float64) func(*mlenginev1.BatchPredictResponse) {
	return func(r *mlenginev1.BatchPredictResponse) {
		for i := range r.GetScores() {
			r.Scores[i] = score
		}
	}
}

var (
	notANumber = answers(math.NaN())
	infinite   = answers(math.Inf(1))
)

func oneRowTooMany(r *mlenginev1.BatchPredictResponse) { r.Scores = append(r.GetScores(), 0.5) }

func anotherVersion(r *mlenginev1.BatchPredictResponse) {
	r.ModelVersion, r.ModelDigest = "v0.0-unheard-of", "sha256:00"
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
