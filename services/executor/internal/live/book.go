// Package live keeps the features of every symbol as its quotes come, over restarts too.
package live

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
)

// Book is a [feature.Book] that counts from the start of the process, as counters of Prometheus do: one that went on
// from a snapshot, and so began below what was scraped last, would be taken for that many new quotes.
type Book struct {
	*feature.Book

	logger *slog.Logger
	// before is what the snapshot had counted already.
	before map[feature.Note]uint64
	// crowded counts the quotes of symbols that there was no room for.
	crowded atomic.Uint64
}

// NewBook returns a book that goes on from the features. It tells the logger when a symbol finds no room.
func NewBook(features *feature.Book, logger *slog.Logger) *Book {
	b := &Book{Book: features, logger: logger, before: map[feature.Note]uint64{}}
	for _, n := range feature.Notes() {
		b.before[n] = features.Count(n)
	}
	return b
}

// Observe is that of [feature.Book].
func (b *Book) Observe(symbol string, q market.Quote) (feature.Note, error) {
	note, err := b.Book.Observe(symbol, q)
	if errors.Is(err, feature.ErrTooManySymbols) && b.crowded.Add(1) == 1 {
		b.logger.Warn("a symbol finds no room: its quotes are left out, as those of every new one will be", "error", err)
	}
	return note, err
}

// Count is how many quotes since the start had that note.
func (b *Book) Count(n feature.Note) uint64 { return b.Book.Count(n) - b.before[n] }

// taken is how many quotes since the start have changed the features.
func (b *Book) taken() (n uint64) {
	for _, note := range feature.Notes() {
		if note.Taken() {
			n += b.Count(note)
		}
	}
	return n
}
