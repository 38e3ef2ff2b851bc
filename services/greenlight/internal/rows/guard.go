package rows

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// idle limits the time without progress of a request.
	idle = 30 * time.Second
	// maxAnswer limits a response other than an object, in bytes: a page of a listing has up to 1,000 keys of 1 KiB, escaped.
	maxAnswer = 16 << 20
	// maxPages limits the consecutive pages of a listing without a key, which S3 may return.
	maxPages = 1000
)

// pagesKey is the context key for the number of requests of a listing since its last key.
type pagesKey struct{}

// guard ends requests that make no progress, and limits the size of responses. The client follows no redirects.
type guard struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if pages, ok := r.Context().Value(pagesKey{}).(*atomic.Int64); ok && pages.Add(1) > maxPages {
		return nil, errNoKeys
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(idle, func() { cancel(errStalled) })
	watch := func(rc io.ReadCloser, limit int64) *watched {
		return &watched{rc, limit, func(err error) error {
			timer.Reset(idle)
			if err != nil && errors.Is(context.Cause(ctx), errStalled) {
				return errStalled
			}
			return err
		}, func() { timer.Stop(); cancel(nil) }}
	}
	sent := r.WithContext(ctx)
	if r.Body != nil {
		body := watch(r.Body, math.MaxInt64)
		body.end = func() {} // the response is still to come
		sent.Body = body
	}
	resp, err := g.next.RoundTrip(sent)
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		timer.Stop()
		cancel(nil)
		return nil, err
	}
	limit := int64(maxAnswer)
	if r.Method == http.MethodGet && r.URL.RawQuery == "" && resp.StatusCode < 300 {
		limit = maxPart + 1 // the reader stops before that
	}
	resp.Body = watch(resp.Body, limit)
	return resp, nil
}

// watched is a body of at most left bytes that reports its progress.
type watched struct {
	io.ReadCloser

	left int64
	// step is called after every read, and returns the error to report. end is called when the body is closed.
	step func(error) error
	end  func()
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	if w.left < 0 {
		return 0, errTooLong
	}
	n, err := w.ReadCloser.Read(p)
	w.left -= int64(n)
	return n, w.step(err)
}

// Close implements io.Closer.
func (w *watched) Close() error {
	defer w.end()
	return w.ReadCloser.Close()
}
