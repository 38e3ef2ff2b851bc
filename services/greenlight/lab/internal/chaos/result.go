package chaos

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Schema names the kind of the JSON.
const Schema = "greenlight/chaos/v1"

// Result is the result of a run.
type Result struct {
	Schema    string      `json:"schema"`
	Time      time.Time   `json:"time"`
	DurationS float64     `json:"duration_s"`
	Seed      uint64      `json:"seed"`
	Git       string      `json:"git"`
	Machine   rig.Machine `json:"machine"`
	// Schedule is the number of planned events, Events the number that happened.
	Schedule []Event        `json:"schedule"`
	Events   map[string]int `json:"events"`
	// Calls counts calls by kind. Notes describes the first wrong ones.
	Calls map[string]*Calls `json:"calls"`
	Notes []string          `json:"notes,omitempty"`
	// Outcomes counts the outcomes of the steady executor. Requests counts the requests of all processes of both executors.
	// Unaccounted counts requests without exactly one outcome, and the difference to the number sent.
	Outcomes    map[string]uint64 `json:"outcomes"`
	Requests    uint64            `json:"requests"`
	Unaccounted int64             `json:"unaccounted"`
	Lives       int               `json:"lives"`
	Breaker     faults.Timeline   `json:"breaker"`
	// Recovered reports whether, at the end, the breaker was closed and shadows were compared.
	Recovered bool `json:"recovered"`
	// Early and Late are the medians of the steady executor's resources in the second and the last fifth of the run, Peak is
	// the maximum.
	Early faults.Resources `json:"early"`
	Late  faults.Resources `json:"late"`
	Peak  faults.Resources `json:"peak"`
}

// result returns the result. Call it after the quiet time.
func (r *run) result(ctx context.Context, watch rig.Watch) (*Result, error) {
	res := &Result{
		Schema: Schema, Time: r.start.UTC(), DurationS: time.Since(r.start).Seconds(), Seed: r.opts.Seed,
		Machine: r.stage.Machine(watch), Schedule: Schedule(r.opts.Seed, r.opts.Duration), Events: r.counts, Calls: r.book.of,
		Breaker: r.breaks,
	}
	res.Recovered = r.steady.AwaitShadow(ctx) == nil
	counts, err := r.steady.Settle(ctx)
	if err != nil {
		return nil, err
	}
	res.Outcomes = counts.Outcomes
	if err := r.second.end(); err != nil {
		return nil, err
	}
	res.Lives = len(r.second.ended)
	answered, lost := r.asked(predicts, decides, withs, facades)
	res.Requests = counts.Requests
	res.Unaccounted = distance(counts.Requests, counts.Ended(), 0) + distance(counts.Requests, uint64(r.steady.Sent())+answered, lost)
	lives := uint64(0)
	for _, l := range r.second.ended {
		lives += l.requests
		res.Unaccounted += int64(l.inFlight)
	}
	res.Requests += lives
	answered, lost = r.asked(quotes, decideQuotes)
	res.Unaccounted += distance(lives, answered, lost)
	res.Notes = r.book.notes
	n := len(r.held)
	if n < 10 {
		return nil, fmt.Errorf("chaos: %d readings of executor's resources are too few", n)
	}
	res.Early, res.Late = faults.Median(r.held[n/5:2*n/5]), faults.Median(r.held[n-n/5:])
	for _, h := range r.held {
		res.Peak = res.Peak.Peak(h)
	}
	return res, nil
}

// asked returns how many calls of the kinds have an answer, right or wrong, and how many are lost.
func (r *run) asked(kinds ...string) (answered, lost uint64) {
	for _, k := range kinds {
		if t := r.book.of[k]; t != nil {
			answered, lost = answered+uint64(t.Answered+t.Wrong), lost+uint64(t.Lost)
		}
	}
	return answered, lost
}

// distance is the difference between requests and answers. Executor may have counted calls that their client lost.
func distance(requests, answered, lost uint64) int64 {
	over := int64(requests) - int64(answered)
	return max(over-int64(lost), -over)
}

// slackRSS is the allowed memory growth from early to late.
const slackRSS = 1.10

// Missed lists the missed targets.
func (res *Result) Missed() (missed faults.Misses) {
	add := missed.Add
	for _, kind := range slices.Sorted(maps.Keys(res.Calls)) {
		t := res.Calls[kind]
		add(t.Wrong > 0, "%s: %d wrong", kind, t.Wrong)
		add(t.Lost > 0, "%s: %d lost", kind, t.Lost)
	}
	add(res.Unaccounted != 0, "%d requests unaccounted for", res.Unaccounted)
	add(!res.Recovered, "shadows were not back at the end")
	missed = append(missed, res.Early.Grew(res.Late)...)
	add(float64(res.Late.RSS) > slackRSS*float64(res.Early.RSS), "memory grew from %.1f to %.1f MB", float64(res.Early.RSS)/1e6, float64(res.Late.RSS)/1e6)
	return missed
}

// Table writes the summary.
func (res *Result) Table(w io.Writer) error {
	calls := table.New("calls", ">right", ">with a shadow's score", ">by the model", ">wrong", ">lost", ">refused by a drain")
	for _, kind := range slices.Sorted(maps.Keys(res.Calls)) {
		t := res.Calls[kind]
		calls.Row(kind, t.Answered, t.Shadows, t.Model, t.Wrong, t.Lost, t.Refused)
	}
	held := table.New("steady executor", ">early", ">late", ">largest")
	mb := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }
	held.Row("goroutines", res.Early.Goroutines, res.Late.Goroutines, res.Peak.Goroutines)
	held.Row("file descriptors", res.Early.FDs, res.Late.FDs, res.Peak.FDs)
	held.Row("resident memory, MB", mb(res.Early.RSS), mb(res.Late.RSS), mb(res.Peak.RSS))
	held.Row("heap, MB", mb(res.Early.Heap), mb(res.Late.Heap), mb(res.Peak.Heap))
	for i, t := range []*table.Table{calls, held} {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		if err := t.Text(w); err != nil {
			return err
		}
	}
	var events []string
	for _, what := range slices.Sorted(maps.Keys(res.Events)) {
		events = append(events, fmt.Sprintf("%d %s", res.Events[what], what))
	}
	_, _ = fmt.Fprintf(w, "\nevents (seed %d): %s\n", res.Seed, strings.Join(events, ", "))
	_, _ = fmt.Fprintf(w, "outcomes of the steady executor: %s\n", faults.Outcomes(res.Outcomes))
	_, _ = fmt.Fprintf(w, "%d requests of %d processes, %d without exactly one outcome; the breaker changed its state %d times and shadows were back at the end: %t\n",
		res.Requests, res.Lives+1, res.Unaccounted, len(res.Breaker)-1, res.Recovered)
	for _, n := range res.Notes {
		_, _ = fmt.Fprintf(w, "wrong: %s\n", n)
	}
	verdict := "nothing went wrong"
	if m := res.Missed(); len(m) > 0 {
		verdict = "MISSED: " + strings.Join(m, "; ")
	}
	_, err := fmt.Fprintf(w, "%s, in %.0f s from %s, commit %s\n", verdict, res.DurationS, res.Time.Format(time.DateTime+" MST"), res.Git)
	return err
}
