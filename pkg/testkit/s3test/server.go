// Package s3test is a fake in-memory S3 server for tests. It supports what the clients of rows use: whole writes of objects with
// metadata, whole, range and conditional reads, and paged listings. It does not check signatures. Tests can make it fail.
package s3test

import (
	"bufio"
	"context"
	"crypto/md5" //nolint:gosec // the ETag of S3
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is the server. It is an [http.Handler] with buckets in the URL path. The zero value has no buckets.
type Server struct {
	// PageSize is the maximum number of objects on a page of a listing; 0 means 1,000.
	PageSize int
	// Fault, if set, returns how a request fails. It may change the objects. Calls are serialized.
	Fault func(*http.Request) Fault

	faults   sync.Mutex
	mu       sync.Mutex
	buckets  map[string]map[string]object
	requests []string
}

// Fault is how a request fails. The zero value is no fault.
type Fault struct {
	// Status and Code are the response to a request that is not executed.
	Status int
	Code   string
	// Lost executes the request, but closes the connection instead of answering.
	Lost bool
	// Half closes the connection after half of the response.
	Half bool
	// Stall never answers. With Half, it does not close the connection either.
	Stall bool
	// Skip ignores conditions on the ETag, like servers that do not support them.
	Skip bool
}

type object struct {
	data     []byte
	meta     http.Header
	modified time.Time
}

func (o object) etag() string {
	sum := md5.Sum(o.data) //nolint:gosec // as above
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// Transport serves in memory until the test ends, and returns the client's transport. It needs no network, so it works in the
// fake time of testing/synctest.
func (s *Server) Transport(t testing.TB) http.RoundTripper {
	listener := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	transport := &http.Transport{DialContext: listener.dial, DialTLSContext: listener.dial} // TLS is only pretended
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := errors.Join(server.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return transport
}

// pipes is an in-memory listener. It uses net.Pipe, because deadlines of bufconn may fire after they were cleared.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (*pipes) Addr() net.Addr { return &net.UnixAddr{Name: "s3test", Net: "unix"} }

// Make makes an empty bucket.
func (s *Server) Make(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets == nil {
		s.buckets = map[string]map[string]object{}
	}
	s.buckets[bucket] = map[string]object{}
}

// Put writes an object without metadata, as another program would.
func (s *Server) Put(bucket, key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[bucket][key] = object{data: data, modified: time.Now()}
}

// Alter changes the content of an object but not its metadata.
func (s *Server) Alter(bucket, key string, change func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.buckets[bucket][key]
	o.data = change(slices.Clone(o.data))
	s.buckets[bucket][key] = o
}

// Objects returns the objects of a bucket by key.
func (s *Server) Objects(bucket string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	objects := map[string][]byte{}
	for key, o := range s.buckets[bucket] {
		objects[key] = o.data
	}
	return objects
}

// Requests returns the requests so far, as "METHOD path", without queries, and forgets them.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	var f Fault
	if s.Fault != nil {
		s.faults.Lock()
		f = s.Fault(r)
		s.faults.Unlock()
	}
	switch {
	case f.Stall && !f.Half:
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a disconnect only once it has read the request
		<-r.Context().Done()
		hangUp()
	case f.Status != 0:
		fail(w, r, f.Status, f.Code)
		return
	}
	answer := httptest.NewRecorder() // buffered, so that it can fail as a whole
	s.serve(answer, r, f.Skip)
	if f.Lost {
		hangUp()
	}
	maps.Copy(w.Header(), answer.Header())
	if r.Method != http.MethodHead || w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	}
	w.WriteHeader(answer.Code)
	if !f.Half {
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	if f.Stall {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	hangUp()
}

// hangUp closes the connection without finishing the response.
func hangUp() {
	panic(http.ErrAbortHandler) //nolint:forbidigo // the way that net/http documents
}

// fail sends an S3 error.
func fail(w http.ResponseWriter, r *http.Request, status int, code string) {
	body, _ := xml.Marshal(struct {
		XMLName                 xml.Name `xml:"Error"`
		Code, Message, Resource string
	}{Code: code, Message: "the fake says " + code, Resource: r.URL.Path})
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, skip bool) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.mu.Lock()
	objects, ok := s.buckets[bucket]
	o, found := objects[key]
	s.mu.Unlock()
	switch {
	case !ok:
		fail(w, r, http.StatusNotFound, "NoSuchBucket")
	case key == "" && r.Method == http.MethodGet && r.URL.Query().Has("location"):
		_, _ = io.WriteString(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`)
	case key == "" && r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2" && r.URL.Query().Get("delimiter") == "":
		s.list(w, bucket, r.URL.Query())
	case key == "":
		fail(w, r, http.StatusNotImplemented, "NotImplemented")
	case r.Method == http.MethodPut:
		s.put(w, r, bucket, key, skip)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		fail(w, r, http.StatusNotImplemented, "NotImplemented")
	case !found:
		fail(w, r, http.StatusNotFound, "NoSuchKey")
	default:
		get(w, r, o, skip)
	}
}

// get sends an object, or a range of it.
func get(w http.ResponseWriter, r *http.Request, o object, skip bool) {
	if want := r.Header.Get("If-Match"); want != "" && want != o.etag() && !skip {
		fail(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	maps.Copy(w.Header(), o.meta)
	w.Header().Set("ETag", o.etag())
	w.Header().Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
	data := o.data
	if from, to, ok := rangeOf(r.Header.Get("Range"), len(data)); ok {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		data = data[from:to]
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(data)
	}
}

// rangeOf returns the bytes [from, to) of a Range with two ends.
func rangeOf(header string, size int) (from, to int, ok bool) {
	if _, err := fmt.Sscanf(header, "bytes=%d-%d", &from, &to); err != nil || from < 0 || from > to || from >= size {
		return 0, 0, false
	}
	return from, min(to+1, size), true
}

// put writes an object whole, or not at all.
func (s *Server) put(w http.ResponseWriter, r *http.Request, bucket, key string, skip bool) {
	data, err := body(r)
	if err != nil {
		fail(w, r, http.StatusBadRequest, "IncompleteBody")
		return
	}
	if want := r.Header.Get("Content-Md5"); want != "" {
		if sum := md5.Sum(data); want != base64.StdEncoding.EncodeToString(sum[:]) { //nolint:gosec // as above
			fail(w, r, http.StatusBadRequest, "BadDigest")
			return
		}
	}
	if want := r.Header.Get("X-Amz-Content-Sha256"); len(want) == 2*sha256.Size {
		if sum := sha256.Sum256(data); want != hex.EncodeToString(sum[:]) {
			fail(w, r, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
			return
		}
	}
	o := object{data: data, meta: http.Header{}, modified: time.Now()}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == "Content-Type" {
			o.meta[name] = values
		}
	}
	s.mu.Lock()
	_, exists := s.buckets[bucket][key]
	refused := exists && r.Header.Get("If-None-Match") == "*" && !skip
	if !refused {
		s.buckets[bucket][key] = o
	}
	s.mu.Unlock()
	if refused {
		fail(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	w.Header().Set("ETag", o.etag())
}

// body returns the content of a request, decoded if it is signed in chunks.
func body(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		data, err := io.ReadAll(r.Body)
		if err == nil && int64(len(data)) != r.ContentLength {
			err = io.ErrUnexpectedEOF
		}
		return data, err
	}
	var data []byte
	lines := bufio.NewReader(r.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, err
		}
		length, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(length, 16, 32)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		chunk := make([]byte, n+2) // with the end of the line
		if _, err := io.ReadFull(lines, chunk); err != nil {
			return nil, err
		}
		data = append(data, chunk[:n]...)
	}
	if want := r.Header.Get("X-Amz-Decoded-Content-Length"); want != strconv.Itoa(len(data)) {
		return nil, errors.New("the chunks have another length")
	}
	_, err := io.Copy(io.Discard, lines) // the trailers
	return data, err
}

// list sends a page of ListObjectsV2.
func (s *Server) list(w http.ResponseWriter, bucket string, query url.Values) {
	type content struct {
		Key, LastModified, ETag string
		Size                    int
	}
	page := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name, Prefix          string
		KeyCount, MaxKeys     int
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		EncodingType          string `xml:",omitempty"`
		Contents              []content
	}{Name: bucket, Prefix: query.Get("prefix"), MaxKeys: s.PageSize, EncodingType: query.Get("encoding-type")}
	if page.MaxKeys == 0 {
		page.MaxKeys = 1000
	}
	encode := func(s string) string { return s }
	if page.EncodingType == "url" {
		encode = url.QueryEscape
	}
	after := query.Get("start-after")
	if token := query.Get("continuation-token"); token != "" {
		after = strings.TrimPrefix(token, "after ")
	}
	s.mu.Lock()
	objects := maps.Clone(s.buckets[bucket])
	s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		o := objects[key]
		if key <= after || !strings.HasPrefix(key, page.Prefix) {
			continue
		}
		if len(page.Contents) == page.MaxKeys {
			page.IsTruncated, page.NextContinuationToken = true, "after "+after
			break
		}
		after = key
		page.Contents = append(page.Contents, content{encode(key), o.modified.UTC().Format(time.RFC3339), o.etag(), len(o.data)})
	}
	page.KeyCount = len(page.Contents)
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(page)
}
