package fleet

import (
	"errors"
	"maps"
	"slices"
)

// Span is what executors have counted from a first to the newest reading of each. The zero value has no readings.
type Span struct {
	first, last map[string]Counters
}

// Begin takes the readings as the first.
func (s *Span) Begin(all []Counters) {
	s.first, s.last = make(map[string]Counters), make(map[string]Counters)
	for _, c := range all {
		s.first[c.Executor], s.last[c.Executor] = c, c
	}
}

// Extend takes the readings as the newest, and returns a [*RestartError] if an executor restarted or has no first reading.
// A reading that contradicts an earlier one is not taken, and is an [ErrContradicts].
func (s *Span) Extend(all []Counters) error {
	var wrong []error
	for _, c := range all {
		before, ok := s.last[c.Executor]
		if !ok {
			return &RestartError{c.Executor, "it was not there at the first reading"}
		}
		_, err := Delta(before, c, Refuse)
		if restart := (*RestartError)(nil); errors.As(err, &restart) {
			return err
		}
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		s.last[c.Executor] = c
	}
	return errors.Join(wrong...)
}

// Rebase takes the readings as the newest. A reading that does not continue an earlier one is a first reading.
func (s *Span) Rebase(all []Counters) {
	if s.first == nil {
		s.Begin(nil)
	}
	for _, c := range all {
		if before, ok := s.last[c.Executor]; !ok || Continues(before, c) != nil {
			s.first[c.Executor] = c
		}
		s.last[c.Executor] = c
	}
}

// Absent returns an executor that has a first reading and none in all; empty if there is none.
func (s *Span) Absent(all []Counters) string {
	for _, name := range slices.Sorted(maps.Keys(s.first)) {
		if !slices.ContainsFunc(all, func(c Counters) bool { return c.Executor == name }) {
			return name
		}
	}
	return ""
}

// Sum adds up the counts of all executors. An executor without a newer reading counts up to its last one.
func (s *Span) Sum() Sum {
	sum := Sum{}
	for _, name := range slices.Sorted(maps.Keys(s.first)) {
		// Rebase is for readings that continue each other: it never applies here.
		d, _ := Delta(s.first[name], s.last[name], Rebase)
		sum.Add(name, d)
	}
	return sum
}
