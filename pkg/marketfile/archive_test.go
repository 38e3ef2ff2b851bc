package marketfile

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zipped(t testing.TB, entries ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		w, err := z.Create(entries[i])
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(entries[i+1]))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func manyRows(n int) string {
	var b strings.Builder
	b.WriteString("timestamp,open,high,low,close\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,%d,%d,%d,%d\n", 1704153600+60*i, 1000+i%7, 1010+i%3, 900+i%11, 1000+i%5)
	}
	return b.String()
}

func TestReadArchives(t *testing.T) {
	text := manyRows(5000)
	for name, content := range map[string]string{
		"bars.csv":     text,
		"bars.csv.gz":  gzipped(t, text),
		"bars.zip":     zipped(t, "__MACOSX/._bars.csv", "x", "folder/", "", "folder/bars.csv", text),
		"misnamed.csv": gzipped(t, text),
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			s, err := Read(store(t, name, content), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Bars) != 5000 {
				t.Errorf("got %d bars, want 5000", len(s.Bars))
			}
			sum := sha256.Sum256([]byte(content))
			if got, want := s.Files[0].SHA256, hex.EncodeToString(sum[:]); got != want {
				t.Errorf("digest: got %s, want %s of the bytes as stored", got, want)
			}
		})
	}
}

func TestReadBrokenFiles(t *testing.T) {
	text := manyRows(5000)
	gz, zp := gzipped(t, text), zipped(t, "bars.csv", text)
	flipped := []byte(gz)
	flipped[len(flipped)-6] ^= 0xff // the checksum
	flippedZip := []byte(zp)
	flippedZip[bytes.Index(flippedZip, []byte("bars.csv"))+2000] ^= 0xff
	encrypted := []byte(zp)
	encrypted[bytes.Index(encrypted, []byte("PK\x01\x02"))+8] |= 1
	tests := []struct {
		name, file, content string
		opts                Options
		want                string
	}{
		{"empty", "a.csv", "", Options{}, "a.csv: the file is empty"},
		{"blank", "a.csv", "\n\n", Options{}, "a.csv: the file has no rows"},
		{"empty inside", "a.csv.gz", gzipped(t, ""), Options{}, "a.csv.gz: the file has no rows"},
		{"header alone", "a.csv", "timestamp,open,high,low,close\n", Options{}, "a.csv: has a header and no rows"},
		{"truncated gzip", "a.csv.gz", gz[:len(gz)/2], Options{}, "a.csv.gz: the compressed file is truncated; copy or download it again: unexpected EOF"},
		{"truncated gzip header", "a.csv.gz", gz[:5], Options{}, "a.csv.gz: the compressed file is truncated; copy or download it again: unexpected EOF"},
		{"damaged gzip", "a.csv.gz", string(flipped), Options{}, "a.csv.gz: the compressed file is damaged; copy or download it again: gzip: invalid checksum"},
		{"garbage behind gzip", "a.csv.gz", gz + "rest", Options{}, "a.csv.gz: the compressed file is"},
		{"truncated zip", "a.zip", zp[:len(zp)/2], Options{}, "a.zip: the zip is truncated or damaged; copy or download it again: zip: not a valid zip file"},
		{"damaged zip", "a.zip", string(flippedZip), Options{MaxBadRows: 1e6}, "a.zip: the compressed file is damaged"},
		{"encrypted zip", "a.zip", string(encrypted), Options{}, "a.zip: the zip is encrypted; unpack it and name the file inside"},
		{"zip of nothing", "a.zip", zipped(t), Options{}, "a.zip: the zip holds 0 files, want at least 1"},
		{"zip of two", "a.zip", zipped(t, "one.csv", text, "two.csv", text), Options{}, "a.zip: there are several; name one: ONE, TWO"},
		{"bomb gzip", "a.csv.gz", gz, Options{MaxBytes: 1000}, "a.csv.gz: the text is larger than 1000 bytes; if you trust the file, raise the limit (MaxBytes)"},
		{"bomb zip", "a.zip", zp, Options{MaxBytes: 1000}, "a.zip: the text is larger than 1000 bytes"},
		{"one byte too many", "a.csv", text, Options{MaxBytes: int64(len(text)) - 1}, "a.csv: the text is larger than"},
		{"endless line", "a.csv", strings.Repeat("x", 3<<20), Options{}, "a.csv: line 1 is longer than 1048576 bytes; this is not a table"},
		{"prose", "a.csv", "hello\nworld\n", Options{}, "a.csv: unknown format: want a CSV with the columns timestamp, open, high, low, close"},
		{"spaces", "a.csv", "timestamp open high low close\n1704153600 1 1 1 1\n", Options{}, "a.csv: unknown format"},
		{"trades", "a.csv", "1704153600,5,1\n1704153601,5.5,9\n1704153602,5,2\n", Options{}, "a.csv: unknown format"},
		{"column missing", "a.csv", "timestamp,open,high,low\n1704153600,1,1,1\n", Options{}, `a.csv: no column "close"; the header has: timestamp, open, high, low`},
		{"columns missing", "a.csv", "when,open,high,low\n1704153600,1,1,1\n", Options{}, `a.csv: no column "timestamp", "close"; the header has: when, open, high, low`},
		{"ask missing", "a.csv", "ts,bid\n1704153600,1\n", Options{}, `a.csv: no column "ask"; the header has: ts, bid`},
		{"column twice", "a.csv", "ts,open,high,low,close,Close\n1704153600,1,1,1,1,1\n", Options{}, `a.csv: column "close" is listed twice`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			s, err := Read(store(t, tt.file, tt.content), tt.opts)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v (series %v), want %s", err, s != nil, tt.want)
			}
		})
	}
}

func TestReadExactlyMaxBytes(t *testing.T) {
	t.Chdir(t.TempDir())
	text := manyRows(50)
	if _, err := Read(store(t, "a.csv.gz", gzipped(t, text)), Options{MaxBytes: int64(len(text))}); err != nil {
		t.Errorf("got %v, want no error at exactly the limit", err)
	}
}

func TestReadLongerBars(t *testing.T) {
	t.Chdir(t.TempDir())
	var b strings.Builder
	b.WriteString("timestamp,open,high,low,close\n")
	for i := range 12 {
		fmt.Fprintf(&b, "%d,1,1,1,1\n", 1704153600+300*i)
	}
	_, err := Read(store(t, "a.csv", b.String()), Options{})
	if want := "a.csv: the bars are at least 5 minutes apart; one-minute bars are needed"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReadNotAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := Read("nowhere.csv", Options{}); !os.IsNotExist(err) || !strings.Contains(err.Error(), "nowhere.csv") {
		t.Errorf("got %v, want that nowhere.csv does not exist", err)
	}
	if _, err := Read(os.DevNull, Options{}); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("got %v, want that it is not a regular file", err)
	}
}
