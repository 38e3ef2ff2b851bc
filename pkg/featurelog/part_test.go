package featurelog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// parts returns the parts of a log.
func parts(t testing.TB, dir string) []Part {
	t.Helper()
	var found []Part
	for p, err := range (Log{Dir: dir}).Parts(time.Time{}, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, p)
	}
	return found
}

// growing returns how many of the parts are not complete.
func growing(t testing.TB, dir string) (open, all int) {
	t.Helper()
	for _, p := range parts(t, dir) {
		f, err := Log{Dir: dir}.OpenPart(p)
		switch {
		case errors.Is(err, ErrGrowing):
			open++
		case err != nil:
			t.Fatal(err)
		default:
			f.Close()
		}
		all++
	}
	return open, all
}

// A part is complete once it is full, once its day is over, or once its process has ended; not before, however often it was
// written, and not after a failed write.
func TestPartsThatGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var f faulty
		s := schema(t, "v1.8.1")
		n, l := 0, start(t, Options{Dir: dir, PartRows: 30}, f.create)
		step := func(rows, wantOpen, wantAll int) {
			t.Helper()
			for range rows {
				l.Log(sample(s, n, time.Now()))
				n++
			}
			time.Sleep(DefaultInterval)
			synctest.Wait()
			if open, all := growing(t, dir); open != wantOpen || all != wantAll {
				t.Errorf("after %d rows: %d of %d parts grow, want %d of %d", n, open, all, wantOpen, wantAll)
			}
		}
		step(10, 1, 1)
		step(10, 1, 1)
		f.set(errors.New("full"), 300)
		step(5, 1, 1)
		f.set(nil, 0)
		step(10, 0, 1) // 35 rows
		step(10, 1, 2)
		time.Sleep(24 * time.Hour)
		step(0, 0, 2)
		step(1, 1, 3)
		stop(t, l)
		if open, all := growing(t, dir); open != 0 || all != 3 {
			t.Errorf("after the end %d of %d parts grow, want 0 of 3", open, all)
		}
		if got := len(all(t, dir)); got != n {
			t.Errorf("%d rows, want %d", got, n)
		}
	})
}

// A file that was replaced after it was opened is not the part, even if it is not locked.
func TestPartThatWasReplaced(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Options{Dir: dir}, createFile)
	l.Log(sample(schema(t, "v1.8"), 1, time.Now()))
	stop(t, l)
	part := parts(t, dir)[0]
	path := filepath.Join(dir, part.Path())
	f, err := Log{Dir: dir}.OpenPart(part)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkPart(f, path, part.Day); !errors.Is(err, ErrGrowing) {
		t.Errorf("got %v, want %v", err, ErrGrowing)
	}
}

// A part that could not be locked does not claim a lock: whether it grows is unknown.
func TestPartWithoutALock(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Options{Dir: dir}, func(path string, write func(io.Writer, bool) error) (io.Closer, error) {
		return createFile(path, func(w io.Writer, locked bool) error {
			if !locked {
				t.Error("the file is not locked")
			}
			return write(w, false)
		})
	})
	l.Log(sample(schema(t, "v1.8"), 1, time.Now()))
	stop(t, l)
	if f, err := (Log{Dir: dir}).OpenPart(parts(t, dir)[0]); !errors.Is(err, ErrGrowing) {
		t.Errorf("got %v, %v, want %v", f, err, ErrGrowing)
	}
}

