// Package live keeps the features of every symbol as its quotes come, over restarts too.
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

// Book is a [feature.Builders] that counts from the start of the process, as counters of Prometheus do: one that went on
// from a snapshot, and so began below what was scraped last, would be taken for that many new quotes.
type Book struct {
	*feature.Builders

	logger *slog.Logger
	// before is what the snapshot had counted already.
	before map[feature.Note]uint64
	// crowded counts the quotes of symbols that there was no room for, resets the symbols that were reset.
	crowded, resets atomic.Uint64
}

// NewBook returns a book that goes on from the features. It tells the logger when a symbol finds no room.
func NewBook(features *feature.Builders, logger *slog.Logger) *Book {
	b := &Book{Builders: features, logger: logger, before: map[feature.Note]uint64{}}
	for _, n := range feature.Notes() {
		b.before[n] = features.Count(n)
	}
	return b
}

// Observe is that of [feature.Builders].
func (b *Book) Observe(symbol string, q market.Quote) (feature.Note, error) {
	note, err := b.Builders.Observe(symbol, q)
	if errors.Is(err, feature.ErrTooManySymbols) && b.crowded.Add(1) == 1 {
		b.logger.Warn("a symbol finds no room: its quotes are left out, as those of every new one will be", "error", err)
	}
	return note, err
}

// Count is how many quotes since the start had that note.
func (b *Book) Count(n feature.Note) uint64 { return b.Builders.Count(n) - b.before[n] }

// Reset drops a symbol and all that was learned of it, and reports whether there was one.
func (b *Book) Reset(symbol string) bool {
	known := b.Forget(symbol)
	if known {
		b.resets.Add(1)
	}
	return known
}

// lockedAfter is how many quotes of a symbol in a row are left out before it counts as locked. A quote that waits is
// followed by one that agrees, or by one that continues the feed.
const lockedAfter = 10

// held returns the symbols of which no quote is taken any more, and those with a quote that waits for a second one.
func (b *Book) held() (locked, waiting []feature.Feed) {
	for _, f := range b.Refusing() {
		if f.Refused >= lockedAfter {
			locked = append(locked, f)
		} else if f.Waiting {
			waiting = append(waiting, f)
		}
	}
	return locked, waiting
}

// named is how many symbols of a kind are named.
const named = 3

// Trouble says which symbols are locked and which wait; nothing when none does.
func (b *Book) Trouble() string {
	locked, waiting := b.held()
	var all []string
	if len(locked) > 0 {
		all = append(all, "no quote is taken of "+namesOf(locked))
	}
	if len(waiting) > 0 {
		all = append(all, "a second quote after a jump in time is needed of "+namesOf(waiting))
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

// changes is how many quotes and resets since the start have changed the features.
func (b *Book) changes() uint64 { return b.taken() + b.resets.Load() }

// taken is how many quotes since the start have changed the features.
func (b *Book) taken() (n uint64) {
	for _, note := range feature.Notes() {
		if note.Taken() {
			n += b.Count(note)
		}
	}
	return n
}
