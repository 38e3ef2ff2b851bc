package featurelog

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
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

func (f *faulty) disk() disk {
	d := realDisk
	d.create = func(path string) (file, error) {
		if f.hang != nil {
			<-f.hang
		}
		out, err := createLocked(path)
		return faultyFile{out, f}, err
	}
	return d
}

type faultyFile struct {
	file
	*faulty
}

func (f faultyFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		return f.file.Write(p)
	}
	n := min(len(p), f.after)
	f.after -= n
	_, err := f.file.Write(p[:n])
	return n, errors.Join(err, f.fault)
}

// The disk fills up and then has space again. Below the limit nothing is lost, the earlier file stays whole, errors are
// counted and reported, and no temporary file remains.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var f faulty
		l := start(t, Options{Dir: dir, Capacity: 100}, f.disk())
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
	fault := errors.New("fault")
	on := false
	failing := func(step string) disk {
		d := realDisk
		fail := func(do func(string) error) func(string) error {
			return func(path string) error {
				if on {
					return fault
				}
				return do(path)
			}
		}
		switch step {
		case "mkdir":
			d.mkdir = fail(d.mkdir)
		case "sync":
			d.sync = fail(d.sync)
		case "create":
			d.create = func(path string) (file, error) {
				if on {
					return nil, fault
				}
				return createLocked(path)
			}
		case "rename":
			d.rename = func(from, to string) error {
				if on {
					return fault
				}
				return realDisk.rename(from, to)
			}
		case "file sync":
			d.create = func(path string) (file, error) {
				f, err := createLocked(path)
				if on {
					return unsynced{f, fault}, err
				}
				return f, err
			}
		}
		return d
	}
	for _, step := range []string{"mkdir", "create", "file sync", "rename", "sync"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				on = false
				l := start(t, Options{Dir: dir}, failing(step))
				s := schema(t, "v1.8")
				for n := range 3 {
					on = n == 1
					l.Log(sample(s, n, time.Now()))
					time.Sleep(DefaultInterval)
					synctest.Wait()
					rows, files := len(all(t, dir)), list(t, dir)
					if want := []uint64{1, 1, 3}[n]; l.Stats().Written != want || uint64(rows) < want || len(files) != 1 {
						t.Errorf("step %d: %+v, %d rows in %q", n, l.Stats(), rows, files)
					}
				}
				if got := l.Stats(); got.WriteErrors != 1 || !errors.Is(got.LastError, fault) {
					t.Errorf("got %+v", got)
				}
				stop(t, l)
			})
		})
	}
}

type unsynced struct {
	file
	err error
}

func (u unsynced) Sync() error { return u.err }

// While the disk hangs, Log returns at once; rows beyond the queue are dropped and counted. Close gives up when its
// context ends.
func TestStuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := faulty{hang: make(chan struct{})}
		l := start(t, Options{Dir: dir, Capacity: 100}, f.disk())
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
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "101 rows") {
			t.Errorf("close: %v", err)
		}
		close(f.hang)
		stop(t, l)
		accounted(t, l, 251)
		if got := l.Stats(); got.Written != 101 || len(all(t, dir)) != 101 {
			t.Errorf("got %+v", got)
		}
	})
}

// Open removes the leftovers of a dead process and keeps what a live one is writing.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "date=2000-01-01", "schema=v1.8", "part-20000101T000000Z-a-000001.parquet")
	if err := makeDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	f, err := createLocked(temporary(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "half"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		stop(t, l)
		if got := list(t, dir); len(got) != want || len(all(t, dir)) != 0 {
			t.Errorf("got %q, want %d files", got, want)
		}
		if want == 1 {
			f.Close() // as a kill would
		}
	}
}
