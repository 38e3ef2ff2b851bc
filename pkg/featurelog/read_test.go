package featurelog

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Options{Dir: dir}, createFile)
		s := schema(t, "v1.8")
		begin := time.Now()
		for i := range 48 {
			l.Log(sample(s, i, time.Now()))
			time.Sleep(time.Hour)
		}
		stop(t, l)
		tests := []struct {
			name     string
			from, to time.Duration
			want     int
		}{
			{"all", 0, 48 * time.Hour, 48},
			{"from is included, to is not", 5 * time.Hour, 7 * time.Hour, 2},
			{"over midnight", 23 * time.Hour, 25 * time.Hour, 2},
			{"nothing", 90 * time.Hour, 91 * time.Hour, 0},
			{"backwards", 7 * time.Hour, 5 * time.Hour, 0},
		}
		for _, tt := range tests {
			n := 0
			for r, err := range Read(dir, begin.Add(tt.from), begin.Add(tt.to)) {
				if err != nil {
					t.Fatal(err)
				}
				if r.ArrivalTime.Before(begin.Add(tt.from)) || !r.ArrivalTime.Before(begin.Add(tt.to)) {
					t.Errorf("%s: a row of %v", tt.name, r.ArrivalTime)
				}
				n++
			}
			if n != tt.want {
				t.Errorf("%s: %d rows, want %d", tt.name, n, tt.want)
			}
		}
		for range Read(dir, begin, begin.Add(48*time.Hour)) {
			break
		}
	})
}

// readError returns the error that ends a read, and the number of rows before it.
func readError(dir string) (int, error) {
	n := 0
	for _, err := range Read(dir, time.Time{}, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// stored creates a log of one file and returns its folder, path and bytes.
func stored(t testing.TB, rows int) (dir, path string, data []byte) {
	t.Helper()
	dir = t.TempDir()
	l := start(t, Options{Dir: dir}, createFile)
	s := schema(t, "v1.8")
	for i := range rows {
		l.Log(sample(s, i, time.Now()))
	}
	stop(t, l)
	path = filepath.Join(dir, list(t, dir)[0])
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return dir, path, data
}

func TestReadNamesTheFile(t *testing.T) {
	dir, path, data := stored(t, 50)
	tests := []struct {
		name    string
		data    []byte
		mention string
	}{
		{"truncated", data[:len(data)-10], "not a whole Parquet file"},
		{"half", data[:len(data)/2], "not a whole Parquet file"},
		{"empty", nil, "not a whole Parquet file"},
		{"text", []byte("request_id,symbol\n1,2\n"), "not a whole Parquet file"},
		{"another column", bytes.ReplaceAll(data, []byte("outcome"), []byte("outcame")), "column 10 is outcame"},
		{"without our mark", bytes.ReplaceAll(data, []byte("greenlight.schema_hash"), []byte("greenlight.schema_hush")), "not written by Greenlight"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := readError(dir); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want an error that names the file and mentions %q", err, tt.mention)
			}
		})
	}
	if _, err := readError(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
}

// Damage anywhere gives an error or wrong numbers, never a panic, and never more memory than a small file may use.
func TestReadDamaged(t *testing.T) {
	dir, path, data := stored(t, 50)
	rng := rand.New(rand.NewPCG(1, 1))
	failed := 0
	for range 600 {
		bad := bytes.Clone(data)
		for range 1 + rng.IntN(3) {
			bad[rng.IntN(len(bad))] = byte(rng.IntN(256))
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readError(dir); err != nil {
			failed++
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name the file: %v", err)
			}
		}
	}
	if failed < 50 {
		t.Errorf("only %d of the damaged files failed", failed)
	}
}

func BenchmarkRead(b *testing.B) {
	dir, _, _ := stored(b, 8192)
	b.ReportAllocs()
	for b.Loop() {
		if n, err := readError(dir); n != 8192 || err != nil {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*8192), "ns/row")
}
