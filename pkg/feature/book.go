package feature

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

const (
	// DefaultMaxSymbols is the default of BookOptions.MaxSymbols: about 25 MB.
	DefaultMaxSymbols = 256
	// MaxSymbolBytes is the longest name of a symbol.
	MaxSymbolBytes = 64
)

// The errors of a [Book].
var (
	// ErrTooManySymbols is that of a new symbol beyond the bound.
	ErrTooManySymbols = errors.New("too many symbols")
	// ErrSymbol is that of a name that is empty or longer than MaxSymbolBytes.
	ErrSymbol = errors.New("not a symbol")
)

// BookOptions bound a [Book]. The zero value is ready for use.
type BookOptions struct {
	// Live is for every symbol.
	Live LiveOptions
	// MaxSymbols is how many symbols the book holds, about 100 kB each. 0 is DefaultMaxSymbols.
	MaxSymbols int
}

func (o *BookOptions) validate() error {
	if o.MaxSymbols < 0 {
		return fmt.Errorf("max symbols %d: expected 0 (%d) or more", o.MaxSymbols, DefaultMaxSymbols)
	}
	if o.MaxSymbols == 0 {
		o.MaxSymbols = DefaultMaxSymbols
	}
	return o.Live.validate()
}

// Book is a [Live] per symbol. It is safe for concurrent use; observations of different symbols do not wait for each
// other, but for a new symbol.
type Book struct {
	opts   BookOptions
	counts [noteEnd]atomic.Uint64

	mu      sync.RWMutex
	symbols map[string]*page
}

// page is one symbol of a book.
type page struct {
	mu   sync.Mutex
	live *Live
}

// NewBook returns an empty book.
func NewBook(opts BookOptions) (*Book, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Book{opts: opts, symbols: map[string]*page{}}, nil
}

// Observe takes the next quote of a symbol. A symbol gets its place with its first quote that can be taken. The errors
// are [ErrTooManySymbols] and [ErrSymbol]; the note is of no account then, and nothing is counted.
func (b *Book) Observe(symbol string, q market.Quote) (Note, error) {
	p := b.page(symbol)
	if p == nil {
		note := b.opts.Live.judge(&observation{quote: q}, b.opts.Live.latest())
		var err error
		if p, err = b.admit(symbol, note); p == nil {
			return note, err
		}
	}
	p.mu.Lock()
	note := p.live.Observe(q)
	p.mu.Unlock()
	b.counts[note].Add(1)
	return note, nil
}

// ObserveBar takes a bar that the source made itself: see [Live.ObserveBar]. For the rest it is like Observe.
func (b *Book) ObserveBar(symbol string, bar market.Bar) (Note, error) {
	p := b.page(symbol)
	if p == nil {
		o := barOf(bar)
		note := b.opts.Live.judge(&o, b.opts.Live.latest())
		var err error
		if p, err = b.admit(symbol, note); p == nil {
			return note, err
		}
	}
	p.mu.Lock()
	note := p.live.ObserveBar(bar)
	p.mu.Unlock()
	b.counts[note].Add(1)
	return note, nil
}

// page is that of the symbol, nil when there is none.
func (b *Book) page(symbol string) *page {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.symbols[symbol]
}

// admit gives a new symbol a page. When its first observation cannot be taken it only counts that.
func (b *Book) admit(symbol string, first Note) (*page, error) {
	if err := checkSymbol(symbol); err != nil {
		return nil, err
	}
	if !first.Taken() {
		b.counts[first].Add(1)
		return nil, nil
	}
	live, err := NewLive(b.opts.Live)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.symbols[symbol]; p != nil { // another was faster
		return p, nil
	}
	if len(b.symbols) >= b.opts.MaxSymbols {
		return nil, fmt.Errorf("symbol %q: %w: the book holds %d", symbol, ErrTooManySymbols, b.opts.MaxSymbols)
	}
	p := &page{live: live}
	b.symbols[strings.Clone(symbol)] = p // the name may be part of a large message
	return p, nil
}

func checkSymbol(symbol string) error {
	if symbol == "" || len(symbol) > MaxSymbolBytes {
		return fmt.Errorf("symbol of %d bytes: %w: expected 1 to %d", len(symbol), ErrSymbol, MaxSymbolBytes)
	}
	return nil
}

// Vector is [Live.Vector] of the symbol. Of a symbol that the book does not hold every feature is undefined but bias.
func (b *Book) Vector(symbol string, s *Schema, dst []float64) (asOf int64, ready bool) {
	p := b.page(symbol)
	if p == nil {
		return 0, nothing.Vector(s, dst)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live.Vector(s, dst)
}

// nothing is an engine that has seen nothing. It must not be pushed to.
var nothing = NewEngine()

// Readiness is [Live.Readiness] of the symbol.
func (b *Book) Readiness(symbol string, s *Schema) Readiness {
	p := b.page(symbol)
	if p == nil {
		return nothing.Readiness(s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live.Readiness(s)
}

// Forget drops a symbol and all that was learned of it, and reports whether the book held it.
func (b *Book) Forget(symbol string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.symbols[symbol]
	delete(b.symbols, symbol)
	return ok
}

// Feed says how the observations of a symbol go.
type Feed struct {
	Symbol string
	// Refused is how many of the last observations in a row were left out, Note why the last of them was. Waiting reports
	// whether one of them waits for a second that agrees.
	Refused uint64
	Note    Note
	Waiting bool
	// Last is the time of the last observation that was taken, Unix milliseconds UTC.
	Last int64
}

// Refusing returns the symbols whose last observation was left out, sorted.
func (b *Book) Refusing() []Feed {
	var feeds []Feed
	for _, symbol := range b.Symbols() {
		p := b.page(symbol)
		if p == nil {
			continue
		}
		f := Feed{Symbol: symbol}
		p.mu.Lock()
		f.Refused, f.Note, f.Waiting = p.live.Refused()
		f.Last = p.live.Last()
		p.mu.Unlock()
		if f.Refused > 0 {
			feeds = append(feeds, f)
		}
	}
	return feeds
}

// Symbols returns the symbols, sorted.
func (b *Book) Symbols() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Sorted(maps.Keys(b.symbols))
}

// Count is how many observations of all symbols had that note.
func (b *Book) Count(n Note) uint64 {
	if n >= noteEnd {
		return 0
	}
	return b.counts[n].Load()
}
