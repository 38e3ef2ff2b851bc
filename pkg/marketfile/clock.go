package marketfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// clock reads the times of a file.
type clock struct {
	// ahead is how far the file's clock is ahead of UTC, in milliseconds: negative west of Greenwich.
	ahead int64
	// monthFirst reports whether 01/02/2024 is in January.
	monthFirst bool
	// midnight is the day of a file whose times are milliseconds since midnight, in Unix milliseconds; 0 for others.
	midnight int64
}

const timeWanted = "is not a time: want like 2006-01-02 15:04:05, or the epoch in s, ms, us or ns"

const dayMS = 24 * 60 * market.MinuteMS

// parse reads a time as Unix milliseconds UTC, rounded down, and reports whether it was a whole number of them. A time
// with a zone uses that zone; every other time, epochs included, uses the file's clock.
func (c clock) parse(column, text string) (ms int64, whole bool, err error) {
	if c.midnight != 0 {
		return c.parseSinceMidnight(column, text)
	}
	t := strings.TrimSpace(text)
	ms, whole, ok := parseEpoch(t)
	if ms -= c.ahead; !ok || ms > 0 && !market.IsTime(ms) { // 20240102030405 is no epoch before 2200
		ms, whole, ok = c.parseCalendar(t)
	}
	if !ok || !market.IsTime(ms) {
		return 0, false, badCell(ReasonTime, column, text, timeWanted)
	}
	return ms, whole, nil
}

// ParseTime reads a time in a table of another program as Unix milliseconds UTC, rounded down: an epoch in s, ms, us or ns,
// or a day with or without a time of day. A time without a zone is UTC. A day with two readings is an error.
func ParseTime(text string) (ms int64, err error) {
	t := strings.TrimSpace(text)
	read := func(c clock) (ms int64, ok bool) {
		if ms, _, err := c.parse("", t); err == nil {
			return ms, true
		}
		ms, rest, ok := c.parseDay(t)
		return ms, ok && rest == "" && market.IsTime(ms)
	}
	ms, ok := read(clock{})
	other, swapped := read(clock{monthFirst: true})
	switch {
	case ok && swapped && ms != other:
		return 0, fmt.Errorf("%.60q may be day/month or month/day: write times like 2006-01-02 15:04:05", t)
	case ok:
		return ms, nil
	case swapped:
		return other, nil
	}
	return 0, fmt.Errorf("%.60q %s, from 1973 to 2199", t, timeWanted)
}

// parseMinute reads the start of a bar.
func (c clock) parseMinute(column, text string) (int64, error) {
	ms, whole, err := c.parse(column, text)
	if err == nil && (!whole || ms%market.MinuteMS != 0) {
		err = badCell(ReasonMinute, column, text, "is not on a minute")
	}
	return ms, err
}

func (c clock) parseSinceMidnight(column, text string) (int64, bool, error) {
	x, err := parseNumber(column, text)
	if err == nil && (x < 0 || x >= dayMS) {
		err = badCell(ReasonTime, column, text, "is not a time of day: want ms since midnight, 0 to 86399999")
	}
	return c.midnight + int64(x) - c.ahead, true, err
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

// parseCalendar reads a day and a time of day, with a T, a space or nothing in the middle, and perhaps a zone. It is
// hand-written because time.Parse is several times slower, and a file has a time in every row.
func (c clock) parseCalendar(t string) (ms int64, whole, ok bool) {
	day, rest, ok := c.parseDay(t)
	if !ok || rest == "" {
		return 0, false, false
	}
	if strings.IndexByte(" T,;", rest[0]) >= 0 {
		rest = strings.TrimLeft(rest[1:], " ")
	} else if !allDigits(t) || len(t) != len("20060102150405") {
		return 0, false, false
	}
	ofDay, whole, zone, ok := parseOfDay(rest)
	if !ok {
		return 0, false, false
	}
	ahead, zoned := parseZone(zone)
	if !zoned {
		ahead = c.ahead
	}
	return day + ofDay - ahead, whole, zone == "" || zoned
}

// parseDay reads 2006-01-02, 20060102, 02.01.2006, 1/2/2006 or 02-Jan-06 as Unix milliseconds, and returns what follows.
// Years come first or last; see clock.monthFirst for the rest.
func (c clock) parseDay(t string) (ms int64, rest string, ok bool) {
	first, second, third, rest, ok := dayParts(t)
	if !ok {
		return 0, "", false
	}
	y, m, d := first, second, third
	if len(first) != 4 {
		y, m, d = third, second, first
		if c.monthFirst && m[0] <= '9' {
			m, d = first, second
		}
	}
	year, _ := strconv.Atoi(y)
	if len(y) == 2 {
		year += 2000
	}
	month, _ := strconv.Atoi(m)
	if m[0] > '9' {
		month = 1 + slices.IndexFunc(months, func(name string) bool { return strings.EqualFold(name, m) })
	}
	day, _ := strconv.Atoi(d)
	if month < 1 || month > 12 {
		return 0, "", false
	}
	at := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return at.UnixMilli(), rest, at.Day() == day
}

var months = []string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}

