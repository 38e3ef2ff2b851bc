// Package rows moves the rows of feature logs through S3-compatible storage: [Push] copies the complete parts of a log to a bucket,
// next to the executor, and [Open] reads a log from there or from a folder.
//
// Objects have the names of the files in a folder with several executors, below the prefix of the dataset:
//
//	<prefix>/executor=<id>/date=2026-09-01/schema=v1.8.1/part-20260901T094500Z-5f0c9a3e-000001.parquet
//
// Each object is written by a single request, so it is complete or absent, and never replaced.
package rows

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Store describes how to reach an S3-compatible store. The credentials come from the environment (AWS_ACCESS_KEY_ID and
// others) or from the shared AWS file (~/.aws/credentials, AWS_PROFILE). Without any, requests are anonymous.
type Store struct {
	// Endpoint is the URL or the host of the store; AWS if empty. Without http:// it uses TLS, except on loopback.
	Endpoint string
	// Region is the region of the bucket. If it is empty, the store is asked.
	Region string

	// transport replaces the network in tests.
	transport http.RoundTripper
}

const scheme = "s3://"

// IsURL reports whether a place of rows is in a store, not a folder.
func IsURL(place string) bool { return strings.HasPrefix(place, scheme) }

// bucket is a dataset in a store: the objects of a bucket below a prefix.
type bucket struct {
	client *minio.Client
	name   string
	// prefix ends with a slash, unless it is empty.
	prefix string
	// store is the host of the store, for messages.
	store     string
	anonymous bool
}

// String returns the URL of the dataset.
func (b *bucket) String() string { return strings.TrimSuffix(scheme+b.name+"/"+b.prefix, "/") }

// CheckURL returns an error if s is not the URL of a dataset.
func CheckURL(s string) error {
	_, _, err := parse(s)
	return err
}

func parse(s string) (name, prefix string, err error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return "", "", fmt.Errorf("%q: want %sbucket/prefix", s, scheme)
	}
	name, prefix, _ = strings.Cut(rest, "/")
	if err := s3utils.CheckValidBucketNameStrict(name); err != nil {
		return "", "", fmt.Errorf("%q: %w", s, err)
	}
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return name, "", nil
	}
	for step := range strings.SplitSeq(prefix, "/") {
		if step == "" || step == "." || step == ".." {
			return "", "", fmt.Errorf("%q: want a prefix without empty, . and .. elements", s)
		}
	}
	if err := s3utils.CheckValidObjectName(prefix); err != nil || len(prefix) > maxPrefix {
		return "", "", fmt.Errorf("%q: want a prefix of at most %d bytes of UTF-8", s, maxPrefix)
	}
	return name, prefix + "/", nil
}

// maxPrefix leaves room for the names of parts: S3 allows 1,024 bytes in total.
const maxPrefix = 512

// bucket returns the dataset with the URL. It does not connect to the store yet.
func (s Store) bucket(place string) (*bucket, error) {
	name, prefix, err := parse(place)
	if err != nil {
		return nil, err
	}
	host, secure, err := s.endpoint()
	if err != nil {
		return nil, err
	}
	transport := s.transport
	if transport == nil {
		if transport, err = minio.DefaultTransport(secure); err != nil {
			return nil, err
		}
	}
	creds := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	client, err := minio.New(host, &minio.Options{
		Creds: creds, Secure: secure, Region: s.Region, Transport: &guard{transport},
		MaxRetries: 1, // func again does the retries
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", host, err)
	}
	keys, err := creds.GetWithContext(client.CredContext())
	return &bucket{client, name, prefix, host, err == nil && keys.SignerType.IsAnonymous()}, nil
}

// Check returns an error if the endpoint is invalid.
func (s Store) Check() error {
	_, _, err := s.endpoint()
	return err
}

// endpoint returns the host of the store, and whether to use TLS.
func (s Store) endpoint() (host string, secure bool, err error) {
	if s.Endpoint == "" {
		return "s3.amazonaws.com", true, nil
	}
	full := s.Endpoint
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", false, errors.New("want a URL or a host, for example https://minio.example:9000")
	case u.User != nil:
		return "", false, errors.New("want a URL without credentials: they come from the environment or the shared AWS file")
	case full == s.Endpoint:
		return u.Host, u.Scheme == "https", nil
	}
	name := u.Hostname()
	return u.Host, name != "localhost" && !net.ParseIP(name).IsLoopback(), nil
}

