package featurelog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
)

// faulty is the real disk with a fault that the test turns on and off: full, or hanging.
type faulty struct {
	mu    sync.Mutex
	fault error
	after int           // bytes that can be written before the fault
	hang  chan struct{} // closed: continues
}

func (f *faulty) set(err error, after int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.after = err, after
}

func (f *faulty) create(path string, write func(io.Writer, bool) error) (io.Closer, error) {
	if f.hang != nil {
		<-f.hang
	}
	return createFile(path, func(w io.Writer, locked bool) error { return write(faultyWriter{w, f}, locked) })
}

type faultyWriter struct {
	w io.Writer
	*faulty
}

func (f faultyWriter) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		return f.w.Write(p)
	}
	n := min(len(p), f.after)
	f.after -= n
	_, err := f.w.Write(p[:n])
	return n, errors.Join(err, f.fault)
}

// The disk fills up and then has space again. Below the limit nothing is lost, the earlier file stays whole, errors are
// counted and reported, and no temporary file remains.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var f faulty
		l := start(t, Options{Dir: dir, Capacity: 100}, f.create)
		s := schema(t, "v1.8.1")
		n := 0
		batch := func(k int) {
			for range k {
				l.Log(sample(s, n, time.Now()))
				n++
			}
			time.Sleep(DefaultInterval)
			synctest.Wait()
			accounted(t, l, n)
		}
		batch(30)
		f.set(syscall.ENOSPC, 700)
		batch(30)
		batch(30)
		got := l.Stats()
		if got.Written != 30 || got.Pending != 60 || got.Dropped != 0 || got.WriteErrors != 2 || !errors.Is(got.LastError, syscall.ENOSPC) ||
			!strings.Contains(got.LastError.Error(), ".parquet: ") || !got.LastErrorTime.After(got.LastWriteTime) {
			t.Errorf("full: %+v", got)
		}
		if files := list(t, dir); len(files) != 1 || len(all(t, dir)) != 30 {
			t.Errorf("full: files %q with %d rows", files, len(all(t, dir)))
		}
		batch(60) // 60 + 60 exceed the queue
		if got := l.Stats(); got.Pending != 100 || got.Dropped != 20 {
			t.Errorf("over the bound: %+v", got)
		}
		f.set(nil, 0)
		batch(5)
		got = l.Stats()
		if got.Written != 130 || got.Pending != 0 || got.Dropped != 25 || got.LastError == nil || !got.LastWriteTime.After(got.LastErrorTime) {
			t.Errorf("recovered: %+v", got) // the last 5 arrived while 100 were still waiting
		}
		if files := list(t, dir); len(files) != 1 || len(all(t, dir)) != 130 {
			t.Errorf("recovered: files %q with %d rows", files, len(all(t, dir)))
		}
		f.set(syscall.ENOSPC, 0)
		l.Log(sample(s, n, time.Now()))
		n++
		if err := l.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "1 rows were not written") {
			t.Errorf("close: %v", err)
		}
		accounted(t, l, n)
	})
}

// Every step of writing may fail; the existing file stays.
func TestEveryStepMayFail(t *testing.T) {
	// A file in the way of a folder, or a folder in the way of a file.
	obstruct := func(t *testing.T, path string, put func(string) error) (repair func()) {
		t.Helper()
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
	}
	for name, fail := range map[string]func(t *testing.T, dir string) (repair func()){
		"the folder cannot be created": func(t *testing.T, dir string) func() {
			return obstruct(t, filepath.Join(dir, "date=2000-01-02"), func(path string) error { return os.WriteFile(path, nil, 0o600) })
		},
		"the file cannot be created": func(t *testing.T, dir string) func() {
			part := durable.Temporary(filepath.Join(dir, "date=2000-01-01", "schema=v1.8", "part-20000101T000005Z-a-000001.parquet"))
			return obstruct(t, part, func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o755) })
		},
		"the file cannot be synced":   durabletest.FailFiles,
		"the folder cannot be synced": durabletest.FailFolders,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				l := start(t, Options{Dir: dir, Instance: "a"}, createFile)
				s := schema(t, "v1.8")
				at := time.Now()
				for n := range 3 {
					repair := func() {}
					if n == 1 {
						repair = fail(t, dir)
						if name == "the folder cannot be created" {
							at = at.Add(24 * time.Hour)
						}
					}
					l.Log(sample(s, n, at))
					time.Sleep(DefaultInterval)
					synctest.Wait()
					if got, want := l.Stats().Written, []uint64{1, 1, 3}[n]; got != want {
						t.Errorf("step %d: %+v", n, l.Stats())
					}
					repair()
					if rows := len(all(t, dir)); uint64(rows) < l.Stats().Written {
						t.Errorf("step %d: %d rows in %q", n, rows, list(t, dir))
					}
				}
				if got := l.Stats(); got.WriteErrors != 1 || got.LastError == nil {
					t.Errorf("got %+v", got)
				}
				stop(t, l)
			})
		})
	}
}

// While the disk hangs, Log returns immediately; rows beyond the queue are dropped, counted and logged. Close gives up when
// its context ends.
func TestStuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := faulty{hang: make(chan struct{})}
		var log bytes.Buffer
		l := start(t, Options{Dir: dir, Capacity: 100, Logger: slog.New(slog.NewTextHandler(&log, nil))}, f.create)
		s := schema(t, "v1.8")
		l.Log(sample(s, 0, time.Now()))
		time.Sleep(DefaultInterval)
		synctest.Wait() // the writer hangs
		before := time.Now()
		for i := range 250 {
			if got, want := l.Log(sample(s, 1+i, time.Now())), i < 100; got != want {
				t.Fatalf("row %d: taken %v", i, got)
			}
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("log waited %v", waited)
		}
		if got := l.Stats(); got.Dropped != 150 || got.Pending != 101 {
			t.Errorf("got %+v", got)
		}
		time.Sleep(watchPeriod)
		synctest.Wait()
		if !strings.Contains(log.String(), "rows of the feature log are lost\" rows=150 rows_lost_total=150\n") {
			t.Errorf("logged while the disk hangs: %q", log.String())
		}
		l.Log(Row{}) // invalid
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "101 rows") {
			t.Errorf("close: %v", err)
		}
		if !strings.HasSuffix(log.String(), " rows=1 rows_lost_total=151\n") {
			t.Errorf("logged at the end: %q", log.String())
		}
		close(f.hang)
		stop(t, l)
		accounted(t, l, 252)
		if got := l.Stats(); got.Written != 101 || len(all(t, dir)) != 101 {
			t.Errorf("got %+v", got)
		}
	})
}

// Open removes the leftovers of a dead process and keeps what a live one is writing.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "date=2000-01-01", "schema=v1.8", "part-20000101T000000Z-a-000001.parquet")
	opened := func(want int) {
		t.Helper()
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		stop(t, l)
		if got := list(t, dir); len(got) != want || len(all(t, dir)) != 0 {
			t.Errorf("got %q, want %d files", got, want)
		}
	}
	ended := errors.New("ended")
	if _, err := createFile(path, func(io.Writer, bool) error {
		opened(1)
		return ended
	}); !errors.Is(err, ended) {
		t.Fatal(err)
	}
	if err := os.WriteFile(durable.Temporary(path), []byte("half"), 0o600); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	opened(0)
}
