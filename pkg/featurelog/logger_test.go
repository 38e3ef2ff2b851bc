package featurelog

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func start(t testing.TB, opts Options, create creator) *Logger {
	t.Helper()
	l, err := open(opts, create)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func stop(t testing.TB, l *Logger) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// accounted checks that every logged row is written, dropped, invalid or pending.
func accounted(t *testing.T, l *Logger, logged int) {
	t.Helper()
	if s := l.Stats(); s.Written+s.Dropped+s.Invalid+s.Pending != uint64(logged) {
		t.Errorf("%d logged, but %+v", logged, s)
	}
}

// Rows appear, complete, at every interval and not before. The part replaces itself and rolls over when full.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Options{Dir: dir, PartRows: 25}, createFile)
		s := schema(t, "v1.8.1")
		var want []Row
		for i := range 8 {
			for range 10 {
				r := sample(s, len(want), time.Now())
				want = append(want, r)
				if !l.Log(r) {
					t.Fatal("not taken")
				}
			}
			if got := l.Stats(); got.Written != uint64(10*i) || got.Pending != 10 {
				t.Fatalf("before interval %d: %+v", i, got)
			}
			time.Sleep(DefaultInterval)
			synctest.Wait()
			got := all(t, dir)
			if !slices.EqualFunc(got, want, equal) {
				t.Fatalf("after interval %d: read %d rows, logged %d", i, len(got), len(want))
			}
		}
		files := list(t, dir)
		if len(files) != 3 { // 30, 30, 20
			t.Errorf("files: %q", files)
		}
		name := regexp.MustCompile(`^date=2000-01-01/schema=v1\.8\.1/part-20000101T0000\d\dZ-[0-9a-f]{8}-00000[123]\.parquet$`)
		for _, f := range files {
			if !name.MatchString(filepath.ToSlash(f)) {
				t.Errorf("file %s", f)
			}
		}
		stop(t, l)
		if l.Log(want[0]) || l.Stats().Dropped != 1 {
			t.Error("a row after close")
		}
		accounted(t, l, len(want)+1)
		stop(t, l) // a second time
	})
}

func TestCloseFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Options{Dir: dir}, createFile)
		want := sample(schema(t, "v1.8"), 1, time.Now())
		l.Log(want)
		stop(t, l)
		if got := all(t, dir); len(got) != 1 || !equal(got[0], want) {
			t.Errorf("got %+v", got)
		}
	})
}

// The logger owns its copy of a row: later changes by the caller are not logged. Non-finite values and unset times come
// back as absent, invalid UTF-8 comes back repaired.
func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Options{Dir: dir}, createFile)
		s := schema(t, "v1.8")
		r := sample(s, 1, time.Now())
		r.Features[2], r.BaselineScore = math.Inf(1), math.NaN()
		r.ShadowScore, r.ShadowLatencyMS, r.EventTime, r.RequestID = Optional{}, Some(math.NaN()), time.Time{}, "a\xffb"
		l.Log(r)
		r.Features[0] = 99
		r.Features, r.ArrivalTime = nil, time.Time{}
		l.Log(r)
		stop(t, l)
		got := all(t, dir)
		if len(got) != 2 {
			t.Fatalf("got %d rows", len(got))
		}
		for i, g := range got {
			if !math.IsNaN(g.BaselineScore) || g.ShadowScore.Present || g.ShadowLatencyMS.Present || !g.EventTime.IsZero() ||
				g.RequestID != "a\uFFFDb" || !g.ArrivalTime.Equal(time.Now()) || g.ArrivalTime.Location() != time.UTC {
				t.Errorf("row %d: %+v", i, g)
			}
		}
		if f := got[0].Features; f[0] == 99 || !math.IsNaN(f[2]) || math.IsNaN(f[1]) || !math.IsNaN(got[1].Features[0]) {
			t.Errorf("features %v and %v", f, got[1].Features)
		}
	})
}

