package trees

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
)

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func inUTF16(order binary.AppendByteOrder, mark bool, text string) string {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xfeff)
	}
	for _, u := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

// A gzipped model, and one with a byte order mark, is read as its content.
func TestImportUnpacks(t *testing.T) {
	for _, path := range []string{"testdata/xgboost_market.json", "testdata/lightgbm_market.txt"} {
		plain := readModel(t, path)
		x := make([]float64, len(plain.FeatureNames()))
		text := readText(t, path)
		for name, file := range map[string]string{
			"gzip": gzipped(t, text), "two members": gzipped(t, text[:50]) + gzipped(t, text[50:]),
			"mark": "\xef\xbb\xbf" + text, "gzip and mark": gzipped(t, "\xef\xbb\xbf"+text),
		} {
			e, err := Import("m", strings.NewReader(file))
			if err != nil || e.Score(x) != plain.Score(x) {
				t.Errorf("%s, %s: %v", path, name, err)
			}
		}
	}
}

// The error for a file that is not a model names its kind and gives advice. None of the file's bytes reach the terminal unescaped.
func TestImportNamesOtherFiles(t *testing.T) {
	model := readText(t, "testdata/lightgbm_market.txt")
	xgb := readText(t, "testdata/xgboost_market.json")
	packed := gzipped(t, model)
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "empty file"},
		{"blank", "\n\n  ", "empty file"},
		{"gzip of nothing", gzipped(t, ""), "empty file"},
		{"gzip cut short", packed[:len(packed)/2], "truncated gzip file"},
		{"gzip header alone", packed[:5], "truncated gzip file"},
		{"gzip damaged", packed[:100] + "xxxx" + packed[104:], "gzip file that cannot be unpacked"},
		{"gzip twice", gzipped(t, packed), "gzip file in a gzip file"},
		{"gzip bomb", gzipped(t, strings.Repeat("tree\n", MaxFile/5+1)), "larger than"},
		{"gzip of a pickle", gzipped(t, "\x80\x04\x95\x00"), "Python pickle"},
		{"pickle", "\x80\x04\x95\x12\x00\x00\x00\x00\x00\x00\x00\x8c\x08xgboost", `save_model("model.json")`},
		{"pickle of protocol 2", "\x80\x02cxgboost.core\nBooster\n", "Python pickle"},
		{"pickle of protocol 0", "ccopy_reg\n_reconstructor\np0\n", "Python pickle"},
		{"joblib, compressed", "\x78\x9c\xab\xca", "zlib stream, as joblib"},
		{"zip", "PK\x03\x04\x14\x00\x00\x00mid.npy", "zip archive (npz"},
		{"bzip2", "BZh91AY&SY", "bzip2 file: unpack it"},
		{"xz", "\xfd7zXZ\x00\x00\x04", "xz file"},
		{"zstd", "\x28\xb5\x2f\xfd\x24", "zstd file"},
		{"tar", "model.json" + strings.Repeat("\x00", 247) + "ustar\x0000", "tar archive"},
		{"UTF-16, little endian", inUTF16(binary.LittleEndian, true, model), "iconv -f UTF-16"},
		{"UTF-16, big endian", inUTF16(binary.BigEndian, true, xgb), "iconv -f UTF-16"},
		{"UTF-32", "\xff\xfe\x00\x00t\x00\x00\x00", "UTF-32"},
		{"XGBoost's old binary", "binf\x00\x00\x00\x3f\x06\x00\x00\x00", "old binary format"},
		{"XGBoost's text dump", "booster[0]:\n0:[f0<0.5] yes=1,no=2,missing=1\n", "lacks the objective"},
		{"XGBoost's JSON dump", "[\n  { \"nodeid\": 0, \"depth\": 0 }]", "lacks the objective"},
		{"ONNX", "\x08\x08\x12\x08skl2onnx\x1a\x06", "ONNX model"},
		{"PMML", "<?xml version=\"1.0\"?>\n<PMML xmlns=\"http://www.dmg.org/PMML-4_4\">", "PMML document"},
		{"XML", "<?xml version=\"1.0\"?><a/>", "XML"},
		{"HTML", "\n<!DOCTYPE html><html><title>Sign in</title>", "HTML page"},
		{"LightGBM's JSON dump", "{\"name\":\"tree\",\n\"version\":\"v4\"", "LightGBM's dump_model"},
		{"CatBoost", "CBM1\x00\x00", "CatBoost"},
		{"LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "git lfs pull"},
		{"CSV", "minute,bid,ask\n2025-01-01T00:00Z,1,2\n", "table (CSV)"},
		{"noise", "\x01\x9a\x00\xff\x07noise", "unknown binary file"},
		{"Latin-1", "mod\xe8le de \xe9t\xe9 et d'hiver", "unknown binary file"},
		{"prose with escapes", "\x1b[2J\x1b[31mDear all", `starts with "\x1b[2J`},
		{"a bare number", "42", `starts with "42"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Import("m", strings.NewReader(c.text))
			if err == nil || e != nil || !strings.HasPrefix(err.Error(), "m: ") || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, %v; want an error with %q", e, err, c.want)
			}
			if i := strings.IndexFunc(err.Error(), unicode.IsControl); i >= 0 || len(err.Error()) > 400 {
				t.Errorf("a control character at %d, or %d bytes, in %q", i, len(err.Error()), err)
			}
		})
	}
}
