package shadow

import (
	"context"
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

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Bounds of what executor takes from ml-engine, whatever that sends. This file is the only place that applies them.
const (
	// maxEngineName is in bytes, of a name, a version or a digest. A registry takes no longer name.
	maxEngineName = 64
	// maxEngineText is in bytes, of a text for people: an error, the reason of a verdict.
	maxEngineText = 512
	// A row of a batch needs 9 bytes for its score and, if it failed, some 200 for its error. The description of a model
	// and its drift need 10 KiB. So a response to 64 rows may have 64 KiB.
	engineRowBytes, engineBaseBytes = 512, 32 << 10
	// maxEngineParts is how many messages a response may have in it, beyond one for each row of a batch.
	maxEngineParts = 1024
	// maxEngineHeader is in bytes as HTTP/2 counts them. An error of [rpc.Error], the longest there is, needs 12 KiB.
	maxEngineHeader = 16 << 10
	// engineWindow is what may be under way on a stream and on a connection, in bytes.
	engineWindow = 64 << 10
	// engineBytesPerSecond is how much is read of a connection, engineBurst what may come at once. A full batch at
	// saturation answers with 1 MB/s. A flood of frames of 9 bytes costs a small part of a core at this rate.
	engineBytesPerSecond, engineBurst = 4 << 20, 256 << 10
	// engineDialsPerSecond is how many connections may be made, engineDialBurst how many at once.
	engineDialsPerSecond, engineDialBurst = 5, 64
)

// DialOptions are the options of a connection to ml-engine that is asked for batches of at most maxBatch rows. Whatever
// ml-engine sends, its texts arrive valid and short, its messages and headers are bounded, and so is what a flood of
// frames or connections costs. A connection without credentials is in the clear.
func DialOptions(c credentials.TransportCredentials, maxBatch int) []grpc.DialOption {
	if c == nil {
		c = insecure.NewCredentials()
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(slowed{c, rate.NewLimiter(engineDialsPerSecond, engineDialBurst)}),
		grpc.WithMaxHeaderListSize(maxEngineHeader),
		grpc.WithStaticStreamWindowSize(engineWindow),
		grpc.WithStaticConnWindowSize(engineWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(engineBaseBytes + engineRowBytes*maxBatch)),
		grpc.WithDisableServiceConfig(), // that of a DNS record
		grpc.WithChainUnaryInterceptor(cleanCalls(maxBatch)),
	}
}

// cleanCalls bounds the texts of every response and error.
func cleanCalls(maxBatch int) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
			return cleanError(err)
		}
		m, ok := reply.(proto.Message)
		c := cleaner{left: maxEngineParts + maxBatch}
		if !ok || !c.message(m.ProtoReflect(), maxEngineName) {
			return status.Errorf(codes.Internal, "ml-engine's response has more than %d parts", maxEngineParts+maxBatch)
		}
		return nil
	}
}

// cleanError returns the error without details, with a short message and a code that gRPC defines: codes are labels of
// metrics.
func cleanError(err error) error {
	s := status.Convert(err)
	code := s.Code()
	if code > codes.Unauthenticated {
		code = codes.Unknown
	}
	return status.Error(code, text.Clean(s.Message(), maxEngineText))
}

// cleaner bounds the texts of a response. left is how many more parts it may have.
type cleaner struct{ left int }

// message bounds the texts of m, and drops bytes and maps, which executor asks for nowhere. It reports whether the
// response has few enough parts.
func (c *cleaner) message(m protoreflect.Message, limit int) bool {
	if c.left--; c.left < 0 {
		return false
	}
	few := true
	m.SetUnknown(nil)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		isMessage := f.Kind() == protoreflect.MessageKind || f.Kind() == protoreflect.GroupKind
		switch {
		case f.IsMap(), f.Kind() == protoreflect.BytesKind:
			m.Clear(f)
		case f.IsList() && isMessage:
			for i, l := 0, v.List(); i < l.Len() && few; i++ {
				few = c.message(l.Get(i).Message(), maxEngineText)
			}
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			l := v.List()
			c.left -= l.Len()
			for i := range l.Len() {
				l.Set(i, protoreflect.ValueOfString(text.Clean(l.Get(i).String(), maxEngineText)))
			}
		case f.IsList(): // numbers
		case isMessage:
			few = c.message(v.Message(), maxEngineText)
		case f.Kind() == protoreflect.StringKind:
			if s := text.Clean(v.String(), limit); s != v.String() {
				m.Set(f, protoreflect.ValueOfString(s))
			}
		}
		return few
	})
	return few && c.left >= 0
}

// slowed are credentials whose connections are made and read no faster than ml-engine needs.
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

// slowConn is a connection that is read at a limited rate: its peer waits, and its reader does not spin.
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
			time.Sleep(wait) // at most a burst's: 63 ms
		}
	}
	return n, err
}
