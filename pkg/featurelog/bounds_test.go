package featurelog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// bomb is a one-row file that claims more data than it has: a column of its only row group gets its own page.
type bomb struct {
	column string
	header format.PageHeader
	// page is uncompressed; its lengths go into the header unless the header sets them.
	page []byte
	// packed is the page as stored, if it differs from what Snappy produces.
	packed []byte
	meta   func(*format.FileMetaData)
	// footer changes the encoded metadata.
	footer func([]byte) []byte
}

// file returns the whole file.
func (b bomb) file(t *testing.T, good []byte) []byte {
	t.Helper()
	p, err := parquet.OpenFile(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	meta := p.Metadata()
	at := len(good) - 8 - int(binary.LittleEndian.Uint32(good[len(good)-8:]))
	out := bytes.Clone(good[:at])
	if b.column != "" {
		stored := b.packed
		if stored == nil {
			if stored, err = (&snappy.Codec{}).Encode(nil, b.page); err != nil {
				t.Fatal(err)
			}
		}
		h := b.header
		if h.CompressedPageSize == 0 {
			h.CompressedPageSize = int32(len(stored))
		}
		if h.UncompressedPageSize == 0 {
			h.UncompressedPageSize = int32(len(b.page))
		}
		head := marshal(t, &h)
		c := &meta.RowGroups[0].Columns[columnIndex(b.column)].MetaData
		c.DataPageOffset, c.DictionaryPageOffset, c.TotalCompressedSize = int64(at), 0, int64(len(head)+len(stored))
		out = append(append(out, head...), stored...)
	}
	if b.meta != nil {
		b.meta(meta)
	}
	footer := marshal(t, meta)
	if b.footer != nil {
		footer = b.footer(footer)
	}
	out = binary.LittleEndian.AppendUint32(append(out, footer...), uint32(len(footer)))
	return append(out, "PAR1"...)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := thrift.Marshal(&thrift.CompactProtocol{}, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func dataPage(n int32, e format.Encoding) format.PageHeader {
	return format.PageHeader{Type: format.DataPage, DataPageHeader: thrift.New(format.DataPageHeader{
		NumValues: n, Encoding: e, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
	})}
}

func with(h format.PageHeader, change func(*format.PageHeader)) format.PageHeader {
	change(&h)
	return h
}

// runOf returns a run header for n equal values, followed by the value.
func runOf(n uint64, value ...byte) []byte { return append(binary.AppendUvarint(nil, n<<1), value...) }

func levels(runs []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(runs))), runs...)
}

