package market

import (
	"strconv"
	"strings"
	"time"
)

// clock reads the times of a file.
type clock struct {
	// ahead is how far the file's clock is ahead of UTC, in milliseconds: negative west of Greenwich.
	ahead int64
}

const timeExpected = "is not a time: expected like 2006-01-02 15:04:05, or the epoch in s, ms, us or ns"

// Times before 1973 or after 2200 are treated as errors.
const (
	minTimeMS = 1e8 * 1000
	maxTimeMS = 7258118400 * 1000
)

// parse reads a time as Unix milliseconds UTC, rounded down, and reports whether it was a whole number of them. A time
// with a zone uses that zone; every other time, epochs included, uses the file's clock.
func (c clock) parse(column, text string) (ms int64, whole bool, err error) {
	t := strings.TrimSpace(text)
	var ok bool
	if len(t) > 4 && t[4] == '-' {
		ms, whole, ok = c.parseISO(t)
	} else {
		ms, whole, ok = parseEpoch(t)
		ms -= c.ahead
	}
	if !ok || ms < minTimeMS || ms > maxTimeMS {
		return 0, false, badCell(ReasonTime, column, text, timeExpected)
	}
	return ms, whole, nil
}

// parseMinute reads the start of a bar.
func (c clock) parseMinute(column, text string) (int64, error) {
	ms, whole, err := c.parse(column, text)
	if err == nil && (!whole || ms%MinuteMS != 0) {
		err = badCell(ReasonMinute, column, text, "is not on a minute")
	}
	return ms, err
}

// parseEpoch reads an epoch; its unit follows from its magnitude, which is unambiguous from 1973 to 5138.
func parseEpoch(t string) (ms int64, whole, ok bool) {
	digits, fraction, _ := strings.Cut(t, ".")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || digits[0] == '+' || !allDigits(fraction) {
		return 0, false, false
	}
	rest := strings.TrimRight(fraction, "0")
	switch {
	case n < 1e11: // seconds
		milli, _ := strconv.ParseInt((fraction + "000")[:3], 10, 64)
		return n*1000 + milli, len(rest) <= 3, true
	case n < 1e14:
		return n, rest == "", true
	case n < 1e17:
		return n / 1e3, n%1e3 == 0 && rest == "", true
	}
	return n / 1e6, n%1e6 == 0 && rest == "", true
}

// parseISO reads 2006-01-02 15:04[:05[.999]], with a T or a space in the middle, optionally followed by Z, UTC, +01:00
// or +0100. It is hand-written because time.Parse is several times slower, and a file has a time in every row.
func (c clock) parseISO(t string) (ms int64, whole, ok bool) {
	if len(t) < 16 || t[7] != '-' || t[10] != ' ' && t[10] != 'T' || t[13] != ':' {
		return 0, false, false
	}
	year, month, day := twoDigits(t[0:])*100+twoDigits(t[2:]), twoDigits(t[5:]), twoDigits(t[8:])
	hour, minute, second, milli := twoDigits(t[11:]), twoDigits(t[14:]), 0, 0
	whole = true
	rest := t[16:]
	if len(rest) >= 3 && rest[0] == ':' {
		second, rest = twoDigits(rest[1:]), rest[3:]
		if len(rest) > 0 && rest[0] == '.' {
			n := 1
			for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
				n++
			}
			fraction := rest[1:n]
			if fraction == "" {
				return 0, false, false
			}
			milli, _ = strconv.Atoi((fraction + "000")[:3])
			whole = len(strings.TrimRight(fraction, "0")) <= 3
			rest = rest[n:]
		}
	}
	ahead, zoned := parseZone(rest)
	if !zoned {
		ahead = c.ahead
	}
	if month < 1 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 ||
		year < 0 || rest != "" && !zoned {
		return 0, false, false
	}
	at := time.Date(year, time.Month(month), day, hour, minute, second, milli*1e6, time.UTC)
	if int(at.Month()) != month || at.Day() != day {
		return 0, false, false
	}
	return at.UnixMilli() - ahead, whole, true
}

// parseZone reads a zone as milliseconds ahead of UTC.
func parseZone(z string) (ahead int64, ok bool) {
	switch z = strings.TrimSpace(z); {
	case z == "Z" || z == "UTC":
		return 0, true
	case len(z) == 6 && z[3] == ':':
		z = z[:3] + z[4:]
	}
	if len(z) != 5 || z[0] != '+' && z[0] != '-' {
		return 0, false
	}
	hours, minutes := twoDigits(z[1:]), twoDigits(z[3:])
	if hours < 0 || hours > 14 || minutes < 0 || minutes > 59 {
		return 0, false
	}
	ahead = int64(hours*60+minutes) * MinuteMS
	if z[0] == '-' {
		ahead = -ahead
	}
	return ahead, true
}

// twoDigits reads the first two bytes as a number; it is negative if they are not digits.
func twoDigits(s string) int {
	if s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9' {
		return -10_000
	}
	return int(s[0]-'0')*10 + int(s[1]-'0')
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// utc formats a time for a message.
func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z") }
