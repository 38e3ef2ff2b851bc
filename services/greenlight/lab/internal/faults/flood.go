package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/protobuf/proto"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// rude is one HTTP/2 connection of a client that ignores all limits: it opens more streams than the server allows, and may
// read nothing. It costs a fraction of gRPC's client, so that one machine can overload itself.
type rude struct {
	conn net.Conn

	mu     sync.Mutex
	out    *bufio.Writer
	framer *http2.Framer // writes
	block  bytes.Buffer
	enc    *hpack.Encoder
	next   uint32
	begun  map[uint32]begun
	read   chan struct{} // closed when the reader has ended
	stats  stats
}

// begun is a call in flight.
type begun struct {
	due   time.Time
	want  float64
	right bool
}

// stats counts calls by result.
type stats struct {
	bench.Flood

	firstRefused time.Time
	// server and load are the CPU time that the executor and this process used until the last call was sent.
	server, load time.Duration
}

func (s *stats) add(o stats) {
	s.Add(o.Flood)
	if s.firstRefused.IsZero() || !o.firstRefused.IsZero() && o.firstRefused.Before(s.firstRefused) {
		s.firstRefused = o.firstRefused
	}
}

// dialRude connects. Unless it is deaf, answers are read until close.
func dialRude(ctx context.Context, addr string, deaf bool) (*rude, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	r := &rude{conn: conn, out: bufio.NewWriterSize(conn, 64<<10), next: 1, begun: map[uint32]begun{}, read: make(chan struct{})}
	r.framer, r.enc = http2.NewFramer(r.out, nil), hpack.NewEncoder(&r.block)
	if _, err = r.out.WriteString(http2.ClientPreface); err == nil {
		err = errors.Join(r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}),
			r.framer.WriteWindowUpdate(0, 1<<30), r.out.Flush())
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if deaf {
		close(r.read)
	} else {
		go r.listen()
	}
	return r, nil
}

func (r *rude) close() {
	_ = r.conn.Close()
	<-r.read
}

// end closes the connection and returns its counts. Open calls count as failed.
func (r *rude) end() stats {
	r.close()
	r.stats.Failed += int64(len(r.begun))
	return r.stats
}

// begin opens a stream for the call. A message, if given, ends the request. The next flush sends it.
func (r *rude) begin(method string, message []byte, b begun) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.block.Reset()
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", method},
		{":authority", "executor"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"grpc-timeout", "1S"},
	} {
		if err := r.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	id := r.next
	r.next += 2
	r.begun[id] = b
	r.stats.Due++
	err := r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block.Bytes(), EndHeaders: true})
	if err == nil && message != nil {
		err = r.framer.WriteData(id, true, message)
	}
	return err
}

func (r *rude) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Flush()
}

// frame returns the message in gRPC's framing.
func frame(m proto.Message) ([]byte, error) {
	raw, err := proto.Marshal(m)
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(raw))), raw...), err
}

// listen reads answers until the connection ends.
func (r *rude) listen() {
	defer close(r.read)
	framer := http2.NewFramer(nil, bufio.NewReaderSize(r.conn, 64<<10))
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var resp executorv1.PredictResponse
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return // closed
		}
		r.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = errors.Join(r.framer.WriteSettingsAck(), r.out.Flush())
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = errors.Join(r.framer.WritePing(true, f.Data), r.out.Flush())
			}
		case *http2.DataFrame:
			b := r.begun[f.StreamID]
			if data := f.Data(); len(data) > 5 && proto.Unmarshal(data[5:], &resp) == nil {
				b.right = math.Float64bits(resp.GetScore()) == math.Float64bits(b.want)
			}
			r.begun[f.StreamID] = b
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				r.ended(f.StreamID, f)
			}
		case *http2.RSTStreamFrame:
			r.ended(f.StreamID, nil)
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// ended checks the result of a call; trailers is nil if the server refused the stream.
func (r *rude) ended(id uint32, trailers *http2.MetaHeadersFrame) {
	b, ok := r.begun[id]
	if !ok {
		return
	}
	delete(r.begun, id)
	status := ""
	if trailers != nil {
		for _, h := range trailers.Fields {
			if h.Name == "grpc-status" {
				status = h.Value
			}
		}
	}
	switch {
	case trailers == nil, status == strconv.Itoa(int(codes.ResourceExhausted)):
		r.stats.Refused++
		if r.stats.firstRefused.IsZero() {
			r.stats.firstRefused = time.Now()
		}
	case status != "0":
		r.stats.Failed++
	case !b.right:
		r.stats.Wrong++
	case time.Since(b.due) > bench.GoodWithin:
		r.stats.Late++
	default:
		r.stats.Good++
	}
}

