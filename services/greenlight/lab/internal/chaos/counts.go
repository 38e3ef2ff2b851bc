package chaos

import (
	"fmt"
	"sync"
)

// maxNotes is how many of the answers that were wrong are kept in words.
const maxNotes = 10

// Calls is what became of the calls of one kind.
type Calls struct {
	// Answered were right, Wrong not to the last bit, Lost not answered. Refused ended with UNAVAILABLE, or with their
	// connection, while the executor was drained or started again: for a message of a stream that is how the stream ended.
	// They are asked again. An executor that counted one of them has one request more than answers: it is unaccounted.
	Answered int64 `json:"answered"`
	Wrong    int64 `json:"wrong"`
	Lost     int64 `json:"lost"`
	Refused  int64 `json:"refused"`
	// Shadows are the answers with a score of the shadow, each right.
	Shadows int64 `json:"shadows"`
}

// book keeps the counts.
type book struct {
	mu    sync.Mutex
	of    map[string]*Calls
	notes []string
}

func (b *book) add(kind string, change func(*Calls)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of[kind] == nil {
		b.of[kind] = &Calls{}
	}
	change(b.of[kind])
}

func (b *book) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.notes) < maxNotes {
		b.notes = append(b.notes, fmt.Sprintf(format, args...))
	}
}

func (b *book) wrong(kind, format string, args ...any) {
	b.add(kind, func(c *Calls) { c.Wrong++ })
	b.note(kind+": "+format, args...)
}

func (b *book) lost(kind string, err error) {
	b.add(kind, func(c *Calls) { c.Lost++ })
	b.note("%s: lost: %v", kind, err)
}
