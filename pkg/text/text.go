// Package text makes text that came from outside (a peer, a file) safe to store, send, log and print, and puts numbers into
// words.
package text

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Ellipsis marks where [Cut] and [Clean] left something out.
const Ellipsis = "…"

// Cut returns s as valid UTF-8 of at most limit bytes. Invalid bytes become U+FFFD. Where s is longer, it ends in
// [Ellipsis], which counts; a limit below its three bytes leaves no room for any text.
func Cut(s string, limit int) string {
	valid := strings.ToValidUTF8(s[:min(limit, len(s))], "\uFFFD") // s may be megabytes: cut before the scan
	if len(s) <= limit && len(valid) <= limit {
		return valid
	}
	room := limit - len(Ellipsis)
	if room < 0 {
		return ""
	}
	valid = valid[:min(room, len(valid))]
	for !utf8.ValidString(valid) { // half of a rune at the end: at most three bytes
		valid = valid[:len(valid)-1]
	}
	return valid + Ellipsis
}

// Clean returns s as [Cut] does, with each control and formatting character replaced by U+FFFD, so that it cannot move a
// terminal's cursor, forge a line of a log, or reverse the direction of what is read.
func Clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "x" // keeps the length over the limit, so that Cut marks it
	}
	clean := strings.Map(func(r rune) rune {
		if unsafe(r) {
			return utf8.RuneError
		}
		return r
	}, s)
	return Cut(clean, limit)
}

// unsafe reports whether r is a control or a formatting character.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// Count returns a number with the name of what it counts: "1 row", "2 rows".
func Count[N ~int | ~int64 | ~uint32 | ~uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
