package facade

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// MaxBody limits a body, in bytes, both compressed and uncompressed. A body has one decision or one row.
	MaxBody = 64 << 10
	// partialBodies limits the memory of all bodies being read, in bytes.
	partialBodies = 8 << 20
	// firstBuffer is the initial buffer of a body, in bytes. It doubles as more arrives.
	firstBuffer = 1 << 10
)

// errMakeRoom is returned for the largest incomplete body when all of them use too much memory.
var errMakeRoom = status.Error(codes.ResourceExhausted, "too many incomplete bodies, of which this one used the most memory: send it again")

var errTooLarge = status.Errorf(codes.ResourceExhausted, "the body is larger than %d bytes", MaxBody)

// Bodies bounds the memory of partially received request bodies. If they hold too much, the largest one is refused: a client
// that sends its body without pauses holds memory only for microseconds. The zero value is ready to use.
type Bodies struct {
	mu   sync.Mutex
	held int
	open map[*body]struct{}
}

// body is a request body that is being read.
type body struct {
	raw     []byte
	held    int // bytes counted; 0 once it is refused
	refused bool
	abort   func() // ends its Read
}

// read reads the body of a request, at most MaxBody bytes.
func (b *Bodies) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	one := &body{abort: func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) }}
	defer b.leave(one)
	from := http.MaxBytesReader(w, r.Body, MaxBody)
	for size := firstBuffer; ; size *= 2 {
		size = min(size, MaxBody+1) // one more byte, to reach EOF of a full body
		if !b.grow(one, size) {
			return nil, errMakeRoom
		}
		for len(one.raw) < cap(one.raw) {
			n, err := from.Read(one.raw[len(one.raw):cap(one.raw)])
			one.raw = one.raw[:len(one.raw)+n]
			switch {
			case errors.Is(err, io.EOF):
				return one.raw, nil
			case err != nil:
				return nil, b.why(one, err)
			}
		}
	}
}

// why returns the error for a body that could not be read.
func (b *Bodies) why(one *body, err error) error {
	b.mu.Lock()
	refused := one.refused
	b.mu.Unlock()
	switch tooLarge := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case refused:
		return errMakeRoom
	case errors.Is(err, os.ErrDeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the body did not arrive in time")
	}
	return status.Errorf(codes.Canceled, "read the body: %v", err)
}

// grow grows the buffer to size bytes. It reports false if the body is refused.
func (b *Bodies) grow(one *body, size int) bool {
	b.mu.Lock()
	if b.open == nil {
		b.open = map[*body]struct{}{}
	}
	refused := one.refused
	if !refused {
		b.open[one] = struct{}{}
		b.held += size - one.held
		one.held = size
		for b.held > partialBodies {
			refused = b.refuseLargest() == one || refused
		}
	}
	b.mu.Unlock()
	if refused {
		return false
	}
	grown := make([]byte, len(one.raw), size)
	copy(grown, one.raw)
	one.raw = grown
	return true
}

func (b *Bodies) refuseLargest() *body {
	var most *body
	for one := range b.open {
		if most == nil || one.held > most.held {
			most = one
		}
	}
	b.held -= most.held
	most.held, most.refused = 0, true
	delete(b.open, most)
	most.abort()
	return most
}

func (b *Bodies) leave(one *body) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= one.held
	one.held = 0
	delete(b.open, one)
}

// unpack decompresses the body according to its Content-Encoding, to at most MaxBody bytes.
func unpack(raw []byte, encoding string) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return raw, nil
	case "gzip", "x-gzip":
	default:
		return nil, errEncoding
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "the Content-Encoding is gzip, but the body is not")
	}
	unpacked, err := io.ReadAll(io.LimitReader(z, MaxBody+1))
	switch {
	case err != nil:
		return nil, status.Errorf(codes.InvalidArgument, "decompress the body: %v", err)
	case len(unpacked) > MaxBody:
		return nil, status.Errorf(codes.ResourceExhausted, "the decompressed body is larger than %d bytes", MaxBody)
	}
	return unpacked, nil
}
