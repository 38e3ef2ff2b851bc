package tabular

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

type record struct {
	Time   time.Time `parquet:"time,timestamp(microsecond)"`
	Symbol string    `parquet:"symbol,dict"`
	Close  float64   `parquet:"close"`
	Volume *float64  `parquet:"volume,optional"`
	Count  int32     `parquet:"count,delta"`
	Size   float32   `parquet:"size,split"`
	Final  bool      `parquet:"final"`
	Price  int64     `parquet:"price,decimal(2:10)"`
	Change [4]byte   `parquet:"change,decimal(3:9)"`
}

// records returns rows, and the text that they must give.
func records(n int) ([]record, string) {
	rows := make([]record, n)
	text := "time,symbol,close,volume,count,size,final,price,change\n"
	for i := range rows {
		r := record{
			Time: time.UnixMicro(1_700_000_000_000_000 + int64(i)*60_000_000).UTC(), Symbol: []string{"A,B", "C\nD"}[i%2],
			Close: 100.1 + float64(i), Count: int32(i % 7), Size: 0.1, Final: i%3 == 0, Price: int64(12345 + i), Change: [4]byte{0xff, 0xff, 0xff, 0xfe},
		}
		volume := ""
		if i%5 != 0 {
			v := float64(i) / 4
			r.Volume, volume = &v, fmt.Sprint(v)
		}
		rows[i] = r
		text += fmt.Sprintf("%d,%s,%v,%s,%d,0.1,%v,%de-2,-2e-3\n", 1_700_000_000_000_000+int64(i)*60_000_000, []string{`"A,B"`, "C D"}[i%2], r.Close, volume, i%7, i%3 == 0, 12345+i)
	}
	return rows, text
}

