package marketfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Options controls reading. The zero value reads a complete known data set strictly.
type Options struct {
	// Symbol picks the instrument if a folder has several: its symbol, its folder, or one of the names listed in the
	// error. Case does not matter. For a single file it becomes the symbol of the series.
	Symbol string
	// MaxBadRows is how many bad rows may be left out before reading fails. Default 0.
	MaxBadRows int
	// TradesOnly reads the trades of a LEAN folder that also has quotes. The default is the quotes, with the volume of
	// the trades.
	TradesOnly bool
	// UTCOffset is how far the file's clock is ahead of UTC, for example -5h; whole minutes, at most 14 h. It applies
	// to every time without a zone, epochs included. nil means -5h for LEAN zips in a folder named fxcm, otherwise 0.
	UTCOffset *time.Duration
	// Columns names the columns of tables by what they mean: time, date, open, high, low, close, bid_open to bid_low, bid,
	// ask_open to ask_low, ask, bid_size, ask_size, volume, symbol. A column is named as in the header, or by its number
	// from 1. The others are found as usual.
	Columns map[string]string
	// MaxBytes limits the decompressed text of one file. 0 means 4 GiB.
	MaxBytes int64
	// Progress, which may be nil, is called from the reading goroutine with the number of stored bytes read so far.
	Progress func(done, total int64)
}

func (o Options) validate() error {
	switch {
	case o.MaxBadRows < 0:
		return fmt.Errorf("max bad rows %d: want 0 or more", o.MaxBadRows)
	case o.MaxBytes < 0:
		return fmt.Errorf("max bytes %d: want 0 (4 GiB) or more", o.MaxBytes)
	case o.UTCOffset != nil && (o.UTCOffset.Abs() > 14*time.Hour || *o.UTCOffset%time.Minute != 0):
		return fmt.Errorf("UTC offset %v: want whole minutes, at most 14h", *o.UTCOffset)
	}
	return CheckColumns(o.Columns)
}

// clock returns the clock of a data set that is usually ahead of UTC by the given duration.
func (o Options) clock(usual time.Duration) clock {
	if o.UTCOffset != nil {
		usual = *o.UTCOffset
	}
	return clock{ahead: usual.Milliseconds()}
}

// CheckColumns returns an error if a key of Options.Columns is not known.
func CheckColumns(columns map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(columns)) {
		names := make([]string, roles)
		for r := range names {
			names[r] = known[r].name
		}
		switch {
		case !slices.Contains(names, key):
			return fmt.Errorf("columns: unknown key %q: want one of %s", key, strings.Join(names, ", "))
		case columns[key] == "":
			return fmt.Errorf("columns: %s: want the name or the number of a column", key)
		}
	}
	return nil
}