// The errors of a store that this package distinguishes.
var (
	errStalled = fmt.Errorf("no byte was sent or received for %v", idle)
	errTooLong = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	errNoKeys  = fmt.Errorf("%d pages of the listing have no key", maxPages)
	errCut     = errors.New("the connection ended before the object did")
)

// storeError is an error of the store, not of a part.
type storeError struct {
	what string
	err  error
}

// Error implements error.
func (e *storeError) Error() string { return e.what }

// Unwrap returns the cause.
func (e *storeError) Unwrap() error { return e.err }

// fail wraps err, of a request, as an error of the store.
func (b *bucket) fail(err error) error {
	if err == nil {
		return nil
	}
	var what string
	switch answer := answerOf(err); {
	case errors.Is(err, context.Canceled):
		return err
	case answer == nil:
		var of *url.Error // its URL is long, and the message names the dataset anyway
		if what = err.Error(); errors.As(err, &of) {
			what = of.Err.Error()
		}
	case answer.Code == minio.NoSuchBucket:
		what = "there is no bucket " + b.name
	default:
		if what = strings.TrimSuffix(answer.Message, "."); what != answer.Code { // both are the status if the response has no text
			what = fmt.Sprintf("%s (%s)", what, answer.Code)
		}
		if refused(err) && b.anonymous {
			what += "; no credentials were found"
		}
	}
	return &storeError{fmt.Sprintf("%s at %s: %s", b, b.store, text.Clean(what, 300)), err}
}

// answerOf returns the error response of the store; nil if err is something else.
func answerOf(err error) *minio.ErrorResponse {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return nil
	}
	return &answer
}

// refused reports whether a retry would be refused again, or its response would be.
func refused(err error) bool {
	answer := answerOf(err)
	if answer == nil || answer.Code == "RequestTimeout" {
		return errors.Is(err, errTooLong) || errors.Is(err, errNoKeys)
	}
	switch answer.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusConflict: // the last of two writers at a time
		return false
	}
	return answer.StatusCode >= 300 && answer.StatusCode < 500 || answer.StatusCode == http.StatusNotImplemented
}

// Hint returns what to do about an error of the store; empty for other errors.
func Hint(err error) string {
	var failed *storeError
	if !errors.As(err, &failed) {
		return ""
	}
	switch answer := answerOf(err); {
	case answer == nil:
		return "--s3-endpoint names the store"
	case answer.Code == minio.NoSuchBucket:
		return "create the bucket, or name another; --s3-endpoint names the store"
	case refused(err):
		return "set the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials; --s3-endpoint and --s3-region name the store"
	}
	return ""
}

// attempts is the number of tries of a request, and firstPause the pause after the first. The pauses double.
const (
	attempts   = 5
	firstPause = 250 * time.Millisecond
)

// again calls try until it succeeds, is refused, fails for a local reason, or has failed too often.
func (b *bucket) again(ctx context.Context, try func() error) error {
	pause := firstPause
	for n := 1; ; n++ {
		err := try()
		var local *localError
		if err == nil || refused(err) || errors.As(err, &local) || ctx.Err() != nil {
			return err
		}
		if n == attempts {
			return err
		}
		if !traffic.Pause(ctx, pause) {
			return ctx.Err()
		}
		pause *= 2
	}
}

// localError is an error of this machine: of a disk, or of a part.
type localError struct{ error }

// Unwrap returns the cause.
func (e *localError) Unwrap() error { return e.error }

// digestKey is the object metadata with the SHA-256 of the content.
const digestKey = "Sha256"

// differsError means that the object of a part has other content.
type differsError struct{ url, what string }

