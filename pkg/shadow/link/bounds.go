package link

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Limits on everything that executor accepts from ml-engine. They are applied in this file only.
const (
	// MaxName limits a name, a version or a digest, in bytes. The registry does not accept longer names.
	MaxName = 64
	// MaxText limits a text for people, such as an error or the reason of a verdict, in bytes.
	MaxText = 512
	// A row of a batch needs 9 bytes for its score and about 200 for an error. The description of a model and its drift
	// need 10 KiB. So the response to 64 rows may have 64 KiB.
	engineRowBytes, engineBaseBytes = 512, 32 << 10
	// maxEngineParts is how many nested messages a response may have, besides one per row of a batch. The description of a
	// model has one per feature.
	maxEngineParts = feature.MaxFeatures + 48
	// maxEngineHeader is in bytes as HTTP/2 counts them. The longest headers, from [rpc.Error], have up to 12 KiB.
	maxEngineHeader = 16 << 10
	// engineWindow is the flow-control window of a stream and of a connection, in bytes.
	engineWindow = 64 << 10
	// engineBytesPerSecond limits reading from a connection, engineBurst a single burst, in bytes. Full batches at
	// saturation need 1 MB/s. At this rate a flood of 9-byte frames costs a small part of a core.
	engineBytesPerSecond, engineBurst = 4 << 20, 256 << 10
	// engineDialsPerSecond limits new connections, engineDialBurst a single burst of them.
	engineDialsPerSecond, engineDialBurst = 5, 64
)

// dialOptions returns the options of a connection to ml-engine for batches of at most maxBatch rows. They bound messages,
// headers and texts from ml-engine, the cost of a flood of frames, and the cost of a flood of connections over all connections
// with these options. A connection without credentials is not encrypted.
func dialOptions(c credentials.TransportCredentials, maxBatch int) []grpc.DialOption {
	if c == nil {
		c = insecure.NewCredentials()
	}
	bound := bounds{parts: maxEngineParts + maxBatch}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(slowed{c, rate.NewLimiter(engineDialsPerSecond, engineDialBurst)}),
		grpc.WithMaxHeaderListSize(maxEngineHeader),
		grpc.WithStaticStreamWindowSize(engineWindow),
		grpc.WithStaticConnWindowSize(engineWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(engineBaseBytes + engineRowBytes*maxBatch)),
		grpc.WithDisableServiceConfig(), // which a DNS record could supply
		grpc.WithChainUnaryInterceptor(bound.call),
		grpc.WithChainStreamInterceptor(bound.stream),
	}
}

// bounds are interceptors that bound the texts of every response and error. parts is the limit of parts in a response.
type bounds struct{ parts int }

func (b bounds) call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return cleanError(err)
	}
	return b.response(reply)
}

func (b bounds) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, cleanError(err)
	}
	return boundStream{stream, b}, nil
}

// boundStream is a stream whose responses and errors are bounded.
type boundStream struct {
	grpc.ClientStream

	bounds bounds
}

// RecvMsg implements grpc.ClientStream.
func (s boundStream) RecvMsg(reply any) error {
	err := s.ClientStream.RecvMsg(reply)
	switch {
	case errors.Is(err, io.EOF):
		return err
	case err != nil:
		return cleanError(err)
	}
	return s.bounds.response(reply)
}

func (b bounds) response(reply any) error {
	m, ok := reply.(proto.Message)
	c := cleaner{left: b.parts}
	if !ok || !c.message(m.ProtoReflect(), MaxName) {
		return status.Errorf(codes.Internal, "ml-engine's response has more than %d parts", b.parts)
	}
	return nil
}

// cleanError returns the error without details, with a short message and a code that gRPC defines. Codes are metric
// labels, so their number must be bounded.
func cleanError(err error) error {
	s := status.Convert(err)
	code := s.Code()
	if code > codes.Unauthenticated {
		code = codes.Unknown
	}
	return status.Error(code, text.Clean(s.Message(), MaxText))
}

// cleaner bounds the texts of a response. left is how many more messages and texts are allowed.
type cleaner struct{ left int }

// message bounds the texts of m and drops maps and bytes, which no response needs, except the raw tensors of model servers,
// which are lists. It reports whether the response is within its limit of parts.
func (c *cleaner) message(m protoreflect.Message, limit int) bool {
	if c.left--; c.left < 0 {
		return false
	}
	few := true
	m.SetUnknown(nil)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		isMessage := f.Kind() == protoreflect.MessageKind || f.Kind() == protoreflect.GroupKind
		switch {
		case f.IsMap(), f.Kind() == protoreflect.BytesKind && !f.IsList():
			m.Clear(f)
		case f.IsList() && isMessage:
			for i, l := 0, v.List(); i < l.Len() && few; i++ {
				few = c.message(l.Get(i).Message(), MaxText)
			}
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			l := v.List()
			c.left -= l.Len()
			for i := range l.Len() {
				l.Set(i, protoreflect.ValueOfString(text.Clean(l.Get(i).String(), MaxText)))
			}
		case f.IsList(): // numbers, and raw tensors
		case isMessage:
			few = c.message(v.Message(), MaxText)
		case f.Kind() == protoreflect.StringKind:
			if s := text.Clean(v.String(), limit); s != v.String() {
				m.Set(f, protoreflect.ValueOfString(s))
			}
		}
		return few
	})
	return few && c.left >= 0
}

// slowed are credentials that limit the rate of new connections and of reading from them.
type slowed struct {
	credentials.TransportCredentials

	dials *rate.Limiter
}

// ClientHandshake implements credentials.TransportCredentials.
func (s slowed) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if err := s.dials.Wait(ctx); err != nil {
		return nil, nil, err
	}
	return s.TransportCredentials.ClientHandshake(ctx, authority, &slowConn{conn, rate.NewLimiter(engineBytesPerSecond, engineBurst)})
}

// Clone implements credentials.TransportCredentials.
func (s slowed) Clone() credentials.TransportCredentials {
	return slowed{s.TransportCredentials.Clone(), s.dials}
}

// slowConn limits the rate of reading from a connection, which slows its peer down.
type slowConn struct {
	net.Conn

	limiter *rate.Limiter
}

// Read implements net.Conn.
func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), engineBurst)])
	if n > 0 {
		now := time.Now()
		if wait := c.limiter.ReserveN(now, n).DelayFrom(now); wait > 0 {
			time.Sleep(wait) // at most 63 ms, for a full burst
		}
	}
	return n, err
}