// Executors of older versions lock nothing. Their parts count as complete a day after the end of their day.
func TestPartsOfOlderExecutors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no midnight comes in between
		s, now := schema(t, "v1.8"), time.Now().UTC()
		for _, tt := range []struct {
			days int
			want error
		}{{0, ErrGrowing}, {1, ErrGrowing}, {2, nil}} {
			dir := t.TempDir()
			at := now.AddDate(0, 0, -tt.days)
			row := sample(s, 1, at)
			var b bytes.Buffer
			if err := encode(&b, s, []*Row{&row}, true); err != nil {
				t.Fatal(err)
			}
			old := bytes.Replace(b.Bytes(), []byte(metaWriter), []byte(strings.Repeat("x", len(metaWriter))), 1)
			part := Part{Day: dayOf(at), schema: "schema=v1.8", name: "part-1.parquet"}
			path := filepath.Join(dir, part.Path())
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, old, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := Log{Dir: dir}.OpenPart(part)
			if !errors.Is(err, tt.want) {
				t.Errorf("%d days old: got %v, want %v", tt.days, err, tt.want)
			}
			if f != nil {
				f.Close()
			}
			if got := all(t, dir); len(got) != 1 || !equal(got[0], row) {
				t.Errorf("%d days old: read %v", tt.days, got)
			}
		}
	})
}

// The partitions of several executors are read like the same files in one folder. A part that two of them have is an error.
func TestPartitionsOfExecutors(t *testing.T) {
	s, day := schema(t, "v1.8.1"), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	dataset, merged := t.TempDir(), t.TempDir()
	for i, executor := range []string{"b", "a", "c"} {
		dir := t.TempDir()
		l := start(t, Options{Dir: dir, Instance: executor}, createFile)
		for k := range 40 {
			l.Log(sample(s, 100*i+k, day.AddDate(0, 0, k%3).Add(time.Duration(i)*time.Second)))
		}
		stop(t, l)
		for _, p := range parts(t, dir) {
			for to, name := range map[string]string{dataset: p.In(executor).Path(), merged: p.Path()} {
				path := filepath.Join(to, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Link(filepath.Join(dir, p.Path()), path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	got, want := all(t, dataset), all(t, merged)
	if len(want) != 120 || !slices.EqualFunc(got, want, equal) {
		t.Errorf("%d rows of the dataset, and %d of one folder with the same files, or in another order", len(got), len(want))
	}
	log := Log{Dir: dataset, Origin: "s3://rows/desk"}
	days, err := log.Days()
	if err != nil || len(days) != 3 || !days[0].Equal(day.Truncate(24*time.Hour)) {
		t.Errorf("days %v, %v", days, err)
	}
	inputs, err := log.Inputs(days[1], days[2])
	if err != nil || len(inputs) != 3 || !strings.HasPrefix(inputs[0].Path, "s3://rows/desk/executor=") || !strings.Contains(inputs[2].Path, "/date=2026-03-02/schema=v1.8.1/part-") {
		t.Errorf("inputs %v, %v", inputs, err)
	}
	twice := parts(t, dataset)[0]
	other := filepath.Join(dataset, Part{Day: twice.Day, schema: twice.schema, name: twice.name}.In("d").Path())
	if err := os.MkdirAll(filepath.Dir(other), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dataset, twice.Path()), other); err != nil {
		t.Fatal(err)
	}
	for _, err := range log.Read(days[0], days[2]) {
		if err != nil {
			if !strings.Contains(err.Error(), "executor=d/date=2026-03-01/schema=v1.8.1/"+twice.name+" are the same part") {
				t.Errorf("got %v", err)
			}
			return
		}
	}
	t.Error("a part was read twice")
}

func TestParsePart(t *testing.T) {
	const in = "date=2026-03-01/schema=v1.8.1/part-1.parquet"
	for name, want := range map[string]bool{
		in: true, "executor=a/" + in: true, "executor=/" + in: true,
		"": false, "x/" + in: false, "executor=a/executor=b/" + in: false, in + "/": false, "/" + in: false, "executor=a//" + in: false,
		"date=2026-13-01/schema=v1.8.1/part-1.parquet": false, "date=../schema=v1.8.1/part-1.parquet": false,
		"date=2026-03-01/../part-1.parquet": false, "date=2026-03-01/schema=v1.8.1/.part-1.parquet.tmp": false,
		"date=2026-03-01/schema=v1.8.1/notes.parquet": false,
	} {
		p, ok := ParsePart(name)
		if ok != want || ok && p.Path() != name {
			t.Errorf("%q: %v, %q", name, ok, p.Path())
		}
	}
}