func parquetOf(t testing.TB, rows []record, options ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[record](&b, options...)
	for len(rows) > 0 { // several row groups
		n := min(len(rows), 700)
		if _, err := w.Write(rows[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		rows = rows[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(t testing.TB, content []byte) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := Open(path, Options{MaxBytes: 64 << 20})
	if err != nil {
		if !strings.Contains(err.Error(), path) {
			t.Fatalf("%v does not name the file", err)
		}
		return "", err
	}
	defer a.Close()
	text, err := io.ReadAll(a)
	if err == nil {
		_, err = a.Digest()
	}
	return string(text), err
}

// Every codec and encoding gives the same text.
func TestParquet(t *testing.T) {
	for _, n := range []int{0, 1, 2000} {
		rows, want := records(n)
		for name, codec := range map[string]compress.Codec{
			"uncompressed": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip, "zstd": &parquet.Zstd,
		} {
			for version := 1; version <= 2; version++ {
				got, err := readAll(t, parquetOf(t, rows, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(1000)))
				if err != nil {
					t.Fatalf("%s, version %d: %v", name, version, err)
				}
				if got != want {
					t.Fatalf("%s, version %d, %d rows: got %.300s, want %.300s", name, version, n, got, want)
				}
			}
		}
	}
}

func TestParquetRefused(t *testing.T) {
	rows, _ := records(10)
	var nested bytes.Buffer
	if err := parquet.Write(&nested, []struct {
		Prices []float64 `parquet:"prices,list"`
	}{{[]float64{1}}}); err != nil {
		t.Fatal(err)
	}
	good := parquetOf(t, rows)
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"lists":      {nested.Bytes(), `column "prices" holds fields or lists`},
		"brotli":     {parquetOf(t, rows, parquet.Compression(&parquet.Brotli)), `x.parquet: column "time" is compressed as BROTLI, which is not supported: write it as SNAPPY`},
		"truncated":  {good[:len(good)/2], "not a whole Parquet file"},
		"other text": {[]byte("PAR1"), "not a whole Parquet file"},
	} {
		if _, err := readAll(t, tt.content); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
}

// bombed returns a file whose first page of the column close is another.
func bombed(t *testing.T, codec compress.Codec, page []byte, head format.PageHeader) []byte {
	t.Helper()
	rows, _ := records(1)
	good := parquetOf(t, rows, parquet.Compression(codec))
	p, err := parquet.OpenFile(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	meta := p.Metadata()
	at := len(good) - 8 - int(binary.LittleEndian.Uint32(good[len(good)-8:]))
	stored, err := codec.Encode(nil, page)
	if err != nil {
		t.Fatal(err)
	}
	head.CompressedPageSize = int32(len(stored))
	h, err := thrift.Marshal(&thrift.CompactProtocol{}, &head)
	if err != nil {
		t.Fatal(err)
	}
	c := &meta.RowGroups[0].Columns[2].MetaData
	c.DataPageOffset, c.DictionaryPageOffset, c.TotalCompressedSize = int64(at), 0, int64(len(h)+len(stored))
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, meta)
	if err != nil {
		t.Fatal(err)
	}
	out := append(append(bytes.Clone(good[:at]), h...), stored...)
	out = binary.LittleEndian.AppendUint32(append(out, footer...), uint32(len(footer)))
	return append(out, "PAR1"...)
}

// A page that unpacks to more than it claims, or claims too much, is refused with little memory.
func TestParquetBombs(t *testing.T) {
	v1 := func(claimed int32) format.PageHeader {
		return format.PageHeader{
			Type: format.DataPage, UncompressedPageSize: claimed,
			DataPageHeader: thrift.New(format.DataPageHeader{NumValues: 1, Encoding: format.Plain, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE}),
		}
	}
	v2 := format.PageHeader{Type: format.DataPageV2, UncompressedPageSize: 8, DataPageHeaderV2: thrift.New(format.DataPageHeaderV2{
		NumValues: 1, NumRows: 1, Encoding: format.Plain, DefinitionLevelsByteLength: math.MaxInt32,
	})}
	packed := make([]byte, 48<<20)
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"gzip":          {bombed(t, &parquet.Gzip, packed, v1(8)), "a page claims 8 unpacked bytes, but has more"},
		"zstd":          {bombed(t, &parquet.Zstd, packed, v1(8)), `damaged: column "close"`},
		"claim":         {bombed(t, &parquet.Gzip, packed[:8], v1(math.MaxInt32)), "at most 67108864 are read"},
		"negative":      {bombed(t, &parquet.Gzip, packed[:8], v1(-1)), "-1 unpacked"},
		"levels":        {bombed(t, &parquet.Zstd, packed[:8], v2), "levels of 2147483647 bytes"},
		"short":         {bombed(t, &parquet.Gzip, packed[:8], v1(9)), "unexpected EOF"},
		"uncompressed":  {bombed(t, &parquet.Uncompressed, packed[:8], v1(9)), "unexpected EOF"},
		"another value": {bombed(t, &parquet.Snappy, packed[:9], v1(8)), "but its data claim 9"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := readAll(t, tt.content)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 24<<20 {
			t.Errorf("%s: took %d bytes", name, took)
		}
	}
}

// FuzzParquet reads damaged files: they are refused, or read, without a panic and with bounded memory.
func FuzzParquet(f *testing.F) {
	rows, _ := records(50)
	good := parquetOf(f, rows, parquet.Compression(&parquet.Zstd))
	for at := 4; at < len(good); at += len(good) / 16 {
		f.Add(uint32(at), []byte{0xff, 0x7f, 0x80, 0x01}, at%2 == 0)
	}
	plain := parquetOf(f, rows, parquet.Compression(&parquet.Uncompressed), parquet.DataPageVersion(2))
	f.Fuzz(func(t *testing.T, at uint32, change []byte, packed bool) {
		content := bytes.Clone(plain)
		if packed {
			content = bytes.Clone(good)
		}
		copy(content[int(at)%len(content):], change)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = readAll(t, content)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 256<<20 {
			t.Fatalf("%d bytes of memory for a file of %d", took, len(content))
		}
	})
}
