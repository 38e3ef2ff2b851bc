package text

import (
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Printable returns s with each control and formatting character, and each byte that is not UTF-8, replaced by U+FFFD.
// Line ends and tabs are kept.
func Printable(s string) string { return strings.Map(printable, strings.ToValidUTF8(s, "\uFFFD")) }

func printable(r rune) rune {
	if r == '\n' || r == '\t' || !unsafe(r) {
		return r
	}
	return utf8.RuneError
}

// Writer passes text through [Printable] to another writer, so that no text can control a terminal. It is safe for concurrent
// use.
type Writer struct {
	mu sync.Mutex
	to io.Writer
	// half is the start of a rune whose rest has not been written yet.
	half []byte
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{to: w} }

// Write implements io.Writer. It counts the bytes of p.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.half) == 0 && plain(p) {
		return w.to.Write(p)
	}
	text := slices.Concat(w.half, p)
	end := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if b := text[len(text)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(text[len(text)-i:]) {
				end -= i
			}
			break
		}
	}
	w.half = text[end:]
	if _, err := io.WriteString(w.to, Printable(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// plain reports whether p is all ASCII that needs no change.
func plain(p []byte) bool {
	for _, b := range p {
		if b >= 0x7f || b < ' ' && b != '\n' && b != '\t' {
			return false
		}
	}
	return true
}