// dayParts splits a day into its three parts, of at least a byte each, and the rest.
func dayParts(t string) (first, second, third, rest string, ok bool) {
	n := digits(t)
	switch {
	case n == 8 || n == len("20060102150405") && n == len(t):
		return t[:4], t[4:6], t[6:8], t[8:], true
	case n == 0 || n > 4 || n == 3 || n == len(t) || strings.IndexByte("-./", t[n]) < 0:
		return "", "", "", "", false
	}
	first, separator, t := t[:n], t[n], t[n+1:]
	if n = digits(t); n == 0 {
		for n < len(t) && (t[n]|0x20) >= 'a' && (t[n]|0x20) <= 'z' {
			n++
		}
		if n != 3 {
			return "", "", "", "", false
		}
	} else if n > 2 {
		return "", "", "", "", false
	}
	if n == 0 || n == len(t) || t[n] != separator {
		return "", "", "", "", false
	}
	second, t = t[:n], t[n+1:]
	n = digits(t)
	if len(first) == 4 && (n == 0 || n > 2) || len(first) != 4 && n != 4 && n != 2 {
		return "", "", "", "", false
	}
	return first, second, t[:n], t[n:], true
}

// parseOfDay reads 15:04, 15:04:05, 15:04:05.999, 3:04 PM, 1504, 150405 or 150405999 as milliseconds, and returns what
// follows.
func parseOfDay(t string) (ms int64, whole bool, rest string, ok bool) {
	var hour, minute, second int
	fraction := ""
	n := digits(t)
	switch {
	case (n == 1 || n == 2) && len(t) >= n+3 && t[n] == ':':
		hour, minute, rest = twoDigits(("0" + t[:n])[n-1:]), twoDigits(t[n+1:]), t[n+3:]
		if len(rest) >= 3 && rest[0] == ':' {
			second, rest = twoDigits(rest[1:]), rest[3:]
			if len(rest) > 0 && rest[0] == '.' {
				k := 1 + digits(rest[1:])
				if fraction, rest = rest[1:k], rest[k:]; fraction == "" {
					return 0, false, "", false
				}
			}
		}
	case n == 4 || n == 6 || n == 9:
		hour, minute, rest = twoDigits(t), twoDigits(t[2:]), t[n:]
		if n > 4 {
			second, fraction = twoDigits(t[4:]), t[6:n]
		}
	default:
		return 0, false, "", false
	}
	rest = strings.TrimLeft(rest, " ")
	if half := strings.ToUpper(rest[:min(len(rest), 2)]); half == "AM" || half == "PM" {
		if hour < 1 || hour > 12 {
			return 0, false, "", false
		}
		if hour %= 12; half == "PM" {
			hour += 12
		}
		rest = rest[2:]
	}
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, false, "", false
	}
	milli, _ := strconv.Atoi((fraction + "000")[:3])
	return int64(hour*3600+minute*60+second)*1000 + int64(milli), len(strings.TrimRight(fraction, "0")) <= 3, rest, true
}

// parseZone reads a zone as milliseconds ahead of UTC.
func parseZone(z string) (ahead int64, ok bool) {
	z = strings.TrimSpace(z)
	if z == "Z" {
		return 0, true
	}
	for _, utc := range []string{"UTC", "GMT"} {
		if after, found := strings.CutPrefix(z, utc); found {
			if z = after; z == "" {
				return 0, true
			}
		}
	}
	switch {
	case len(z) == 6 && z[3] == ':':
		z = z[:3] + z[4:]
	case len(z) == 3:
		z += "00"
	}
	if len(z) != 5 || z[0] != '+' && z[0] != '-' {
		return 0, false
	}
	hours, minutes := twoDigits(z[1:]), twoDigits(z[3:])
	if hours < 0 || hours > 14 || minutes < 0 || minutes > 59 {
		return 0, false
	}
	ahead = int64(hours*60+minutes) * market.MinuteMS
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

// digits returns the number of digits at the start.
func digits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

func allDigits(s string) bool { return digits(s) == len(s) }

// utc formats a time for a message.
func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z") }