// Error implements error.
func (e *differsError) Error() string {
	return fmt.Sprintf("%s differs from the part (%s) and was not replaced: find out who wrote it", e.url, e.what)
}

// put uploads the file, unless the object already exists with the same content. It reports whether it uploaded the file.
func (b *bucket) put(ctx context.Context, name string, f *os.File) (uploaded bool, size int64, err error) {
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return false, 0, &localError{err}
	}
	sum := hex.EncodeToString(h.Sum(nil))
	opts := minio.PutObjectOptions{
		ContentType: "application/vnd.apache.parquet", UserMetadata: map[string]string{digestKey: sum},
		SendContentMd5: true, DisableMultipart: true,
	}
	opts.SetMatchETagExcept("*") // prevents two processes from both writing the object; for stores that ignore this, there is the check below
	err = b.again(ctx, func() error {
		there, err := b.compare(ctx, name, size, sum)
		if there || err != nil {
			return err
		}
		_, err = b.client.PutObject(ctx, b.name, b.prefix+name, io.NewSectionReader(f, 0, size), size, opts)
		if answer := answerOf(err); answer != nil && answer.StatusCode == http.StatusPreconditionFailed {
			_, err = b.compare(ctx, name, size, sum) // another process has written it since
			return err
		}
		uploaded = err == nil
		return b.fail(err)
	})
	return uploaded, size, err
}

// compare reports whether the object exists. It returns an error if the content differs.
func (b *bucket) compare(ctx context.Context, name string, size int64, sum string) (bool, error) {
	info, err := b.client.StatObject(ctx, b.name, b.prefix+name, minio.StatObjectOptions{})
	switch answer := answerOf(err); {
	case answer != nil && answer.Code == minio.NoSuchKey:
		return false, nil
	case err != nil:
		return false, b.fail(err)
	case info.Size != size:
		return true, &localError{&differsError{b.url(name), fmt.Sprintf("%d bytes, but the part has %d", info.Size, size)}}
	}
	there := info.UserMetadata[digestKey]
	if there == "" { // another program has copied it
		h := sha256.New()
		if _, err := b.get(ctx, name, size, info.ETag, h); err != nil {
			return true, err
		}
		there = hex.EncodeToString(h.Sum(nil))
	}
	if there != sum {
		return true, &localError{&differsError{b.url(name), fmt.Sprintf("SHA-256 %.12s, but the part has %.12s", there, sum)}}
	}
	return true, nil
}

func (b *bucket) url(name string) string { return scheme + b.name + "/" + b.prefix + name }

// get copies an object with the given size and ETag to w, and returns the digest that its writer stored; empty if it stored
// none.
func (b *bucket) get(ctx context.Context, name string, size int64, etag string, w io.Writer) (sum string, err error) {
	var opts minio.GetObjectOptions
	if etag != "" {
		if err := opts.SetMatchETag(etag); err != nil {
			return "", b.fail(err)
		}
	}
	body, info, _, err := minio.Core{Client: b.client}.GetObject(ctx, b.name, b.prefix+name, opts)
	if answer := answerOf(err); answer != nil && answer.StatusCode == http.StatusPreconditionFailed {
		return "", &localError{fmt.Errorf("%s has changed since it was listed", b.url(name))}
	}
	if err != nil {
		return "", b.fail(err)
	}
	defer body.Close()
	local := &localWriter{w: w}
	n, err := io.Copy(local, io.LimitReader(body, size+1))
	switch {
	case local.err != nil:
		return "", &localError{local.err}
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, errStalled):
		return "", b.fail(err)
	case err != nil || n < size:
		return "", b.fail(fmt.Errorf("%w: %d of %d bytes", errCut, n, size))
	case n > size || info.Size != size:
		return "", &localError{fmt.Errorf("%s changed while it was read", b.url(name))}
	}
	return info.UserMetadata[digestKey], nil
}

// localWriter marks errors of w, so that they are not taken for errors of the store.
type localWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (l *localWriter) Write(p []byte) (n int, err error) {
	n, l.err = l.w.Write(p)
	return n, l.err
}
