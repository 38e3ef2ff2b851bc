package fleet

import (
	"errors"
	"maps"
	"slices"
)

// Span is what executors have counted between the first and the newest reading of each. The zero value has no readings.
type Span struct {
	first, last map[string]Counters
	// before is what earlier processes of an executor counted: see [Span.Join].
	before map[string]*Sum
}

// Begin takes the readings as the first ones.
func (s *Span) Begin(all []Counters) {
	s.first, s.last, s.before = make(map[string]Counters), make(map[string]Counters), make(map[string]*Sum)
	for _, c := range all {
		s.first[c.Executor], s.last[c.Executor] = c, c
	}
}

// Extend takes the readings as the newest, and returns a [*RestartError] if an executor restarted or has no first reading.
// It does not take a reading that contradicts an earlier one, and returns an [ErrContradicts].
func (s *Span) Extend(all []Counters) error { return s.extend(all, false) }

// Join is [Span.Extend] for executors that come and go. An executor without a first reading, or that has restarted, counts
// from this reading. The counts of its former process stay.
func (s *Span) Join(all []Counters) error { return s.extend(all, true) }

func (s *Span) extend(all []Counters, join bool) error {
	var wrong []error
	for _, c := range all {
		before, known := s.last[c.Executor]
		var err error = &RestartError{c.Executor, "it was not present at the first reading"}
		if known {
			err = Continues(before, c)
		}
		switch begins := errors.As(err, new(*RestartError)); {
		case begins && !join:
			return err
		case begins:
			if known {
				s.leave(c.Executor)
			}
			s.first[c.Executor] = c
		case err != nil:
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

// Leave stops counting an executor: its next reading in [Span.Join] is a first reading.
func (s *Span) Leave(executor string) {
	if _, ok := s.last[executor]; ok {
		s.leave(executor)
		delete(s.first, executor)
		delete(s.last, executor)
	}
}

// leave stores what the process of an executor has counted.
func (s *Span) leave(executor string) {
	if s.before[executor] == nil {
		s.before[executor] = &Sum{}
	}
	// The two readings are always of one process, so the rule does not matter.
	d, _ := Delta(s.first[executor], s.last[executor], Rebase)
	s.before[executor].Add(executor, d)
}

// Absent returns an executor that has a first reading but none in all; empty if there is none.
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
	for _, one := range s.Each() {
		sum.Add(one.Executor, one.Counts)
	}
	return sum
}

// Share has the counts of one executor.
type Share struct {
	Executor string
	Counts
}

// Each returns the counts of every executor, ordered by name.
func (s *Span) Each() []Share {
	names := make(map[string]bool, len(s.first))
	for name := range s.first {
		names[name] = true
	}
	for name := range s.before {
		names[name] = true
	}
	all := make([]Share, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		sum := Sum{}
		if before := s.before[name]; before != nil {
			sum.Add(name, before.Counts)
		}
		if first, ok := s.first[name]; ok {
			// The two readings are always of one process, so the rule does not matter.
			d, _ := Delta(first, s.last[name], Rebase)
			sum.Add(name, d)
		}
		if sum.LatencyMissing != "" {
			sum.Latency = Histogram{}
		}
		all = append(all, Share{name, sum.Counts})
	}
	return all
}
