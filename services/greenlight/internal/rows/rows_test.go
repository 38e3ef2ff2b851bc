package rows

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/testkit/s3test"
)

const testKey, testSecret = "AKIDTEST", "secret-73182946"

// where is the test dataset.
const where = "s3://rows/desk/log"

// fixture holds an executor's log and a store in fake time.
type fixture struct {
	t      *testing.T
	dir    string
	server *s3test.Server
	store  Store
}

// fake runs a test with an in-memory store, in fake time.
func fake(t *testing.T, test func(t *testing.T, f *fixture)) {
	for name, value := range map[string]string{ // none of this machine
		"AWS_ACCESS_KEY_ID": testKey, "AWS_SECRET_ACCESS_KEY": testSecret, "AWS_SESSION_TOKEN": "", "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, dir: t.TempDir(), server: &s3test.Server{}}
		f.server.Make("rows")
		f.store = Store{Endpoint: "http://store", Region: "eu-central-1", transport: f.server.Transport(t)}
		test(t, f)
	})
}

// write logs rows for n days, one part a day, like a process of an executor.
func (f *fixture) write(instance string, days int) {
	f.t.Helper()
	known, ok := feature.Lookup(feature.DefaultSchema)
	if !ok {
		f.t.Fatal("no schema")
	}
	schema, err := featurelog.NewSchema(known)
	if err != nil {
		f.t.Fatal(err)
	}
	l, err := featurelog.Open(featurelog.Options{Dir: f.dir, Instance: instance})
	if err != nil {
		f.t.Fatal(err)
	}
	for day := range days {
		for i := range 50 {
			at := time.Date(2026, 3, 1+day, 0, i, 0, 0, time.UTC)
			x := make([]float64, len(schema.Features))
			x[0] = float64(i)
			l.Log(featurelog.Row{RequestID: fmt.Sprint(instance, day, i), Symbol: "S", ArrivalTime: at, EventTime: at, Schema: schema, Features: x})
		}
	}
	if err := l.Close(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) push() *Push {
	f.t.Helper()
	p, err := NewPush(f.store, featurelog.Log{Dir: f.dir}, where, "a1")
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// files returns the content of a folder by path.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		found[filepath.ToSlash(rel)] = raw
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// want returns the objects expected for the folder's files.
func (f *fixture) want() map[string][]byte {
	objects := map[string][]byte{}
	for name, raw := range files(f.t, f.dir) {
		objects["desk/log/executor=a1/"+name] = raw
	}
	return objects
}

func (f *fixture) same() {
	f.t.Helper()
	if got, want := f.server.Objects("rows"), f.want(); !maps.EqualFunc(got, want, bytes.Equal) {
		f.t.Errorf("the store has %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// open reads the dataset and returns the copied files, and the number of temporary folders left.
func (f *fixture) open(days int) (map[string][]byte, error) {
	f.t.Helper()
	temporary := f.t.TempDir()
	f.t.Setenv("TMPDIR", temporary)
	log, closeLog, err := Open(f.t.Context(), f.store, where, days, func(int, int) {})
	var got map[string][]byte
	if err == nil {
		got = files(f.t, log.Dir)
		if log.String() != where {
			f.t.Errorf("the log is called %s, want %s", log, where)
		}
		if err := closeLog(); err != nil {
			f.t.Error(err)
		}
	}
	if left, _ := os.ReadDir(temporary); len(left) != 0 {
		f.t.Errorf("%d temporary folders are left", len(left))
	}
	return got, err
}

// Every part is uploaded once, with its content, and read back whole. A second run only checks.
func TestPushAndOpen(t *testing.T) {
	fake(t, func(t *testing.T, f *fixture) {
		f.server.PageSize = 2
		f.write("p1", 5)
		p := f.push()
		if err := p.Once(t.Context()); err != nil || p.Err() != nil {
			t.Fatal(err, p.Err())
		}
		f.same()
		if got := p.Pushed(); got.Uploaded != 5 || got.Present != 0 || got.UploadedBytes == 0 {
			t.Errorf("%+v", got)
		}
		f.server.Requests()
		again := f.push()
		if err := again.Once(t.Context()); err != nil || again.Pushed().Uploaded != 0 || again.Pushed().Present != 5 {
			t.Errorf("%+v, %v", again.Pushed(), err)
		}
		for _, r := range f.server.Requests() {
			if !strings.HasPrefix(r, "HEAD ") {
				t.Errorf("the second run made the request %s", r)
			}
		}
		f.server.Put("rows", "desk/log/executor=a1/notes.txt", []byte("x"))
		f.server.Put("rows", "desk/log/executor=a1/date=2026-03-01/schema=v1.8.1/../../../part-1.parquet", []byte("x"))
		f.server.Put("rows", "desk/logs/executor=a1/date=2026-03-01/schema=v1.8.1/part-1.parquet", []byte("x"))
		got, err := f.open(0)
		want := map[string][]byte{}
		for name, raw := range files(t, f.dir) {
			want["executor=a1/"+name] = raw
		}
		if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("read %v (%v), want %v", slices.Sorted(maps.Keys(got)), err, slices.Sorted(maps.Keys(want)))
		}
		got, err = f.open(2)
		if days := strings.Join(slices.Sorted(maps.Keys(got)), " "); err != nil || len(got) != 2 || !strings.Contains(days, "2026-03-04") || !strings.Contains(days, "2026-03-05") {
			t.Errorf("the newest 2 days: %s, %v", days, err)
		}
	})
}

// Whatever fails, an object is complete or absent, is uploaded once, and the next try succeeds.
func TestPushThroughFaults(t *testing.T) {
	for name, fault := range map[string]s3test.Fault{
		"internal error": {Status: http.StatusInternalServerError, Code: "InternalError"}, "slow down": {Status: http.StatusServiceUnavailable, Code: "SlowDown"},
		"the answer is lost": {Lost: true}, "half an answer": {Half: true}, "no answer": {Stall: true},
		"another writer at that moment": {Status: http.StatusConflict, Code: "ConditionalRequestConflict"},
	} {
		t.Run(name, func(t *testing.T) {
			fake(t, func(t *testing.T, f *fixture) {
				f.write("p1", 2)
				n := map[string]int{}
				f.server.Fault = func(r *http.Request) s3test.Fault {
					if n[r.Method+r.URL.Path]++; n[r.Method+r.URL.Path]%3 != 0 {
						return fault
					}
					return s3test.Fault{}
				}
				p := f.push()
				for range 5 {
					if err := p.Once(t.Context()); err == nil {
						break
					}
				}
				f.same()
				if err := p.Err(); err != nil || p.Pushed().Uploaded+p.Pushed().Present != 2 {
					t.Errorf("%+v, %v", p.Pushed(), err)
				}
				puts := 0
				for _, r := range f.server.Requests() {
					if strings.HasPrefix(r, "PUT ") {
						puts++
					}
				}
				if puts < 2 {
					t.Errorf("%d uploads", puts)
				}
			})
		})
	}
}

// An interrupted upload leaves nothing.
func TestPushInterrupted(t *testing.T) {
	fake(t, func(t *testing.T, f *fixture) {
		f.write("p1", 1)
		ctx, cancel := context.WithCancel(t.Context())
		f.server.Fault = func(r *http.Request) s3test.Fault {
			if r.Method == http.MethodPut {
				cancel()
				return s3test.Fault{Stall: true}
			}
			return s3test.Fault{}
		}
		if err := f.push().Once(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		if got := f.server.Objects("rows"); len(got) != 0 {
			t.Errorf("%d objects", len(got))
		}
		f.server.Fault = nil
		if err := f.push().Once(t.Context()); err != nil {
			t.Error(err)
		}
		f.same()
	})
}

// An object with different content is reported and not replaced, even if its size is the same.
// It does not stop the others.
func TestPushOfDifferentContent(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"size": func(b []byte) []byte { return append(b, 0) }, "content": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			fake(t, func(t *testing.T, f *fixture) {
				f.write("p1", 3)
				want := f.want()
				key := slices.Min(slices.Collect(maps.Keys(want)))
				want[key] = change(bytes.Clone(want[key]))
				f.server.Put("rows", key, want[key])
				p := f.push()
				if err := p.Once(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := p.Err(); err == nil || !strings.Contains(err.Error(), "s3://rows/"+key+" differs from the part") {
					t.Errorf("got %v", err)
				}
				if got := p.Pushed(); got.Failed != 1 || got.Uploaded != 2 || len(got.Problems) != 1 {
					t.Errorf("%+v", got)
				}
				if got := f.server.Objects("rows"); !maps.EqualFunc(got, want, bytes.Equal) {
					t.Error("an object was changed, or is missing")
				}
			})
		})
	}
	// The same content without our metadata counts as equal, and a writer between the check and the upload is detected.
	fake(t, func(t *testing.T, f *fixture) {
		f.write("p1", 2)
		want := f.want()
		keys := slices.Sorted(maps.Keys(want))
		f.server.Put("rows", keys[0], want[keys[0]])
		f.server.Fault = func(r *http.Request) s3test.Fault {
			if r.Method == http.MethodPut {
				f.server.Put("rows", keys[1], []byte("other"))
			}
			return s3test.Fault{}
		}
		p := f.push()
		if err := p.Once(t.Context()); err != nil || p.Err() == nil || p.Pushed().Present != 1 || p.Pushed().Uploaded != 0 {
			t.Errorf("%+v, %v, %v", p.Pushed(), err, p.Err())
		}
		if got := f.server.Objects("rows")[keys[1]]; string(got) != "other" {
			t.Error("an object was replaced")
		}
	})
}

// A part that executor is still writing is skipped until it is complete, and a damaged file is not uploaded.
func TestPushOfPartsThatGrow(t *testing.T) {
	fake(t, func(t *testing.T, f *fixture) {
		known, _ := feature.Lookup(feature.DefaultSchema)
		schema, err := featurelog.NewSchema(known)
		if err != nil {
			t.Fatal(err)
		}
		l, err := featurelog.Open(featurelog.Options{Dir: f.dir, PartRows: 10})
		if err != nil {
			t.Fatal(err)
		}
		log := func(n int) {
			for range n {
				l.Log(featurelog.Row{Symbol: "S", ArrivalTime: time.Now(), Schema: schema})
			}
			time.Sleep(featurelog.DefaultInterval)
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		p, done := f.push(), make(chan error, 1)
		go func() { done <- p.Follow(ctx, time.Second) }()
		count := func(want int) {
			t.Helper()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := len(f.server.Objects("rows")); got != want {
				t.Errorf("%d objects, want %d", got, want)
			}
		}
		log(5)
		count(0)
		log(5)
		count(1)
		log(3)
		count(1)
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		count(2)
		damaged := filepath.Join(f.dir, "date=2000-01-01", "schema=v1.8.1", "part-x.parquet")
		if err := os.WriteFile(damaged, []byte("PAR1 and more PAR1"), 0o600); err != nil {
			t.Fatal(err)
		}
		count(2)
		f.server.Requests()
		time.Sleep(time.Hour)
		if got := f.server.Requests(); len(got) != 0 {
			t.Errorf("%d requests without a new part", len(got))
		}
		cancel()
		if err := <-done; err != nil || p.Err() == nil || !strings.Contains(p.Err().Error(), damaged) {
			t.Errorf("%v, %v", err, p.Err())
		}
		if got := p.Pushed(); got.Uploaded != 2 || got.Failed != 1 || got.Growing != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// A part that this machine cannot read now is pushed once it can, and is reported once. Without --follow it is an error.
func TestPushOfAPartThatCannotBeRead(t *testing.T) {
	fake(t, func(t *testing.T, f *fixture) {
		f.write("p1", 2)
		want := f.want()
		all, err := filepath.Glob(filepath.Join(f.dir, "date=*", "schema=*", "part-*"))
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		if err := errors.Join(os.Rename(all[0], all[0]+".away"), os.Symlink(filepath.Base(all[0]), all[0])); err != nil { // ELOOP
			t.Fatal(err)
		}
		p := f.push()
		said := 0
		p.Say = func(string, ...any) { said++ }
		for range 3 {
			if err := p.Once(t.Context()); err != nil || p.Err() == nil || p.Pushed().Failed != 1 || len(p.Pushed().Problems) != 1 || said != 1 {
				t.Errorf("%v, %v, %+v, said %d", err, p.Err(), p.Pushed(), said)
			}
		}
		if err := errors.Join(os.Remove(all[0]), os.Rename(all[0]+".away", all[0])); err != nil {
			t.Fatal(err)
		}
		if err := p.Once(t.Context()); err != nil || p.Err() != nil || p.Pushed().Uploaded != 2 {
			t.Errorf("%v, %v, %+v", err, p.Err(), p.Pushed())
		}
		if got := f.server.Objects("rows"); !maps.EqualFunc(got, want, bytes.Equal) {
			t.Error("the objects differ from the parts")
		}
	})
}

// Follow waits for the log folder, as it does for the store. Without it, a missing folder is an error.
func TestFollowWithoutAFolder(t *testing.T) {
	fake(t, func(t *testing.T, f *fixture) {
		f.dir = filepath.Join(f.dir, "later")
		if err := f.push().Once(t.Context()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("once: got %v", err)
		}
		var said []string
		ctx, cancel := context.WithCancel(t.Context())
		p, done := f.push(), make(chan error, 1)
		p.Say = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		go func() { done <- p.Follow(ctx, time.Second) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it has ended: %v", err)
		default:
		}
		f.write("p1", 1)
		time.Sleep(2 * maxPause)
		synctest.Wait()
		f.same()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if text := strings.Join(said, "\n"); !strings.Contains(text, "away ") || !strings.Contains(text, "later can be read again") {
			t.Errorf("said %.500s", text)
		}
	})
}

// While the store is down, a push retries with increasing pauses, and continues once it is back. A day that is long over is
// forgotten.
func TestFollowWhileTheStoreIsAway(t *testing.T) {
	fake(t, func(t *testing.T, f *fixture) {
		f.write("p1", 1)
		var back atomic.Bool
		var tries atomic.Int64
		f.server.Fault = func(*http.Request) s3test.Fault {
			tries.Add(1)
			if !back.Load() {
				return s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
			}
			return s3test.Fault{}
		}
		var said []string
		ctx, cancel := context.WithCancel(t.Context())
		p, done := f.push(), make(chan error, 1)
		p.Say = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		go func() { done <- p.Follow(ctx, time.Second) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := tries.Load(); n < 60 || n > 120*attempts+100 {
			t.Errorf("%d requests in an hour", n)
		}
		back.Store(true)
		time.Sleep(2 * maxPause)
		synctest.Wait()
		f.same()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		text := strings.Join(said, "\n")
		if !strings.Contains(text, "away      s3://rows/desk/log at store: 503 Service Unavailable; the next try is in ") || !strings.Contains(text, "back ") || !strings.Contains(text, "pushed    1 part") {
			t.Errorf("said %.500s", text)
		}
	})
	fake(t, func(t *testing.T, f *fixture) { // refusals are not retried
		f.write("p1", 1)
		f.server.Fault = func(*http.Request) s3test.Fault {
			return s3test.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}
		}
		err := f.push().Follow(t.Context(), time.Second)
		if err == nil || !strings.Contains(err.Error(), "AccessDenied") || !strings.Contains(Hint(err), "AWS_ACCESS_KEY_ID") || strings.Contains(err.Error()+Hint(err), testSecret) {
			t.Errorf("got %v, hint %q", err, Hint(err))
		}
		if n := len(f.server.Requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
	fake(t, func(t *testing.T, f *fixture) {
		f.write("p1", 3)
		time.Sleep(time.Until(time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)))
		p := f.push()
		if err := p.Once(t.Context()); err != nil || len(p.done) != 3 {
			t.Errorf("%v, days in memory: %v", err, p.done)
		}
		time.Sleep(3 * 24 * time.Hour)
		if err := p.Once(t.Context()); err != nil || len(p.done) != 0 || len(p.finished) != 3 {
			t.Errorf("%v, days in memory: %v", err, p.done)
		}
	})
}

// Reading retries transient errors, and refuses invalid data. No temporary folder is left.
func TestOpenThroughFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(f *fixture, r *http.Request, n int) s3test.Fault
		want  string // part of the error; empty for success
	}{
		"errors that pass": {func(_ *fixture, _ *http.Request, n int) s3test.Fault {
			if n%3 != 0 {
				return s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
			}
			return s3test.Fault{}
		}, ""},
		"bodies that break": {func(_ *fixture, _ *http.Request, n int) s3test.Fault { return s3test.Fault{Half: n%3 != 0} }, ""},
		"stalls": {func(_ *fixture, _ *http.Request, n int) s3test.Fault {
			return s3test.Fault{Half: n%3 == 1, Stall: n%3 != 0}
		}, ""},
		"errors that stay": {func(*fixture, *http.Request, int) s3test.Fault {
			return s3test.Fault{Status: http.StatusInternalServerError, Code: "InternalError"}
		}, "s3://rows/desk/log at store: the fake says InternalError (InternalError)"},
		"bodies that always break": {func(_ *fixture, r *http.Request, _ int) s3test.Fault { return s3test.Fault{Half: r.URL.RawQuery == ""} }, "the connection ended before the object did"},
		"a stall that stays": {func(_ *fixture, r *http.Request, _ int) s3test.Fault {
			return s3test.Fault{Half: r.URL.RawQuery == "", Stall: r.URL.RawQuery == ""}
		}, errStalled.Error()},
		"an object that changed": {func(f *fixture, r *http.Request, _ int) s3test.Fault {
			if r.URL.RawQuery == "" {
				f.server.Alter("rows", strings.TrimPrefix(r.URL.Path, "/rows/"), func(b []byte) []byte { b[9] ^= 1; return b })
			}
			return s3test.Fault{}
		}, "has changed since it was listed"},
		"a store that ignores conditions": {func(f *fixture, r *http.Request, _ int) s3test.Fault {
			if r.URL.RawQuery == "" {
				f.server.Alter("rows", strings.TrimPrefix(r.URL.Path, "/rows/"), func(b []byte) []byte { b[9] ^= 1; return b })
			}
			return s3test.Fault{Skip: true}
		}, "is damaged: its SHA-256 is "},
		"an object that grew": {func(f *fixture, r *http.Request, _ int) s3test.Fault {
			if r.URL.RawQuery == "" {
				f.server.Alter("rows", strings.TrimPrefix(r.URL.Path, "/rows/"), func(b []byte) []byte { return append(b, 1) })
			}
			return s3test.Fault{Skip: true}
		}, "changed while it was read"},
		"no bucket": {func(*fixture, *http.Request, int) s3test.Fault {
			return s3test.Fault{Status: http.StatusNotFound, Code: "NoSuchBucket"}
		}, "there is no bucket rows"},
	} {
		t.Run(name, func(t *testing.T) {
			fake(t, func(t *testing.T, f *fixture) {
				f.server.PageSize = 2
				f.write("p1", 3)
				if err := f.push().Once(t.Context()); err != nil {
					t.Fatal(err)
				}
				n := 0
				f.server.Fault = func(r *http.Request) s3test.Fault {
					n++
					return tt.fault(f, r, n)
				}
				got, err := f.open(0)
				if tt.want == "" {
					if err != nil || len(got) != 3 {
						t.Errorf("%d files, %v", len(got), err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
	fake(t, func(t *testing.T, f *fixture) {
		if _, err := f.open(0); err == nil || !strings.Contains(err.Error(), where+" at store has no parts of a feature log") {
			t.Errorf("an empty dataset: %v", err)
		}
	})
}
