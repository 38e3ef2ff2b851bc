package text_test

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// However the text is split into writes, the output is the same and cannot control a terminal.
func TestWriter(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain\tascii\n":                    "plain\tascii\n",
		"größer, 取引, 🙂\n":                   "größer, 取引, 🙂\n",
		"\x1b[2J\x1b]0;title\a":             "\uFFFD[2J\uFFFD]0;title\uFFFD",
		"over\rwritten, back\b\x7f\x00":     "over\uFFFDwritten, back\uFFFD\uFFFD\uFFFD",
		"C1 \u009b2J, raw \x9b2J":           "C1 \uFFFD2J, raw \uFFFD2J",
		"reversed \u202egpj.exe, \u2066x":   "reversed \uFFFDgpj.exe, \uFFFDx",
		"lines \u2028\u2029 and \ufeffmark": "lines \uFFFD\uFFFD and \uFFFDmark",
	} {
		for size := 1; size <= len(in); size++ {
			var out bytes.Buffer
			w := text.NewWriter(&out)
			for rest := in; rest != ""; {
				n, err := io.WriteString(w, rest[:min(size, len(rest))])
				if err != nil || n != min(size, len(rest)) {
					t.Fatalf("wrote %d of %d: %v", n, min(size, len(rest)), err)
				}
				rest = rest[n:]
			}
			if out.String() != want {
				t.Errorf("%q in writes of %d: got %q, want %q", in, size, out.String(), want)
			}
		}
	}
}

func TestWriterKeepsJSONValid(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for r := rune(0); r < 0x3000; r++ {
		all.WriteRune(r)
	}
	raw, err := json.Marshal(map[string]string{"text": all.String()})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := text.NewWriter(&out).Write(raw); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(out.Bytes()) || !utf8.Valid(out.Bytes()) {
		t.Errorf("not JSON any more: %.80s", out.Bytes())
	}
}
