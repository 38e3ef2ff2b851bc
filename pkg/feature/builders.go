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
	// DefaultMaxSymbols is the default of BuildersOptions.MaxSymbols, which needs about 25 MB.
	DefaultMaxSymbols = 256
	// MaxSymbolBytes is the longest symbol name.
	MaxSymbolBytes = 64
)

// The errors of [Builders].
var (
	// ErrTooManySymbols is returned for a new symbol above the limit.
	ErrTooManySymbols = errors.New("too many symbols")
	// ErrSymbol is returned for a name that is empty or longer than MaxSymbolBytes.
	ErrSymbol = errors.New("not a symbol")
)

// BuildersOptions bound [Builders]. The zero value is ready for use.
type BuildersOptions struct {
	// Live applies to every symbol.
	Live LiveOptions
	// MaxSymbols is the largest number of symbols, about 100 kB each. 0 means DefaultMaxSymbols.
	MaxSymbols int
	// OnMinute, if set, is called after every grid minute of a symbol, including filled ones, in order. It must not block, and
	// must not call the Builders.
	OnMinute func(symbol string, m Minute)
}

// Minute is a grid minute.
type Minute struct {
	// End is its end in Unix milliseconds UTC.
	End int64
	// High and Low are its highest and lowest mid, SigmaRef is sigma_ref at its end.
	High, Low, SigmaRef float64
}

func (o *BuildersOptions) validate() error {
	if o.MaxSymbols < 0 {
		return fmt.Errorf("max symbols %d: want 0 (%d) or more", o.MaxSymbols, DefaultMaxSymbols)
	}
	if o.MaxSymbols == 0 {
		o.MaxSymbols = DefaultMaxSymbols
	}
	return nil
}

// Builders holds one [Live] per symbol. It is safe for concurrent use. Observations of different symbols do not wait
// for each other, unless a symbol is new.
type Builders struct {
	opts   BuildersOptions
	counts [noteEnd]atomic.Uint64

	mu      sync.RWMutex
	symbols map[string]*page
}

// page is the state of one symbol.
type page struct {
	mu   sync.Mutex
	live *Live
}

// NewBuilders returns Builders without any symbol.
func NewBuilders(opts BuildersOptions) (*Builders, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Builders{opts: opts, symbols: map[string]*page{}}, nil
}

// Observe takes the next quote of a symbol. A symbol is added by its first acceptable quote. The errors are
// [ErrTooManySymbols] and [ErrSymbol]; the note is then meaningless and nothing is counted.
func (b *Builders) Observe(symbol string, q market.Quote) (Note, error) {
	p := b.page(symbol)
	if p == nil {
		note := b.opts.Live.judge(&q, b.opts.Live.latest())
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

// page returns the page of the symbol, or nil.
func (b *Builders) page(symbol string) *page {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.symbols[symbol]
}

// admit adds a page for a new symbol. If its first observation cannot be taken, admit only counts it.
func (b *Builders) admit(symbol string, first Note) (*page, error) {
	if err := checkSymbol(symbol); err != nil {
		return nil, err
	}
	if !first.Taken() {
		b.counts[first].Add(1)
		return nil, nil
	}
	live := NewLive(b.opts.Live)
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.symbols[symbol]; p != nil { // another goroutine added it first
		return p, nil
	}
	if len(b.symbols) >= b.opts.MaxSymbols {
		return nil, fmt.Errorf("symbol %q: %w: the limit is %d", symbol, ErrTooManySymbols, b.opts.MaxSymbols)
	}
	return b.add(strings.Clone(symbol), live), nil // the name may share the memory of a large message
}

// add adds a page. The caller holds the lock, or is alone.
func (b *Builders) add(symbol string, live *Live) *page {
	if b.opts.OnMinute != nil {
		live.watch(func(m Minute) { b.opts.OnMinute(symbol, m) })
	}
	p := &page{live: live}
	b.symbols[symbol] = p
	return p
}

func checkSymbol(symbol string) error {
	if symbol == "" || len(symbol) > MaxSymbolBytes {
		return fmt.Errorf("symbol of %d bytes: %w: want 1 to %d", len(symbol), ErrSymbol, MaxSymbolBytes)
	}
	return nil
}

// Vector returns [Live.Vector] of the symbol. For an unknown symbol every feature except bias is undefined.
func (b *Builders) Vector(symbol string, s *Schema, dst []float64) (asOf int64, ready bool) {
	p := b.page(symbol)
	if p == nil {
		return 0, nothing.Vector(s, dst)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live.Vector(s, dst)
}

// nothing is an empty builder. Never push to it.
var nothing = NewBuilder()

// Readiness returns [Live.Readiness] of the symbol.
func (b *Builders) Readiness(symbol string, s *Schema) string {
	p := b.page(symbol)
	if p == nil {
		return nothing.Readiness(s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live.Readiness(s)
}

// Forget drops a symbol and all its state, and reports whether the symbol was known.
func (b *Builders) Forget(symbol string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.symbols[symbol]
	delete(b.symbols, symbol)
	return ok
}

// Feed describes how recent observations of a symbol were judged.
type Feed struct {
	Symbol string
	// Refused is how many observations in a row were left out, and Note is the reason for the last of them. Waiting
	// reports whether one of them waits for a second that agrees.
	Refused uint64
	Note    Note
	Waiting bool
}

// Refusing returns the symbols whose latest observation was left out, sorted.
func (b *Builders) Refusing() []Feed {
	var feeds []Feed
	for _, symbol := range b.Symbols() {
		p := b.page(symbol)
		if p == nil {
			continue
		}
		f := Feed{Symbol: symbol}
		p.mu.Lock()
		f.Refused, f.Note, f.Waiting = p.live.Refused()
		p.mu.Unlock()
		if f.Refused > 0 {
			feeds = append(feeds, f)
		}
	}
	return feeds
}

// Symbols returns the sorted symbols.
func (b *Builders) Symbols() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Sorted(maps.Keys(b.symbols))
}

// Count returns how many observations of all symbols had the note.
func (b *Builders) Count(n Note) uint64 {
	if n >= noteEnd {
		return 0
	}
	return b.counts[n].Load()
}
