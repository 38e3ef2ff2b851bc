// Package text makes text from outside (a peer, a file) safe to store, send, log and print. It also formats counts and
// durations.
package text

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Ellipsis marks where [Cut] and [Clean] removed text.
const Ellipsis = "…"

// Cut returns s as valid UTF-8 of at most limit bytes. Invalid bytes become U+FFFD. A shortened text ends in
// [Ellipsis], which counts toward limit; a limit below its three bytes returns no text.
func Cut(s string, limit int) string {
	valid := strings.ToValidUTF8(s[:min(limit, len(s))], "\uFFFD") // s may be megabytes: cut it before scanning
	if len(s) <= limit && len(valid) <= limit {
		return valid
	}
	room := limit - len(Ellipsis)
	if room < 0 {
		return ""
	}
	valid = valid[:min(room, len(valid))]
	for !utf8.ValidString(valid) { // a partial rune at the end has at most three bytes
		valid = valid[:len(valid)-1]
	}
	return valid + Ellipsis
}

// Clean is Cut, with each control and formatting character replaced by U+FFFD, so that the text cannot move a terminal's
// cursor, forge a log line, or reverse the reading direction.
func Clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "x" // still over the limit, so that Cut marks it
	}
	clean := strings.Map(func(r rune) rune {
		if unsafe(r) {
			return utf8.RuneError
		}
		return r
	}, s)
	return Cut(clean, limit)
}

// unsafe reports whether r is a control or formatting character.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// Count returns a number with its noun: "1 row", "2 rows".
func Count[N ~int | ~int64 | ~uint32 | ~uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Grouped returns a number with thousands separators: 12,345.
func Grouped[N ~int | ~uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Duration returns the short form of a duration: "30m", where time.Duration prints "30m0s".
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
