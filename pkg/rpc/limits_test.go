package rpc_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// A message that is small when compressed and huge when uncompressed is refused, and is decompressed only up to the limit.
func TestDecompressionBomb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, &stub{predict: answer})
		for name, tt := range map[string]struct {
			size int
			want codes.Code
		}{
			"fits": {rpc.MaxMessage / 2, codes.OK}, "does not": {rpc.MaxMessage + 1, codes.ResourceExhausted}, "by far not": {16 << 20, codes.ResourceExhausted},
		} {
			// An unknown field holds zeros, which gzip compresses by a factor of 1,000.
			bomb := append([]byte{0xfa, 0x3f, 0x80, 0x80, 0x80, 0x80, 0x00}, make([]byte, tt.size)...)
			size := uint32(tt.size)
			for i := range 4 {
				bomb[2+i] = byte(size>>(7*i))&0x7f | 0x80
			}
			err := p.conn.Invoke(t.Context(), mlenginev1.ScoringService_Predict_FullMethodName, bomb, new(any), grpc.ForceCodecV2(raw{}), grpc.UseCompressor(gzip.Name))
			if status.Code(err) != tt.want {
				t.Errorf("%s: got %v, want %v", name, err, tt.want)
			}
		}
	})
}

// Headers have a limit. The client learns the limit and is cut off if it ignores it.
func TestHeaderLimit(t *testing.T) {
	c := newControlled(t, here, rpc.ControlOptions{}, certs.Server{}, nil)
	client := mlenginev1.NewScoringServiceClient(c.client(t))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-large", strings.Repeat("x", 17<<10))
	if _, err := client.Predict(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Predict(ctx, nil); err == nil || !strings.Contains(err.Error(), "16384") {
		t.Errorf("a polite client: got %v, want the limit named", err)
	}

	for size, want := range map[int]string{100: "headers", 17 << 10: "cut off"} {
		if got := c.rude(t, size); got != want {
			t.Errorf("a rude client with %d bytes: got %s, want %s", size, got, want)
		}
	}
}

// rude calls Predict with a header of that size, ignoring the server's limit, and returns what comes back.
func (c *controlled) rude(t *testing.T, size int) string {
	t.Helper()
	conn, err := c.dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(http2.ClientPreface))
	f := http2.NewFramer(conn, conn)
	_ = f.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", mlenginev1.ScoringService_Predict_FullMethodName},
		{":authority", "x"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"x-large", strings.Repeat("x", size)},
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	half := block.Len() / 2
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()[:half]})
	_ = f.WriteContinuation(1, true, block.Bytes()[half:])
	_ = f.WriteData(1, true, make([]byte, 5)) // an empty message
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return "cut off"
		}
		switch frame.(type) {
		case *http2.HeadersFrame:
			return "headers"
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "cut off"
		}
	}
}

// A server with a rate limit refuses excess calls and answers the rest.
func TestRateLimitOverGRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControlled(t, here, rpc.ControlOptions{}, certs.Server{}, rpc.NewLimiter(5))
		client := mlenginev1.NewScoringServiceClient(c.client(t))
		counts := map[codes.Code]int{}
		for range 20 {
			_, err := client.Predict(t.Context(), nil)
			counts[status.Code(err)]++
		}
		if counts[codes.OK] != 5 || counts[codes.ResourceExhausted] != 15 {
			t.Errorf("got %v, want 5 answered and 15 refused", counts)
		}
		time.Sleep(time.Second)
		if _, err := client.Predict(context.WithoutCancel(t.Context()), nil); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}
