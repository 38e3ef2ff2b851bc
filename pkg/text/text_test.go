package text_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		limit    int
		want     string
	}{
		{"whole", "v1.8.1", 6, "v1.8.1"},
		{"empty", "", 0, ""},
		{"one byte over", "v1.8.10", 6, "v1.…"},
		{"no half runes", "ééééé", 8, "éé…"},
		{"invalid bytes", "a\xffb", 64, "a\uFFFDb"},
		{"invalid bytes that grow over the limit", "\xffa\xffa", 4, "…"},
		{"no room", "abcdef", 2, ""},
		{"line breaks are kept", "a\nb", 64, "a\nb"},
	} {
		if got := text.Cut(tt.in, tt.limit); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain é 日本", "plain é 日本"},
		{"\x1b[2Jgone", "\uFFFD[2Jgone"},
		{"one\ntwo\r\tthree", "one\uFFFDtwo\uFFFD\uFFFDthree"},
		{"\u009b31m", "\uFFFD31m"},
		{"safe\u202egnp.exe", "safe\uFFFDgnp.exe"},
		{strings.Repeat("x", 65), strings.Repeat("x", 61) + "…"},
	} {
		if got := text.Clean(tt.in, 64); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 rows", 1: "1 row", 2: "2 rows", -1: "-1 rows"} {
		if got := text.Count(n, "row"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("v1.8.1\x00\xff é", 7)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 3 + (limit%64+64)%64
		for _, got := range []string{text.Cut(s, limit), text.Clean(s, limit)} {
			if len(got) > limit || !utf8.ValidString(got) {
				t.Errorf("got %q of %q, limit %d", got, s, limit)
			}
		}
		if i := strings.IndexFunc(text.Clean(s, limit), unicode.IsControl); i >= 0 {
			t.Errorf("a control character at %d of %q", i, s)
		}
	})
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0 rows", 1: "1 row", 2: "2 rows", -1: "-1 rows"} {
		if got := text.Count(n, "row"); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