func TestInvalid(t *testing.T) {
	l := start(t, Options{Dir: t.TempDir()}, createFile)
	defer stop(t, l)
	good := sample(schema(t, "v1.8"), 1, time.Now())
	bad := []func(*Row){
		func(r *Row) { r.Schema = nil },
		func(r *Row) { r.Features = r.Features[1:] },
		func(r *Row) { r.RequestID = strings.Repeat("x", maxText) },
	}
	for i, change := range bad {
		r := good
		change(&r)
		if l.Log(r) {
			t.Errorf("row %d was taken", i)
		}
	}
	if got := l.Stats().Invalid; got != uint64(len(bad)) {
		t.Errorf("%d invalid, want %d", got, len(bad))
	}
}

// Rows of two schemas, two days, and two schemas with the same name.
func TestPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Options{Dir: dir, Instance: "a"}, createFile)
		defer stop(t, l)
		other, err := newSchema("v1.8", "another", []string{"mid"})
		if err != nil {
			t.Fatal(err)
		}
		odd, err := newSchema("../a b", "odd", []string{"mid"})
		if err != nil {
			t.Fatal(err)
		}
		schemas := []*Schema{schema(t, "v1.8"), schema(t, "v1.8.1"), other, odd}
		n := 0
		for day := range 3 {
			for _, s := range schemas {
				l.Log(sample(s, n, time.Now()))
				n++
			}
			time.Sleep(12 * time.Hour)
			synctest.Wait()
			if len(l.w.parts) > len(schemas) {
				t.Errorf("day %d: %d parts are open", day, len(l.w.parts))
			}
		}
		var folders []string
		for _, f := range list(t, dir) {
			folders = append(folders, filepath.ToSlash(filepath.Dir(f)))
		}
		var want []string
		for _, day := range []string{"2000-01-01", "2000-01-02"} {
			for _, s := range []string{"..%2Fa%20b", "v1.8", "v1.8", "v1.8.1"} {
				want = append(want, "date="+day+"/schema="+s)
			}
		}
		if !slices.Equal(folders, want) {
			t.Errorf("got %q\nwant %q", folders, want)
		}
		if got := all(t, dir); len(got) != n {
			t.Errorf("read %d rows of %d", len(got), n)
		}
	})
}

// A burst that fills half of the queue is written immediately, not at the next interval.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, Options{Dir: t.TempDir(), Capacity: 100}, createFile)
		s := schema(t, "v1.8")
		for i := range 50 {
			l.Log(sample(s, i, time.Now()))
		}
		synctest.Wait()
		if got := l.Stats(); got.Written != 50 {
			t.Errorf("got %+v", got)
		}
		stop(t, l)
	})
}

// A row that breaks the encoder is dropped and does not delay the others.
func TestPoisonedRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, Options{Dir: t.TempDir()}, createFile)
		s := schema(t, "v1.8")
		poison := *s
		poison.Features = append(slices.Clone(s.Features), "not in the layout")
		r := sample(&poison, 0, time.Now())
		poison.layout = nil
		l.Log(r)
		time.Sleep(DefaultInterval)
		synctest.Wait()
		l.Log(sample(s, 1, time.Now()))
		stop(t, l)
		if got := l.Stats(); got.Dropped != 1 || got.Written != 1 || !errors.Is(got.LastError, errEncode) {
			t.Errorf("got %+v", got)
		}
	})
}

// Many goroutines log concurrently: every row appears once.
func TestConcurrentLog(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Options{Dir: dir, Interval: 3 * time.Millisecond, PartRows: 500}, createFile)
	s := schema(t, "v1.8.1")
	const workers, each = 8, 500
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				l.Log(sample(s, w*each+i, time.Now()))
			}
		})
	}
	wg.Wait()
	stop(t, l)
	seen := map[string]bool{}
	for _, r := range all(t, dir) {
		if seen[r.RequestID] {
			t.Fatalf("%s is logged twice", r.RequestID)
		}
		seen[r.RequestID] = true
	}
	if len(seen) != workers*each {
		t.Errorf("%d rows of %d", len(seen), workers*each)
	}
	accounted(t, l, workers*each)
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	for _, bad := range []Options{
		{}, {Dir: dir, Interval: -1},
	} {
		if _, err := Open(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: file}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file as the folder: %v", err)
	}
}
