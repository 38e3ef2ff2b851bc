package rowtable_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/parquet-go/parquet-go"

	"github.com/greenlight-ml/greenlight/pkg/rowtable"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(path string, c rowtable.Columns) (*rowtable.Table, error) {
	r, err := rowtable.Open(path)
	if err != nil {
		return nil, err
	}
	t, err := r.Read(c)
	return t, errors.Join(err, r.Close())
}

// The same instant in every form that a CSV file can have.
func TestReadCSV(t *testing.T) {
	at := time.Date(2018, 5, 1, 0, 1, 0, 0, time.UTC)
	for name, content := range map[string]string{
		"seconds":      "t,a,s\n1525132860,1.5,X\n",
		"milliseconds": "t,a,s\n1525132860000,1.5,X\n",
		"microseconds": "t,a,s\n1525132860000000,1.5,X\n",
		"nanoseconds":  "t,a,s\n1525132860000000000,1.5,X\n",
		"ISO":          "t,a,s\n2018-05-01T02:01:00+02:00,1.5,X\n",
		"text":         "t;a;s\n2018-05-01 00:01:00;1.5;X\n",
		"mark":         "\xef\xbb\xbft\ta\ts\r\n2018-05-01 00:01\t1.5\tX\r\n",
		"half days":    "t|a|s\n01-May-18 12:01 AM|1.5|X\n",
		"float":        "t,a,s\n1.52513286e+12,1.5,X\n",
		"packed":       gzipped(t, "t,a,s\n1525132860,1.5,X\n"),
		"zip":          zipped(t, "t,a,s\n1525132860,1.5,X\n"),
		"UTF-16":       utf16le("t\ta\ts\r\n1525132860\t1.5\tX\r\n"),
		"quoted":       "\"t\",\"a\",\"s\"\n\"2018-05-01 00:01:00.000\",\"1.5\",\"X\"\n",
	} {
		got, err := read(write(t, "t.csv", content), rowtable.Columns{Time: "t", Group: "s", Numbers: []string{"a"}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sum := sha256.Sum256([]byte(content)); got.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: got the digest %s", name, got.SHA256)
		}
		if got.Rows != 1 || got.Times[0] != at.UnixMilli() || got.Numbers["a"][0] != 1.5 || got.Groups[0] != "X" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func gzipped(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// zipped returns a zip with a file for each content.
func zipped(t *testing.T, contents ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, content := range contents {
		w, err := z.Create(fmt.Sprintf("%d.csv", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func utf16le(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

func TestMissingNumbers(t *testing.T) {
	got, err := read(write(t, "t.csv", "a\n1\n\"\"\nNaN\nnull\ninf\ntrue\n<NA>\nfalse\n"), rowtable.Columns{Numbers: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	nan := math.NaN()
	want := []float64{1, nan, nan, nan, nan, 1, nan, 0}
	for i, w := range want {
		if g := got.Numbers["a"][i]; g != w && !(math.IsNaN(g) && math.IsNaN(w)) {
			t.Errorf("row %d: got %v, want %v", i+1, g, w)
		}
	}
}

func TestReadParquet(t *testing.T) {
	type row struct {
		Time time.Time `parquet:"time,timestamp(microsecond)"`
		A    float32   `parquet:"a,optional"`
		B    *float64  `parquet:"b,optional"`
		N    int64     `parquet:"n"`
		Day  int32     `parquet:"day,date"`
		S    string    `parquet:"s"`
	}
	path := filepath.Join(t.TempDir(), "t.parquet")
	at, b := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), 2.5
	if err := parquet.WriteFile(path, []row{{at, 1.5, &b, 1, 19724, "X"}, {at.Add(time.Minute), 3, nil, 0, 19724, "Y"}}); err != nil {
		t.Fatal(err)
	}
	names, err := rowtable.Header(path)
	if err != nil || !slices.Equal(names, []string{"time", "a", "b", "n", "day", "s"}) {
		t.Fatalf("got %v, %v", names, err)
	}
	got, err := read(path, rowtable.Columns{Time: "time", Group: "s", Numbers: []string{"n", "b", "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows != 2 || got.Times[0] != at.UnixMilli() || got.Numbers["b"][0] != 2.5 || !math.IsNaN(got.Numbers["b"][1]) ||
		!slices.Equal(got.Numbers["n"], []float64{1, 0}) || !slices.Equal(got.Numbers["a"], []float64{1.5, 3}) || got.Groups[1] != "Y" {
		t.Errorf("got %+v", got)
	}
	daily, err := read(path, rowtable.Columns{Time: "day"})
	if want := time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC).UnixMilli(); err != nil || daily.Times[0] != want {
		t.Errorf("a column of days: got %v, %v, want %d", daily, err, want)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 4; at < len(raw); at += 7 { // damaged: an error, or rows with all values
		damaged := bytes.Clone(raw)
		copy(damaged[at:], "\xff\x7f\x80\x01")
		if got, err := read(write(t, "d.parquet", string(damaged)), rowtable.Columns{Time: "time", Group: "s", Numbers: []string{"n"}}); err == nil && got.Rows != 2 {
			t.Errorf("damaged at %d: got %d rows", at, got.Rows)
		}
	}
}

func TestRefused(t *testing.T) {
	cut := gzipped(t, "t,a\n1525132860,1\n")
	cut = cut[:len(cut)-6]
	for name, tt := range map[string]struct{ file, content, want string }{
		"empty":         {"t.csv", "", "empty"},
		"no rows":       {"t.csv", "t,a\n", "no rows"},
		"no name":       {"t.csv", "t,\n1,2\n", "column 2 has no name"},
		"twice":         {"t.csv", "t,a,a\n1,2,3\n", `"a" appears twice`},
		"absent":        {"t.csv", "t,b\n1525132860,2\n", "no column a; it has t, b"},
		"text":          {"t.csv", "t,a\n1525132860,high\n", `t.csv: line 2 column "a": "high": want a number`},
		"time":          {"t.csv", "t,a\nnoon,1\n", `column "t": "noon" is not a time: want like 2006-01-02`},
		"time unit":     {"t.csv", "t,a\n12,1\n", "from 1973 to 2199"},
		"short row":     {"t.csv", "t,a\n1525132860\n", "line 2 has 1 column, the first line has 2"},
		"two dates":     {"t.csv", "t,a\n01/02/2018,1\n", "may be day/month or month/day: write times like 2006-01-02"},
		"broken quotes": {"t.csv", "t,a\n\"1525132860,1\n", "line 2 has a quotation mark out of place"},
		"no parquet":    {"t.parquet", "PAR1", "not a whole Parquet file"},
		"cut off":       {"t.csv.gz", cut, "the compressed file is truncated"},
		"two files":     {"t.zip", zipped(t, "t,a\n", "t,a\n"), "the zip holds 2 files: unpack it"},
		"long header":   {"t.csv", strings.Repeat("x", 2<<20), "line 1 is longer than 1048576 bytes; this is not a table"},
		"too many cols": {"t.csv", strings.Repeat("x,", 20_000) + "y\n", "columns: want 1 to"},
	} {
		_, err := read(write(t, tt.file, tt.content), rowtable.Columns{Time: "t", Numbers: []string{"a"}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error that mentions %q", name, err, tt.want)
		}
	}
}
