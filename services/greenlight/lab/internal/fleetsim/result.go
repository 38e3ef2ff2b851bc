package fleetsim

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/table"
)

// Result is the result of one schedule, or of many.
type Result struct {
	Git       string  `json:"git,omitempty"`
	FirstSeed uint64  `json:"first_seed"`
	Seeds     int     `json:"seeds"`
	Executors int     `json:"executors"`
	LeaseS    float64 `json:"lease_s"`
	// TookS is the duration of the run, SimulatedS the total length of the schedules.
	TookS      float64 `json:"took_s"`
	SimulatedS float64 `json:"simulated_s"`
	// Records and Admissions count those issued, Reports those published. Given counts the messages that executors were given,
	// Forgeries those that nobody has issued. Obeyed counts how often an executor obeyed another record. Checks counts the
	// checks of shares.
	Records    int `json:"records"`
	Admissions int `json:"admissions"`
	Reports    int `json:"reports"`
	Given      int `json:"given"`
	Forgeries  int `json:"forgeries"`
	Obeyed     int `json:"obeyed"`
	Checks     int `json:"checks"`
	// ReachedS is the longest time that all executors took to reach the share while nothing went wrong.
	ReachedS   float64     `json:"reached_s"`
	Kinds      []*Kind     `json:"kinds"`
	Violations []Violation `json:"violations"`
	// Schedule is the schedule of the seed; empty for several.
	Schedule []string `json:"-"`

	seed uint64
}

// Kind is the result of the events of one kind.
type Kind struct {
	Name   string `json:"name"`
	Events int    `json:"events"`
	// Zeros counts how often an executor went to 0 % after such an event and before the next.
	Zeros int `json:"zeros"`
	// ToZero is the maximum age, at those times, of the last renewal that the executor was given, in seconds.
	ToZero     float64 `json:"to_zero_s"`
	Violations int     `json:"violations"`
}

// Violation is a rule that an executor has broken.
type Violation struct {
	Seed     uint64 `json:"seed"`
	Rule     Rule   `json:"rule"`
	Executor string `json:"executor"`
	// After is the kind of the last event, At is in seconds since the start.
	After string  `json:"after"`
	At    float64 `json:"at_s"`
	What  string  `json:"what"`
	// Schedule lists the events.
	Schedule []string `json:"schedule"`
}

func newResult() *Result { return &Result{Violations: []Violation{}} }

func (r *Result) kind(name string) *Kind {
	for _, k := range r.Kinds {
		if k.Name == name {
			return k
		}
	}
	k := &Kind{Name: name}
	r.Kinds = append(r.Kinds, k)
	return k
}

// add adds the result of another schedule.
func (r *Result) add(o *Result) {
	r.Seeds++
	r.SimulatedS += o.SimulatedS
	r.Records += o.Records
	r.Admissions += o.Admissions
	r.Reports += o.Reports
	r.Given += o.Given
	r.Forgeries += o.Forgeries
	r.Obeyed += o.Obeyed
	r.Checks += o.Checks
	r.ReachedS = max(r.ReachedS, o.ReachedS)
	for _, k := range o.Kinds {
		sum := r.kind(k.Name)
		sum.Events += k.Events
		sum.Zeros += k.Zeros
		sum.ToZero = max(sum.ToZero, k.ToZero)
		sum.Violations += k.Violations
	}
	for _, v := range o.Violations {
		v.Schedule = o.Schedule
		r.Violations = append(r.Violations, v)
	}
}

// Table prints the result.
func (r *Result) Table(w io.Writer) error {
	kinds := slices.Clone(r.Kinds)
	slices.SortFunc(kinds, func(a, b *Kind) int { return cmp.Compare(a.Name, b.Name) })
	t := table.New("event", ">events", ">went to 0 %", ">after the last renewal", ">violations")
	events := 0
	for _, k := range kinds {
		events += k.Events
		zero := "-"
		if k.Zeros > 0 {
			zero = fmt.Sprintf("%.2f s", k.ToZero)
		}
		t.Row(k.Name, k.Events, k.Zeros, zero, k.Violations)
	}
	if err := t.Text(w); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, `
%d schedules from seed %d, each %d executors and a lease of %g s: %d events in %.0f s, %d checks
%d records and %d admissions issued, %d messages given to executors, %d of them forged; %d times a record was obeyed
all executors reached the share within %.1f s whenever nothing went wrong
violations: %d
`, r.Seeds, r.FirstSeed, r.Executors, r.LeaseS, events, r.SimulatedS, r.Checks, r.Records, r.Admissions, r.Given, r.Forgeries, r.Obeyed,
		r.ReachedS, len(r.Violations)); err != nil {
		return err
	}
	for i, v := range r.Violations {
		if i == maxShown {
			_, err := fmt.Fprintf(w, "\n%d more\n", len(r.Violations)-i)
			return err
		}
		if _, err := fmt.Fprintf(w, "\nseed %d, %.2f s, %s: %s: %s\n", v.Seed, v.At, v.Executor, v.Rule, v.What); err != nil {
			return err
		}
		for _, line := range v.Schedule {
			if _, err := fmt.Fprintf(w, "  %s\n", line); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxShown bounds the violations that the table shows.
const maxShown = 5