// tick is the time between two sends of a flood. Calls that are due in the same tick are sent together.
const tick = time.Millisecond

// floodConns is the number of connections of a flood.
const floodConns = 8

// flood requests decisions at the rate for the given time, whatever the answers, and waits one second for the last ones. When
// too many answers are unread, the executor closes a connection, and flood dials again.
func (e *Executor) flood(ctx context.Context, rate float64, length time.Duration) (stats, error) {
	messages := make([][]byte, len(e.requests))
	for i, req := range e.requests {
		var err error
		if messages[i], err = frame(req); err != nil {
			return stats{}, err
		}
	}
	var conns []*rude
	defer func() {
		for _, c := range conns {
			c.close()
		}
	}()
	for range floodConns {
		c, err := dialRude(ctx, e.Process.Addr("grpc"), false)
		if err != nil {
			return stats{}, err
		}
		conns = append(conns, c)
	}
	var sum stats
	redial := func(i int) error {
		sum.add(conns[i].end())
		c, err := dialRude(ctx, e.Process.Addr("grpc"), false)
		if err == nil {
			conns[i] = c
		}
		return err
	}
	sent := e.clock(&sum)
	begin := time.Now()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; time.Since(begin) < length; {
		due := int(rate * time.Since(begin).Seconds())
		for ; n < due; n++ {
			k := n % len(messages)
			b := begun{due: time.Now(), want: e.states[k].Baseline}
			to := n % floodConns
			if conns[to].begin(executorv1.DecisionService_Predict_FullMethodName, messages[k], b) != nil {
				if err := redial(to); err != nil {
					return stats{}, fmt.Errorf("flood: %w", err)
				}
			}
		}
		for i, c := range conns {
			if c.flush() != nil {
				if err := redial(i); err != nil {
					return stats{}, fmt.Errorf("flood: %w", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return stats{}, ctx.Err()
		case <-ticker.C:
		}
	}
	sent()
	traffic.Pause(ctx, time.Second)
	for _, c := range conns {
		c.mu.Lock()
		sum.add(c.stats)
		c.mu.Unlock()
	}
	return sum, ctx.Err()
}

// clock returns a function that records the CPU time that executor and this process have used since.
func (e *Executor) clock(s *stats) (stop func()) {
	used := func() (server, own time.Duration) {
		server, _ = rig.CPU(e.Process.PID())
		own, _ = rig.CPU(os.Getpid())
		return server, own
	}
	server, own := used()
	return func() {
		s.server, s.load = used()
		s.server, s.load = s.server-server, s.load-own
	}
}

// floodStreams is like flood, but over streams: see [bench.FloodStreams].
func (e *Executor) floodStreams(ctx context.Context, rate float64, length time.Duration) (_ stats, err error) {
	clients := make([]executorv1.DecisionServiceClient, floodConns)
	var own rig.Rig // of the connections
	defer func() { err = errors.Join(err, own.Close()) }()
	for i := range clients {
		conn, err := own.Dial(e.Process)
		if err != nil {
			return stats{}, err
		}
		conn.Connect()
		for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
			if !conn.WaitForStateChange(ctx, state) {
				return stats{}, ctx.Err()
			}
		}
		clients[i] = executorv1.NewDecisionServiceClient(conn)
	}
	var sum stats
	sent := e.clock(&sum)
	sum.Flood, err = bench.FloodStreams(ctx, clients, e.requests, e.want, rate, 1, length)
	sent()
	return sum, err
}
