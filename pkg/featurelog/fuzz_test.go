package featurelog

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// FuzzReadFile reads damaged Parquet: a written file with some bytes changed, or arbitrary data. The file is refused,
// or its rows have the features of their schema, none infinite.
func FuzzReadFile(f *testing.F) {
	var good []byte
	for _, n := range []int{1, 700} {
		s := schema(f, "v1.8")
		rows := make([]*Row, n)
		for i := range rows {
			r := sample(s, i, time.Unix(1_800_000_000, 0))
			rows[i] = &r
		}
		var b bytes.Buffer
		if err := encode(&b, s, rows, true); err != nil {
			f.Fatal(err)
		}
		good = b.Bytes()
		footer := len(good) - 8 - int(binary.LittleEndian.Uint32(good[len(good)-8:]))
		if n == 1 {
			f.Add(good, uint32(0), []byte("PAR1"))
			f.Add(good, uint32(footer), []byte{0xff})
		}
		for at := 4; at < len(good); at += len(good) / 8 {
			f.Add([]byte{}, uint32(at), []byte{0xff, 0x7f, 0x80, 0x01})
		}
		f.Add([]byte{}, uint32(footer+20), []byte{0xfe, 0xff, 0xff, 0xff, 0x0f}) // changes lengths in the footer
	}
	path := filepath.Join(f.TempDir(), "part-x.parquet")
	f.Fuzz(func(t *testing.T, raw []byte, at uint32, change []byte) {
		if len(raw) == 0 {
			raw = bytes.Clone(good)
		}
		if len(raw) > 0 {
			copy(raw[int(at)%len(raw):], change)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = readFile(path, func(r Row) bool {
			for _, v := range r.Features {
				if math.IsInf(v, 0) {
					t.Fatalf("row %d: feature %v", n, v)
				}
			}
			if r.Schema == nil || len(r.Features) != len(r.Schema.Features) || math.IsInf(r.BaselineScore, 0) {
				t.Fatalf("row %d: %+v", n, r)
			}
			n++
			return n < 10_000
		})
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 256<<20 {
			t.Fatalf("%d bytes of memory for a file of %d", took, len(raw))
		}
	})
}