// A file of a few kilobytes that claims gigabytes is refused with the limit and advice, using no more memory than a
// small file. Without the limits the process would allocate gigabytes or die.
func TestBombs(t *testing.T) {
	s := schema(t, "v1.8")
	r := sample(s, 1, time.Unix(1_800_000_000, 0))
	var good bytes.Buffer
	if err := encode(&good, s, []*Row{&r}, true); err != nil {
		t.Fatal(err)
	}
	const huge = 1 << 30
	for name, tt := range map[string]struct {
		bomb
		limit string // named by the error; empty if the file contradicts itself
		says  string
	}{
		"stored page": {
			bomb{column: "request_id", header: with(dataPage(1, format.Plain), func(h *format.PageHeader) { h.CompressedPageSize = huge }), page: []byte{0}},
			"16777216", "bytes of a page",
		},
		"unpacked page": {
			bomb{column: "request_id", header: with(dataPage(1, format.Plain), func(h *format.PageHeader) { h.UncompressedPageSize = huge }), page: []byte{0}},
			"16777216", "bytes of a page, unpacked",
		},
		"page that is packed as a larger one": {
			bomb{
				column: "request_id", header: with(dataPage(1, format.Plain), func(h *format.PageHeader) { h.UncompressedPageSize = 1 }),
				packed: binary.AppendUvarint(nil, 1<<32-1),
			}, "", "but its data claim 4294967295",
		},
		"ratio": {
			bomb{column: "request_id", header: dataPage(1, format.Plain), page: make([]byte, 64<<20)},
			"16777216", "bytes of a page, unpacked: 67108864",
		},
		"values of a page": {
			bomb{column: "request_id", header: dataPage(huge, format.Plain), page: []byte{0, 0, 0, 0}},
			"", "a page of 1073741824 values, where 1 rows are left",
		},
		"values of a page of numbers": {
			bomb{column: "shadow_score", header: dataPage(huge, format.Plain), page: levels(runOf(huge, 0))},
			"", "a page of 1073741824 values",
		},
		"run of levels": {
			bomb{column: "shadow_score", header: dataPage(1, format.Plain), page: levels(runOf(huge, 1))},
			"1048576", "values of a run",
		},
		"many runs of levels": {
			bomb{column: "shadow_score", header: dataPage(1, format.Plain), page: levels(bytes.Repeat(runOf(1<<20, 1), 4096))},
			"", "runs of 1048576 values in a page of 1",
		},
		"run of indices": {
			bomb{column: "symbol", header: dataPage(1, format.RLEDictionary), page: append([]byte{1}, runOf(huge, 0)...)},
			"1048576", "values of a run",
		},
		"differences": {
			bomb{column: "arrival_time", header: dataPage(1, format.DeltaBinaryPacked), page: append(binary.AppendUvarint([]byte{0x80, 1, 4}, 1<<31-1), 0)},
			"", "2147483647 differences in a page of 1 values",
		},
		"dictionary": {
			bomb{
				column: "symbol", page: []byte{0, 0, 0, 0},
				header: format.PageHeader{Type: format.DictionaryPage, DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: huge})},
			}, "1048576", "values of a dictionary",
		},
		"data page that is a dictionary, too": {
			bomb{
				column: "symbol", page: []byte{0, 0, 0, 0},
				header: with(dataPage(1, format.RLEDictionary), func(h *format.PageHeader) {
					h.DictionaryPageHeader = thrift.New(format.DictionaryPageHeader{NumValues: huge})
				}),
			}, "", "not written by executor",
		},
		"text": {
			bomb{column: "request_id", header: dataPage(1, format.Plain), page: binary.LittleEndian.AppendUint32(nil, huge)},
			"12288", "bytes of a text",
		},
		"prefixes of prefixes": {
			bomb{column: "request_id", header: dataPage(1, format.DeltaByteArray), page: []byte{0}}, "", "DELTA_BYTE_ARRAY",
		},
		"another compression": {
			bomb{meta: func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.Codec = format.Zstd }}, "", "ZSTD: only SNAPPY",
		},
		"chunk": {
			bomb{meta: func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.TotalCompressedSize = 1 << 40 }}, "", "1099511627776 bytes at 4",
		},
		"rows": {
			bomb{meta: func(m *format.FileMetaData) { m.NumRows, m.RowGroups[0].NumRows = 1<<40, 1<<40 }}, "1048576", "rows",
		},
		"the same rows in many groups": {
			bomb{meta: func(m *format.FileMetaData) {
				for range 100 {
					m.RowGroups = append(m.RowGroups, m.RowGroups[0])
				}
			}}, "", "damaged: column",
		},
		"items of a list": {
			bomb{footer: func(b []byte) []byte { // adds a second column list in field 2 of the metadata
				return append([]byte{0x29, 0xfc}, binary.AppendUvarint(nil, 1<<31-1)...)
			}}, "65536", "items of metadata",
		},
		"many columns": {
			bomb{meta: func(m *format.FileMetaData) {
				for range limits.Items {
					m.Schema = append(m.Schema, format.SchemaElement{Name: "x"})
				}
			}}, "65536", "items of metadata",
		},
		"text of metadata": {
			bomb{footer: func([]byte) []byte { return binary.AppendUvarint([]byte{0x68}, 1<<31-1) }}, "", "not a whole Parquet file",
		},
		"nested structures": {
			bomb{footer: func([]byte) []byte { return bytes.Repeat([]byte{0x9c}, 1<<19) }}, "16", "nested structures",
		},
		"long metadata": {
			bomb{footer: func(b []byte) []byte { return append(b, make([]byte, 2<<20)...) }}, "1048576", "bytes of metadata",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "part-x.parquet")
			raw := tt.file(t, good.Bytes())
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := readFile(path, func(Row) bool { return true })
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 48<<20 {
				t.Errorf("%d bytes of memory for a file of %d", took, len(raw))
			}
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, want an error that names the file and says %q", err, tt.says)
			}
			beyond := strings.Contains(err.Error(), "at most "+tt.limit+" are read; executor never writes such a file: move it out")
			if errors.Is(err, errBeyond) != (tt.limit != "") || (tt.limit != "" && !beyond) {
				t.Errorf("got %v, want the limit %s and what to do", err, tt.limit)
			}
		})
	}
}

// The footer's claimed length is compared with the file first.
func TestFooterLongerThanTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "part-x.parquet")
	if err := os.WriteFile(path, []byte("PAR1\xff\xff\xff\xffPAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := readFile(path, func(Row) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "metadata of 4294967295 bytes in a file of 12") {
		t.Errorf("got %v", err)
	}
}

// Everything that executor may write is read: texts of the maximum length, bytes that are not UTF-8, and as many
// symbols as rows.
func TestBoundsLeaveRoom(t *testing.T) {
	s := schema(t, "v1.8.1")
	rows := make([]*Row, 2*DefaultPartRows)
	for i := range rows {
		r := sample(s, i, time.Unix(1_800_000_000, 0))
		r.Symbol = time.Duration(i).String()
		if i%9000 == 0 {
			r.RequestID = strings.Repeat("\xff.", (maxText-500)/2)
		}
		if !r.fits() {
			t.Fatal("the row does not fit")
		}
		rows[i] = &r
	}
	path := filepath.Join(t.TempDir(), "part-x.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(encode(io.Writer(f), s, rows, true), f.Close()); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := readFile(path, func(r Row) bool {
		if want := rows[n]; r.Symbol != want.Symbol || r.RequestID != strings.ToValidUTF8(want.RequestID, "\uFFFD") {
			t.Fatalf("row %d: %.40q", n, r.RequestID)
		}
		n++
		return true
	}); err != nil || n != len(rows) {
		t.Errorf("%d rows of %d: %v", n, len(rows), err)
	}
}
