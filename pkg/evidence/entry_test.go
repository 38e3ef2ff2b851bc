package evidence

import (
	"strings"
	"testing"
	"time"
)

// A forger can compute a correct hash for a wrong line; the links must match as well.
func TestParseEntryChecksEachLink(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first, _, err := entry{}.next(now, "a.txt", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	forged := func(change func(*entry)) string {
		e, _, err := first.next(now, "b.txt", []byte("2"))
		if err != nil {
			t.Fatal(err)
		}
		change(&e)
		if e.Hash, err = e.hash(); err != nil {
			t.Fatal(err)
		}
		line, err := e.line()
		if err != nil {
			t.Fatal(err)
		}
		return string(line)
	}
	right := forged(func(*entry) {})
	tests := []struct {
		name string
		line string
		want string // "" means valid
	}{
		{"unchanged", right, ""},
		{"another prev", forged(func(e *entry) { e.Prev = firstPrev }), "prev is 000000000000, the line before has hash"},
		{"no prev", forged(func(e *entry) { e.Prev = "" }), "prev is "},
		{"a seq left out", forged(func(e *entry) { e.Seq = 3 }), "seq is 3, want 2"},
		{"seq again", forged(func(e *entry) { e.Seq = 1 }), "seq is 1, want 2"},
		{"another hash", strings.Replace(right, `"size":1`, `"size":2`, 1), "hash is "},
		{"a space", strings.Replace(right, `,`, `, `, 1), "not the canonical form of a chain line"},
		{"a key in capitals", strings.Replace(right, `"seq"`, `"SEQ"`, 1), "not the canonical form of a chain line"},
		{"a key more", strings.Replace(right, `{`, `{"x":1,`, 1), "not the canonical form of a chain line"},
		{"no line end", strings.TrimSuffix(right, "\n"), "not the canonical form of a chain line"},
		{"not JSON", "x\n", "not a chain line"},
		{"nothing", "\n", "not a chain line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseEntry([]byte(tt.line), first)
			switch {
			case tt.want == "" && (err != nil || got.File != "b.txt"):
				t.Errorf("got %+v, %v, want the entry", got, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
