package faults

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Schema names the kind of the JSON.
const Schema = "greenlight/faults/v2"

// Result is the fault matrix.
type Result struct {
	Schema string `json:"schema"`
	// Runs lists the runs that measured it: several if a run was resumed.
	Runs []RunOf `json:"runs"`
	// ClientPerS is the throughput of one gRPC client of the executor without a shadow, in decisions per second; the fraction
	// Share of it was offered. Rounds is the number of slices of SliceS seconds per executor and fault.
	ClientPerS float64   `json:"client_per_s"`
	Share      float64   `json:"share"`
	Rounds     int       `json:"rounds"`
	SliceS     float64   `json:"slice_s"`
	Rows       []Row     `json:"rows"`
	Hang       *Hang     `json:"hang,omitempty"`
	Overload   *Overload `json:"overload,omitempty"`
}

// RunOf is one run of the command.
type RunOf struct {
	Time      time.Time   `json:"time"`
	DurationS float64     `json:"duration_s"`
	Command   string      `json:"command"`
	Git       string      `json:"git"`
	Machine   rig.Machine `json:"machine"`
}

// The targets.
const (
	maxRatio    = 1.10
	maxRecovery = 30.0 // s
)

// add adds a row, in the order of the faults.
func (res *Result) add(row Row) {
	place := func(r Row) int { return slices.IndexFunc(Faults(), func(f Fault) bool { return f.Name == r.Fault }) }
	res.Rows = append(res.Rows, row)
	slices.SortStableFunc(res.Rows, func(a, b Row) int { return place(a) - place(b) })
}

// Misses describes missed targets.
type Misses []string

// Add adds a target if it is missed.
func (m *Misses) Add(missed bool, format string, args ...any) {
	if missed {
		*m = append(*m, fmt.Sprintf(format, args...))
	}
}

// Missed lists the targets that the row misses.
func (r Row) Missed() (missed Misses) {
	add := missed.Add
	add(r.Lost > 0, "%d decisions lost", r.Lost)
	add(r.Changed > 0, "%d decisions changed", r.Changed)
	add(!r.Identical, "the executors' answers differ")
	add(r.Unaccounted != 0, "%d requests unaccounted for", r.Unaccounted)
	add(r.P99.judge() == gate.Fail, "p99 %.2fx (%.2f..%.2f)", r.P99.Ratio, r.P99.Low, r.P99.High)
	add(r.RecoveryS < 0, "no recovery")
	add(r.RecoveryS > maxRecovery, "recovery took %.1f s", r.RecoveryS)
	return slices.Concat(missed, r.Gate.missed(), r.Before.Grew(r.After))
}

// untested reports whether a fault that should change answers changed none.
func (r Row) untested() bool { return r.Lies != nil && *r.Lies == 0 }

// Missed lists the missed targets, by row.
func (res *Result) Missed() (missed Misses) {
	for _, r := range res.Rows {
		m := r.Missed()
		missed.Add(len(m) > 0, "%s: %s", r.Fault, strings.Join(m, ", "))
	}
	missed = append(missed, res.Overload.missed()...)
	if h := res.Hang; h != nil {
		missed.Add(h.Lost+h.Changed > 0, "hang: %d decisions lost, %d changed", h.Lost, h.Changed)
		missed.Add(!h.Flat(), "hang: memory grew from %s to %s", megabytes(h.First), megabytes(h.Last))
	}
	return missed
}

// inconclusive lists the rows that exceed their target by no more than the noise of the machine.
func (res *Result) inconclusive() (open Misses) {
	for _, r := range res.Rows {
		open.Add(r.P99.judge() == gate.Inconclusive, "%s: p99 %.2fx (%.2f..%.2f)", r.Fault, r.P99.Ratio, r.P99.Low, r.P99.High)
		open.Add(r.untested(), "%s: no shadow met the fault: the breaker was open", r.Fault)
	}
	return append(open, res.Overload.inconclusive()...)
}

// sums adds up all rows and the hang.
func (res *Result) sums() (all, streamed Asked, unaccounted int64) {
	for _, r := range res.Rows {
		all, streamed, unaccounted = all.plus(r.Asked), streamed.plus(r.Streamed), unaccounted+r.Unaccounted
	}
	if h := res.Hang; h != nil {
		all, streamed = all.plus(h.Asked), streamed.plus(h.Streamed)
	}
	return all, streamed, unaccounted
}

