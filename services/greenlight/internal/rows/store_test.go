package rows

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/testkit/s3test"
)

func TestURLs(t *testing.T) {
	for s, want := range map[string]string{
		"s3://rows": "s3://rows", "s3://rows/": "s3://rows", "s3://rows/desk/a/": "s3://rows/desk/a", "s3://rows/d%20k": "s3://rows/d%20k",
		"rows": "", "s3://": "", "s3:///desk": "", "s3://R/x": "", "s3://rows/a//b": "", "s3://rows/../x": "", "s3://rows/a/./b": "",
		"s3://rows/" + strings.Repeat("x", 600): "", "s3://rows/\xff": "", "https://rows/desk": "",
	} {
		b, err := Store{}.bucket(s)
		if (err == nil) != (want != "") || err == nil && b.String() != want {
			t.Errorf("%.50q: %v, %v; want %q", s, b, err, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for s, want := range map[string]string{
		"": "https s3.amazonaws.com", "minio.example:9000": "https minio.example:9000", "https://minio.example": "https minio.example",
		"http://minio.example:9000/": "http minio.example:9000", "127.0.0.1:9000": "http 127.0.0.1:9000", "localhost": "http localhost",
		"[::1]:9000": "http [::1]:9000", "https://127.0.0.1:9000": "https 127.0.0.1:9000", "localhost.example": "https localhost.example",
		"10.0.0.1:9000": "https 10.0.0.1:9000",
		"ftp://x":       "", "https://": "", "https://x/path": "", "https://x?a": "", "https://me:" + testSecret + "@x": "", "me:" + testSecret + "@x": "", "a b": "",
	} {
		host, secure, err := Store{Endpoint: s}.endpoint()
		got := map[bool]string{true: "https ", false: "http "}[secure] + host
		if err != nil {
			got = ""
		}
		if got != want || err != nil && strings.Contains(err.Error(), testSecret) {
			t.Errorf("%q: %q, %v; want %q", s, got, err, want)
		}
	}
}

// roundTrip is a function that implements http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers returns a store that answers every request with the same XML.
func answers(body func() io.Reader) Store {
	return Store{Endpoint: "http://store", Region: "x", transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, Header: http.Header{}, Request: r, Body: io.NopCloser(body())}, nil
	})}
}

// endless is a listing without an end.
type endless struct{ begun bool }

func (e *endless) Read(p []byte) (int, error) {
	if !e.begun {
		e.begun = true
		return copy(p, "<ListBucketResult><Name>"), nil
	}
	return copy(p, strings.Repeat("x", len(p))), nil
}

// A store that sends invalid answers is refused before anything is copied.
func TestListingsThatLie(t *testing.T) {
	const part = "date=2026-03-01/schema=v1.8.1/part-%s.parquet"
	page := func(truncated bool, contents ...string) func() io.Reader {
		return func() io.Reader {
			var b strings.Builder
			fmt.Fprintf(&b, "<ListBucketResult><IsTruncated>%v</IsTruncated>", truncated)
			if truncated {
				b.WriteString("<NextContinuationToken>more</NextContinuationToken>")
			}
			for _, c := range contents {
				b.WriteString("<Contents>" + c + "</Contents>")
			}
			b.WriteString("</ListBucketResult>")
			return strings.NewReader(b.String())
		}
	}
	of := func(name, size string) string {
		return "<Key>" + fmt.Sprintf(part, name) + "</Key><Size>" + size + "</Size>"
	}
	var gigabytes []string // 65
	for i := range 65 {
		gigabytes = append(gigabytes, of(fmt.Sprintf("%02d", i), "1073741824"))
	}
	for name, tt := range map[string]struct {
		body func() io.Reader
		want string
	}{
		"the same page for ever": {page(true, of("1", "5")), "lists objects out of order"},
		"twice":                  {page(false, of("1", "5"), of("1", "5")), "lists objects out of order"},
		"too large":              {page(false, of("1", "1073741825")), "has 1073741825 bytes: executor never writes a part of more than"},
		"too large together":     {page(false, gigabytes...), "s3://rows has 69793218560 bytes of parts to read: want at most 68719476736 (64 GiB)"},
		"empty pages for ever":   {page(true), "1000 pages of the listing have no key"},
		"negative":               {page(false, of("1", "-1")), "has -1 bytes"},
		"without an end":         {func() io.Reader { return &endless{} }, "the answer has more than 16777216 bytes"},
		"another format":         {func() io.Reader { return strings.NewReader("no XML") }, "s3://rows at store: "},
	} {
		t.Run(name, func(t *testing.T) {
			fake(t, func(t *testing.T, _ *fixture) {
				_, _, err := Open(t.Context(), answers(tt.body), "s3://rows", 0, func(int, int) {})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}

// With TLS the content is not signed by chunk, and no redirect is followed.
func TestPushByTLS(t *testing.T) {
	fake(t, func(t *testing.T, f *fixture) {
		f.store.Endpoint = "https://store"
		f.write("p1", 1)
		if err := f.push().Once(t.Context()); err != nil {
			t.Error(err)
		}
		f.same()
		f.store.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Scheme != "https" {
				t.Error("a request without TLS")
			}
			return &http.Response{
				StatusCode: http.StatusTemporaryRedirect, Status: "307 Temporary Redirect", Header: http.Header{"Location": {"http://other" + r.URL.Path}}, Request: r, Body: http.NoBody,
			}, nil
		})
		if err := f.push().Once(t.Context()); err == nil || !strings.Contains(err.Error(), "s3://rows/desk/log at store: 307 Temporary Redirect") {
			t.Errorf("got %v", err)
		}
	})
}

// Without credentials, the error of a refusal says so. With wrong ones, it does not contain the secret.
func TestCredentials(t *testing.T) {
	denied := func(*http.Request) s3test.Fault {
		return s3test.Fault{Status: http.StatusForbidden, Code: "SignatureDoesNotMatch"}
	}
	for _, key := range []string{"", testKey} {
		t.Run("key "+key, func(t *testing.T) {
			fake(t, func(t *testing.T, f *fixture) {
				t.Setenv("AWS_ACCESS_KEY_ID", key)
				t.Setenv("AWS_SECRET_ACCESS_KEY", map[bool]string{true: testSecret}[key != ""])
				f.server.Fault = denied
				_, err := f.open(0)
				if err == nil || strings.Contains(err.Error(), "no credentials were found") != (key == "") || strings.Contains(err.Error()+Hint(err), testSecret) || Hint(err) == "" {
					t.Errorf("got %v, hint %q", err, Hint(err))
				}
			})
		})
	}
}

func TestExecutorIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "executor-7.desk_a": true, "A9": true, "": false, "-a": false, ".": false, "a/b": false, "a b": false, "ä": false, strings.Repeat("a", 65): false,
	} {
		if _, err := NewPush(Store{}, featurelog.Log{Dir: "x"}, where, id); (err == nil) != want {
			t.Errorf("%q: %v", id, err)
		}
	}
}
