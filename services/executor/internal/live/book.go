// Package live computes the features of every symbol from its quotes, and keeps them across restarts.
package live

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
)

// Book is a [feature.Builders] whose counts begin at 0 with the process, like Prometheus counters. Counts restored from a
// snapshot would look like new quotes.
type Book struct {
	*feature.Builders

	logger *slog.Logger
	// before are the counts of the snapshot.
	before map[feature.Note]uint64
	// tooMany counts the quotes for symbols over the limit, resets counts the symbols that were reset.
	tooMany, resets atomic.Uint64
}

// NewBook returns a book that continues from the features. It logs the first symbol over the limit.
func NewBook(features *feature.Builders, logger *slog.Logger) *Book {
	b := &Book{Builders: features, logger: logger, before: map[feature.Note]uint64{}}
	for _, n := range feature.Notes() {
		b.before[n] = features.Count(n)
	}
	return b
}

// Observe calls [feature.Builders.Observe] and counts the quotes for symbols over the limit.
func (b *Book) Observe(symbol string, q market.Quote) (feature.Note, error) {
	note, err := b.Builders.Observe(symbol, q)
	if errors.Is(err, feature.ErrTooManySymbols) && b.tooMany.Add(1) == 1 {
		b.logger.Warn("too many symbols: the quotes of this and every further symbol are ignored", "error", err)
	}
	return note, err
}

// Count returns how many quotes since the start had that note.
func (b *Book) Count(n feature.Note) uint64 { return b.Builders.Count(n) - b.before[n] }

// Reset drops a symbol and its features, and reports whether the symbol was known.
func (b *Book) Reset(symbol string) bool {
	known := b.Forget(symbol)
	if known {
		b.resets.Add(1)
	}
	return known
}

// lockedAfter is how many consecutive quotes must be ignored before a symbol counts as locked. A single jump in time causes
// fewer.
const lockedAfter = 10

// blocked returns the symbols whose quotes are all ignored, and those with a quote that waits for a second one to confirm it.
func (b *Book) blocked() (locked, waiting []feature.Feed) {
	for _, f := range b.Refusing() {
		if f.Refused >= lockedAfter {
			locked = append(locked, f)
		} else if f.Waiting {
			waiting = append(waiting, f)
		}
	}
	return locked, waiting
}

// named is how many symbols of each kind are listed.
const named = 3

// Trouble lists the symbols that are locked or waiting. It is empty if there are none.
func (b *Book) Trouble() string {
	locked, waiting := b.blocked()
	var all []string
	if len(locked) > 0 {
		all = append(all, "every quote is ignored for "+namesOf(locked))
	}
	if len(waiting) > 0 {
		all = append(all, "a second quote must confirm a jump in time for "+namesOf(waiting))
	}
	return strings.Join(all, "; ")
}

func namesOf(feeds []feature.Feed) string {
	var names []string
	for _, f := range feeds[:min(len(feeds), named)] {
		names = append(names, fmt.Sprintf("%q (the last %d: %s)", f.Symbol, f.Refused, f.Note))
	}
	more := ""
	if n := len(feeds) - named; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ") + more
}

// changes returns how many quotes and resets have changed the features since the start.
func (b *Book) changes() uint64 { return b.taken() + b.resets.Load() }

// taken returns how many quotes have changed the features since the start.
func (b *Book) taken() (n uint64) {
	for _, note := range feature.Notes() {
		if note.Taken() {
			n += b.Count(note)
		}
	}
	return n
}