// Outcomes formats the non-zero counts, the most frequent first.
func Outcomes(counts map[string]uint64) string {
	var names []string
	for name, n := range counts {
		if n > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if counts[a] != counts[b] {
			return int(counts[b]) - int(counts[a])
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(names, ", ")
}

// tables returns a summary. The JSON has the other figures.
func (res *Result) tables() []*table.Table {
	t := table.New("fault", "requests", "lost or changed", "p99 with / without shadow", "recovery", "verdict")
	for _, r := range res.Rows {
		t.Row(r.summary()...)
	}
	return append([]*table.Table{t}, res.Overload.tables()...)
}

// Table writes the tables for a terminal.
func (res *Result) Table(w io.Writer) error {
	for _, t := range res.tables() {
		if err := t.Text(w); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s\n", strings.Join(res.notes(), "\n"))
	return err
}

func (r Row) summary() []any {
	recovery := "none"
	if r.RecoveryS >= 0 {
		recovery = fmt.Sprintf("%.1f s", r.RecoveryS)
	}
	judged := r.P99.judge()
	switch {
	case len(r.Missed()) > 0:
		judged = gate.Fail
	case r.untested():
		judged = gate.Inconclusive
	}
	return []any{
		r.Fault, r.Requests, r.Lost + r.Changed,
		fmt.Sprintf("%.2fx (%.2f to %.2f)", r.P99.Ratio, r.P99.Low, r.P99.High), recovery, judged,
	}
}

// Markdown writes a summary as a page of the documentation.
func (res *Result) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Faults\n\nWritten by `make faults`. What can go wrong between executor and ml-engine, and how that affects decisions.\n" +
		"Each fault hits a running pair under load; an executor without a shadow runs next to it for comparison.\n" +
		"The JSON, `var/faults.json`, has the rest: outcomes, states of the breaker, memory, goroutines and file descriptors.\n\n")
	for _, t := range res.tables() {
		_ = t.Markdown(&b) // a strings.Builder does not fail
		b.WriteString("\n")
	}
	for _, n := range res.notes() {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// notes returns the sentences below the table.
func (res *Result) notes() []string {
	all, streamed, unaccounted := res.sums()
	right := "the baseline"
	gated := res.gateNotes()
	if gated != nil {
		right = "the score of its decider"
	}
	notes := []string{
		fmt.Sprintf("%d decisions in all: %d lost, %d changed; %d without exactly one outcome. Every answer was compared bit for bit with %s.",
			all.Requests, all.Lost, all.Changed, unaccounted, right),
		fmt.Sprintf("%d of them over streams: %d lost, %d changed. A decision without an answer within %v is lost. %d answers came after more than %v: on a busy machine both executors have late answers.",
			streamed.Requests, streamed.Lost, streamed.Changed, CallTimeout, all.Late, lateAfter),
		fmt.Sprintf("p99 covers all slices of a side: %d slices of %.0f ms, alternating between the sides. The load is an open loop of %.0f decisions a second, %.0f %% of what one gRPC client can get. The ratio has its 99 %% interval, from a bootstrap of blocks of slices. The target is %.2fx: PASS if the ratio is not above it, FAIL if the whole interval is, otherwise INCONCLUSIVE. The row without a fault shows the noise of the machine.",
			res.Rounds, 1e3*res.SliceS, res.Share*res.ClientPerS, 100*res.Share, maxRatio),
		fmt.Sprintf("Recovery is the time from the end of the fault until the breaker is closed and shadows are compared as before. The target is %.0f s.", maxRecovery),
	}
	notes = append(notes, gated...)
	notes = append(notes, res.Hang.notes()...)
	notes = append(notes, res.Overload.notes()...)
	missed := "No target was missed."
	if m := res.Missed(); len(m) > 0 {
		missed = "Missed: " + strings.Join(m, "; ") + "."
	}
	notes = append(notes, missed)
	if open := res.inconclusive(); len(open) > 0 {
		notes = append(notes, "Inconclusive: "+strings.Join(open, "; ")+".")
	}
	for _, r := range res.Runs {
		other := "other load unknown"
		if r.Machine.OtherLoad >= 0 {
			other = fmt.Sprintf("%.0f %% busy with other work", 100*r.Machine.OtherLoad)
		}
		notes = append(notes, fmt.Sprintf("Run: %s, commit %s, at %s, in %.0f s, on %d CPUs (%s), %s/%s, %s. The round number seeds the times of calls; the faults themselves have no seed.",
			r.Command, r.Git, r.Time.Format(time.DateTime+" MST"), r.DurationS, r.Machine.CPUs, other, r.Machine.OS, r.Machine.Arch, r.Machine.Go))
	}
	return notes
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
