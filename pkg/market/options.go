package market

import (
	"fmt"
	"time"
)

// ReadOptions says how to read. The zero value reads a whole known set strictly.
type ReadOptions struct {
	// Symbol picks the instrument when a folder has several: its symbol, its folder, or one of the names of the error
	// that says so. Case does not matter. For a single file it is the symbol that the series gets.
	Symbol string
	// MaxBadRows is how many bad rows may be left out; one more is the error. Default 0.
	MaxBadRows int
	// Crossed says what a row whose bid is above its ask is. Default CrossedBySet.
	Crossed CrossedPolicy
	// TradesOnly reads the trades of a LEAN folder that has quotes as well. The default is the quotes, with the volume
	// of the trades.
	TradesOnly bool
	// UTCOffset is what the clock of the file is ahead of UTC, for example -5h; whole minutes, at most 14 h. It holds for
	// every time without a zone of its own, epochs included. nil is -5h for LEAN zips in a folder named fxcm, else 0.
	UTCOffset *time.Duration
	// MaxBytes is how much text one file may have once it is decompressed. 0 is 4 GiB.
	MaxBytes int64
	// Progress, which may be nil, is told how many of the stored bytes have been read, from the goroutine that reads.
	Progress func(done, total int64)
}

// DefaultMaxBytes is the default of ReadOptions.MaxBytes.
const DefaultMaxBytes = 4 << 30

// CrossedPolicy says what to do with a row whose bid is above its ask.
type CrossedPolicy int

const (
	// CrossedBySet keeps such rows of FXCM, whose sides are recorded independently (1 % of the minutes of
	// gbpusd-fxcm-1m-bidask, 6 % of the minutes and 11 % of the ticks of eurusd-quotes-2014-05/fxcm), and of every pair of
	// a bid and an ask file; from others they are bad rows.
	CrossedBySet CrossedPolicy = iota
	// CrossedBad makes every such row a bad row.
	CrossedBad
	// CrossedKeep keeps all of them. They are counted in Series.Crossed.
	CrossedKeep
)

func (o ReadOptions) validate() error {
	switch {
	case o.MaxBadRows < 0:
		return fmt.Errorf("max bad rows %d: expected 0 or more", o.MaxBadRows)
	case o.MaxBytes < 0:
		return fmt.Errorf("max bytes %d: expected 0 (4 GiB) or more", o.MaxBytes)
	case o.Crossed < CrossedBySet || o.Crossed > CrossedKeep:
		return fmt.Errorf("crossed policy %d: expected 0 to 2", o.Crossed)
	case o.UTCOffset != nil && (o.UTCOffset.Abs() > 14*time.Hour || *o.UTCOffset%time.Minute != 0):
		return fmt.Errorf("UTC offset %v: expected whole minutes, at most 14h", *o.UTCOffset)
	}
	return nil
}

func (o ReadOptions) maxBytes() int64 {
	if o.MaxBytes == 0 {
		return DefaultMaxBytes
	}
	return o.MaxBytes
}

// clock is that of a set whose clock is usually ahead of UTC by the given duration.
func (o ReadOptions) clock(usual time.Duration) clock {
	if o.UTCOffset != nil {
		usual = *o.UTCOffset
	}
	return clock{ahead: usual.Milliseconds()}
}

// keepCrossed says whether crossed rows are kept in a set of which they are or are not a known trait.
func (o ReadOptions) keepCrossed(known bool) bool {
	return o.Crossed == CrossedKeep || o.Crossed == CrossedBySet && known
}
