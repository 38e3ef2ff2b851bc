package rowtable_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
		"quoted":       "\"t\",\"a\",\"s\"\n\"2018-05-01 00:01:00.000\",\"1.5\",\"X\"\n",
	} {
		got, err := rowtable.Read(write(t, "t.csv", content), rowtable.Columns{Time: "t", Group: "s", Numbers: []string{"a"}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Rows != 1 || got.Times[0] != at.UnixMilli() || got.Numbers["a"][0] != 1.5 || got.Groups[0] != "X" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestMissingNumbers(t *testing.T) {
	got, err := rowtable.Read(write(t, "t.csv", "a\n1\n\"\"\nNaN\nnull\ninf\ntrue\n"), rowtable.Columns{Numbers: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	nan := math.NaN()
	want := []float64{1, nan, nan, nan, nan, 1}
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
		S    string    `parquet:"s"`
	}
	path := filepath.Join(t.TempDir(), "t.parquet")
	at, b := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), 2.5
	if err := parquet.WriteFile(path, []row{{at, 1.5, &b, 1, "X"}, {at.Add(time.Minute), 3, nil, 0, "Y"}}); err != nil {
		t.Fatal(err)
	}
	names, err := rowtable.Header(path)
	if err != nil || !slices.Equal(names, []string{"time", "a", "b", "n", "s"}) {
		t.Fatalf("got %v, %v", names, err)
	}
	got, err := rowtable.Read(path, rowtable.Columns{Time: "time", Group: "s", Numbers: []string{"n", "b", "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows != 2 || got.Times[0] != at.UnixMilli() || got.Numbers["b"][0] != 2.5 || !math.IsNaN(got.Numbers["b"][1]) ||
		!slices.Equal(got.Numbers["n"], []float64{1, 0}) || !slices.Equal(got.Numbers["a"], []float64{1.5, 3}) || got.Groups[1] != "Y" {
		t.Errorf("got %+v", got)
	}
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct{ file, content, want string }{
		"empty":         {"t.csv", "", "empty"},
		"no rows":       {"t.csv", "t,a\n", "no rows"},
		"no name":       {"t.csv", "t,\n1,2\n", "column 2 has no name"},
		"twice":         {"t.csv", "t,a,a\n1,2,3\n", `"a" is there twice`},
		"absent":        {"t.csv", "t,b\n1525132860,2\n", "no column a; it has t, b"},
		"text":          {"t.csv", "t,a\n1525132860,high\n", `line 2, column "a": "high": want a number`},
		"time":          {"t.csv", "t,a\nnoon,1\n", `column "t": "noon": want a time`},
		"time unit":     {"t.csv", "t,a\n12,1\n", "want a time from 1973 to 2199"},
		"short row":     {"t.csv", "t,a\n1525132860\n", "line 2"},
		"no parquet":    {"t.parquet", "t,a\n", "not a Parquet file"},
		"long header":   {"t.csv", strings.Repeat("x", 2<<20), "first line"},
		"too many cols": {"t.csv", strings.Repeat("x,", 20_000) + "y\n", "columns: want 1 to"},
	} {
		_, err := rowtable.Read(write(t, tt.file, tt.content), rowtable.Columns{Time: "t", Numbers: []string{"a"}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error that mentions %q", name, err, tt.want)
		}
	}
}
