package chaos

import (
	"fmt"
	"sync"
)

// maxNotes is the number of wrong answers described.
const maxNotes = 10

// Calls counts the calls of one kind by result.
type Calls struct {
	// Answered were right, Wrong differ in at least one bit, Lost were not answered. Refused ended with UNAVAILABLE, or with
	// their connection or stream, while the executor was draining or down, and were retried. If executor counted such a call,
	// it has more requests than answers, and the request is unaccounted.
	Answered int64 `json:"answered"`
	Wrong    int64 `json:"wrong"`
	Lost     int64 `json:"lost"`
	Refused  int64 `json:"refused"`
	// Shadows counts the answers with a correct shadow score.
	Shadows int64 `json:"shadows"`
	// Model counts the answers that a model decided.
	Model int64 `json:"model,omitempty"`
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
