package outcome_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
)

const minute = int64(time.Minute / time.Millisecond)

// start is a whole number of blocks since 1970.
var start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).UnixMilli()

func plan(source outcome.LabelSource) outcome.Plan {
	return outcome.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: 0.05, LabelSource: source, HorizonMS: 15 * minute}
}

func key(executor string) outcome.Key {
	return outcome.Key{Executor: executor, Model: "model", Baseline: "baseline"}
}

// event is an input of a join: a minute of a symbol, a row, or a report.
type event struct {
	at     int64
	symbol string
	answer outcome.Answer // of a minute
	row    *outcome.Row
	report string // the id
	y      bool
}

func (e *event) apply(j *outcome.Join) {
	switch {
	case e.row != nil:
		j.Add(e.row)
	case e.report != "":
		j.Report(e.report, e.y, e.at)
	default:
		j.Minute(e.symbol, e.at, e.answer)
	}
}

// label is the outcome of a symbol and minute. It has holes.
func label(symbol string, at int64) outcome.Answer {
	h := rand.New(rand.NewPCG(uint64(at), uint64(len(symbol)+int(symbol[0])))).IntN(20)
	switch {
	case h == 0:
		return outcome.Unknown
	case h < 7:
		return outcome.Positive
	}
	return outcome.Negative
}

// rows draws the rows of a symbol's minute, some of them odd.
func rows(rng *rand.Rand, n int, symbol string, at int64) []*outcome.Row {
	all := make([]*outcome.Row, n)
	for i := range all {
		r := &outcome.Row{
			ID: fmt.Sprintf("%s-%d-%d", symbol, at, i), Symbol: symbol, Time: at + rng.Int64N(minute), Source: outcome.Replay,
			Baseline: rng.Float64(), Revision: uint64(1 + at%3),
		}
		r.Shadow = max(0, min(1, r.Baseline+0.2*rng.NormFloat64()))
		switch rng.IntN(40) {
		case 0:
			r.Missing = outcome.Deadline
		case 1:
			r.Shadow = math.NaN()
		case 2:
			r.Time = 0
		case 3:
			r.Symbol = "no quotes"
		case 4:
			if i > 0 && all[0].Symbol == symbol && all[0].Time > 0 {
				r.ID = all[0].ID
			}
		}
		all[i] = r
	}
	return all
}

// minutes returns the events of some hours of symbols with quotes: the end of a minute of each, then its rows.
func minutes(seed uint64, hours int, perMinute int, symbols ...string) [][]event {
	rng := rand.New(rand.NewPCG(seed, 1))
	var all [][]event
	for m := range int64(hours*60) + 60 { // the last hour closes what is open
		at := start + m*minute
		var one []event
		for _, s := range symbols {
			one = append(one, event{at: at, symbol: s, answer: label(s, at-15*minute)})
		}
		for _, s := range symbols {
			if m < int64(hours*60) {
				for _, r := range rows(rng, rng.IntN(perMinute+1), s, at) {
					one = append(one, event{at: at, row: r})
				}
			}
		}
		all = append(all, one)
	}
	return all
}

func run(j *outcome.Join, events [][]event) []outcome.Record {
	var records []outcome.Record
	for _, one := range events {
		for _, e := range one {
			e.apply(j)
		}
		records = append(records, j.Closed()...)
	}
	return records
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// reference computes the records from the rows by the definitions, with plain maps and floats.
func reference(events [][]event, p outcome.Plan) map[int64]*refBlock {
	blocks := map[int64]*refBlock{}
	seen := map[string]bool{}
	at := func(t int64) *refBlock {
		n := int64(math.Floor(float64(t) / float64(p.Width().Milliseconds())))
		if blocks[n] == nil {
			blocks[n] = &refBlock{labels: map[string]int{}, fallbacks: map[string]int{}, bins: map[[3]int]int{}}
		}
		return blocks[n]
	}
	strays := at(math.MinInt32)
	for _, one := range events {
		for _, e := range one {
			r := e.row
			if r == nil {
				continue
			}
			switch {
			case seen[r.ID]:
				strays.labels["duplicate"]++
				continue
			case r.Time == 0:
				seen[r.ID] = true
				strays.labels["not_ready"]++
				continue
			case r.Symbol == "no quotes":
				seen[r.ID] = true
				strays.labels["no_label"]++
				continue
			}
			seen[r.ID] = true
			b := at(r.Time)
			b.rows++
			policy, fallback := r.Shadow, "none"
			switch {
			case r.Missing == outcome.Deadline:
				policy, fallback = r.Baseline, "deadline"
			case math.IsNaN(r.Shadow):
				policy, fallback = r.Baseline, "invalid_score"
			case math.Abs(r.Shadow-r.Baseline) > p.DisagreementCap:
				policy, fallback = r.Baseline, "disagreement"
			}
			b.fallbacks[fallback]++
			answer := label(r.Symbol, r.Time/minute*minute)
			if answer == outcome.Unknown {
				b.labels["no_label"]++
				continue
			}
			y := 0
			if answer == outcome.Positive {
				y = 1
			}
			b.labels["matured"]++
			d := math.Pow(r.Baseline-float64(y), 2) - math.Pow(policy-float64(y), 2)
			b.d += d
			b.d2 += d * d
			b.loss += math.Pow(r.Baseline-float64(y), 2)
			b.q += r.Baseline
			b.p += policy
			b.bins[[3]int{0, min(199, int(200*r.Baseline)), y}]++
			b.bins[[3]int{1, min(199, int(200*policy)), y}]++
		}
	}
	return blocks
}

type refBlock struct {
	rows              int
	labels, fallbacks map[string]int
	d, d2, loss, q, p float64
	bins              map[[3]int]int
}

func TestJoinAgainstReference(t *testing.T) {
	p := plan(outcome.Quotes)
	events := minutes(1, 6, 12, "A", "BB", "CCC")
	j := outcome.NewJoin(key("e"), p)
	records := run(j, events)
	want := reference(events, p)
	strays := map[string]int{}
	var through uint64
	for _, r := range records {
		b := want[r.Block]
		if b == nil {
			t.Fatalf("block %d: not in the reference", r.Block)
		}
		delete(want, r.Block)
		if err := r.Validate(p); err != nil {
			t.Error(err)
		}
		if int(r.Rows) != b.rows || r.Plan != p.Digest() || r.Executor != "e" {
			t.Errorf("block %d: %d rows of %+v, want %d", r.Block, r.Rows, r.Key, b.rows)
		}
		for _, l := range outcome.Labels() {
			if name := l.String(); name == "duplicate" || name == "not_ready" || name == "no_label" {
				strays[name] += int(r.Labels[l]) - b.labels[name]
			} else if int(r.Labels[l]) != b.labels[name] {
				t.Errorf("block %d: %d %s, want %d", r.Block, r.Labels[l], name, b.labels[name])
			}
		}
		for f, n := range r.Fallbacks {
			if name := outcome.Fallback(f).String(); int(n) != b.fallbacks[name] {
				t.Errorf("block %d: %d %s, want %d", r.Block, n, name, b.fallbacks[name])
			}
		}
		n := float64(b.labels["matured"])
		for name, pair := range map[string][2]float64{
			"d": {r.SumD.Float(), b.d}, "d2": {r.SumD2.Float(), b.d2}, "loss": {r.SumLoss.Float(), b.loss},
			"q": {r.SumBaseline.Float(), b.q}, "p": {r.SumPolicy.Float(), b.p},
		} {
			if math.Abs(pair[0]-pair[1]) > n*math.Pow(2, -36) {
				t.Errorf("block %d: sum of %s is %v, want %v", r.Block, name, pair[0], pair[1])
			}
		}
		bins := map[[3]int]int{}
		for which, h := range []outcome.Histogram{r.BaselineScores, r.PolicyScores} {
			for _, bin := range h {
				for y := range 2 {
					if bin[1+y] > 0 {
						bins[[3]int{which, int(bin[0]), y}] = int(bin[1+y])
					}
				}
			}
		}
		if !maps.Equal(bins, b.bins) {
			t.Errorf("block %d: the histograms differ", r.Block)
		}
		if through += r.Requests(); r.Through != through {
			t.Errorf("block %d: %d through it, want %d", r.Block, r.Through, through)
		}
	}
	missing := want[int64(math.Floor(math.MinInt32/float64(15*minute)))]
	if !maps.Equal(strays, missing.labels) || len(want) != 1 || strays["duplicate"] == 0 || strays["not_ready"] == 0 {
		t.Errorf("strays: got %v, want %v; %d blocks have no record", strays, missing.labels, len(want)-1)
	}
	labels, _ := j.Counts()
	if labels[outcome.Pending] != 0 || labels.Total() != through {
		t.Errorf("the counts are %v, the records have %d requests", labels, through)
	}
}

// The order of the rows in a minute does not change a bit, and the records of several executors add up to those of one.
func TestOrderAndMerging(t *testing.T) {
	p := plan(outcome.Quotes)
	events := minutes(2, 8, 12, "A", "BB")
	whole := run(outcome.NewJoin(key("e"), p), events)
	rng := rand.New(rand.NewPCG(3, 3))
	var executors [3]*outcome.Join
	var parts [3][]outcome.Record
	for i := range executors {
		executors[i] = outcome.NewJoin(key(fmt.Sprint("e", i)), p)
	}
	shuffled := outcome.NewJoin(key("e"), p)
	var again []outcome.Record
	for _, one := range events {
		quotes := slices.IndexFunc(one, func(e event) bool { return e.row != nil })
		if quotes < 0 {
			quotes = len(one)
		}
		for _, e := range one[:quotes] {
			e.apply(shuffled)
			for _, j := range executors {
				e.apply(j)
			}
		}
		of := slices.Clone(one[quotes:])
		rng.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
		// The first row of a repeated id counts, so repeated ids keep their order and their executor.
		slices.SortStableFunc(of, func(a, b event) int { return boolean(firstOfMinute(a)) - boolean(firstOfMinute(b)) })
		for _, e := range of {
			if firstOfMinute(e) {
				continue
			}
			e.apply(shuffled)
		}
		for _, e := range one[quotes:] {
			if firstOfMinute(e) {
				e.apply(shuffled)
				e.apply(executors[0])
			}
		}
		for i, e := range of {
			if !firstOfMinute(e) {
				e.apply(executors[i%3])
			}
		}
		again = append(again, shuffled.Closed()...)
		for i, j := range executors {
			parts[i] = append(parts[i], j.Closed()...)
		}
	}
	if got, want := encoded(t, again), encoded(t, whole); got != want {
		t.Error("another order of rows gives other records")
	}
	merged := map[int64]*outcome.Record{}
	for _, i := range rng.Perm(3) {
		for _, r := range parts[i] {
			if merged[r.Block] == nil {
				merged[r.Block] = &outcome.Record{Key: r.Key}
				merged[r.Block].Executor = "e"
			}
			if err := merged[r.Block].Merge(&r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range whole {
		got := *merged[want.Block]
		// Stray requests are counted in the next block of their executor.
		for _, l := range []outcome.Label{outcome.Duplicate, outcome.NotReady, outcome.NoLabel} {
			got.Labels[l], want.Labels[l] = 0, 0
		}
		got.Through, want.Through, got.Sources, want.Sources = 0, 0, outcome.SourceCounts{}, outcome.SourceCounts{}
		if encoded(t, got) != encoded(t, want) {
			t.Fatalf("block %d of three executors: got %s, want %s", want.Block, encoded(t, got), encoded(t, want))
		}
	}
	fleet := slices.Concat(parts[2], parts[0], parts[1])
	got, want := outcome.Judge(p, fleet), outcome.Judge(p, whole)
	if got.Executors != 3 || got.Lower != want.Lower || got.Upper != want.Upper || got.Difference != want.Difference || got.Total.Labels != want.Total.Labels {
		t.Errorf("the fleet is judged as %+v, one executor as %+v", got, want)
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// firstOfMinute reports whether a row has an id that is repeated.
func firstOfMinute(e event) bool {
	return e.row != nil && len(e.row.ID) > 2 && e.row.ID[len(e.row.ID)-2:] == "-0"
}

// reported returns the events of rows with reported labels: some are late, repeated, contradicting or unknown.
func reported(seed uint64, hours, perMinute int) [][]event {
	rng := rand.New(rand.NewPCG(seed, 2))
	var all [][]event
	waiting := map[int64][]event{}
	for m := range int64(hours*60 + 120) {
		at := start + m*minute
		var one []event
		if m < int64(hours*60) {
			for _, r := range rows(rng, perMinute, "A", at) {
				r.Symbol = ""
				one = append(one, event{at: at, row: r})
				known := r.Time + 15*minute + rng.Int64N(10*minute)
				if rng.IntN(30) == 0 {
					known += 20 * minute // too late
				}
				e := event{at: known, report: r.ID, y: rng.IntN(3) == 0}
				waiting[known/minute] = append(waiting[known/minute], e)
				switch rng.IntN(20) {
				case 0:
					e.at += minute
					waiting[e.at/minute] = append(waiting[e.at/minute], e)
				case 1:
					e.at, e.y = e.at+minute, !e.y
					waiting[e.at/minute] = append(waiting[e.at/minute], e)
				case 2:
					e.report = "unknown " + e.report
					waiting[e.at/minute] = append(waiting[e.at/minute], e)
				}
			}
		} else {
			one = append(one, event{at: at, report: "nothing", y: true})
		}
		all = append(all, append(one, waiting[at/minute]...))
	}
	return all
}

// A join that is saved and restored at any time gives the same records as one that is not. So does a join restored from a
// whole state and later changes.
func TestRestart(t *testing.T) {
	for name, events := range map[string][][]event{"quotes": minutes(4, 5, 12, "A", "BB"), "reported": reported(4, 2, 12)} {
		t.Run(name, func(t *testing.T) {
			p := plan(outcome.LabelSource(name))
			want := encoded(t, run(outcome.NewJoin(key("e"), p), events))
			for _, every := range []int{1, 7, 100} {
				rng := rand.New(rand.NewPCG(uint64(every), 5))
				j := outcome.NewJoin(key("e"), p)
				var records []outcome.Record
				var file []string
				n, restarts := 0, 0
				for _, one := range events {
					for _, e := range one {
						e.apply(j)
						n++
						if n%every != 0 && every > 1 || every == 1 && rng.IntN(5) > 0 {
							continue
						}
						records = append(records, j.Closed()...)
						whole := len(file) == 0 || rng.IntN(30) == 0
						if whole {
							file = nil
						}
						file = append(file, encoded(t, j.Save(whole)))
						if rng.IntN(20) > 0 {
							continue
						}
						restarts++
						var states []*outcome.State
						for _, raw := range file {
							s, err := readState([]byte(raw))
							if err != nil {
								t.Fatal(err)
							}
							states = append(states, s)
						}
						before, _ := j.Counts()
						var err error
						if j, err = outcome.Restore(states); err != nil {
							t.Fatal(err)
						}
						if after, _ := j.Counts(); before != after {
							t.Fatalf("restored counts are %v, want %v", after, before)
						}
						file = nil
					}
				}
				records = append(records, j.Closed()...)
				if got := encoded(t, records); got != want || restarts == 0 {
					t.Errorf("saved every %d events, %d restarts: other records", every, restarts)
				}
			}
		})
	}
	if j, err := outcome.Restore(nil); j != nil || err != nil {
		t.Errorf("no state: got %v, %v", j, err)
	}
}

func TestRestoreRefusesContradictions(t *testing.T) {
	j := outcome.NewJoin(key("e"), plan(outcome.Quotes))
	events := minutes(4, 1, 12, "A")
	run(j, events[:40])
	good := encoded(t, j.Save(true))
	for what, change := range map[string]func(*outcome.State){
		"a missing block": func(s *outcome.State) { s.Open = nil },
		"other counts":    func(s *outcome.State) { s.Totals[outcome.Pending]++ },
		"half a hash":     func(s *outcome.State) { s.Recent = s.Recent[1:] },
	} {
		s, err := readState([]byte(good))
		if err != nil {
			t.Fatal(err)
		}
		change(s)
		if _, err := outcome.Restore([]*outcome.State{s}); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	a, _ := readState([]byte(good))
	b, _ := readState([]byte(good))
	b.Key.Model = "another"
	if _, err := outcome.Restore([]*outcome.State{a, b}); err == nil {
		t.Error("states of two models: no error")
	}
}

// Replaying a day changes only the count of late rows, and repeated reports change nothing.
func TestReplaysAndRepeatedReports(t *testing.T) {
	p := plan(outcome.Quotes)
	events := minutes(6, 6, 12, "A")
	j := outcome.NewJoin(key("e"), p)
	first := run(j, events)
	before, _ := j.Counts()
	if again := run(j, events); len(again) != 0 {
		t.Errorf("a second time: %d more records", len(again))
	}
	after, _ := j.Counts()
	if after[outcome.Matured] != before[outcome.Matured] || after[outcome.Expired] == before[outcome.Expired] {
		t.Errorf("a second time: counts %v, before %v", after, before)
	}
	if got := run(outcome.NewJoin(key("e"), p), events); encoded(t, got) != encoded(t, first) {
		t.Error("the same replay in a new join gives other records")
	}

	p = plan(outcome.Reported)
	events = reported(6, 2, 30)
	want := run(outcome.NewJoin(key("e"), p), events)
	twice := make([][]event, len(events))
	for i, one := range events {
		for _, e := range one {
			twice[i] = append(twice[i], e)
			if e.report != "" {
				twice[i] = append(twice[i], e, e)
			}
		}
	}
	if got := run(outcome.NewJoin(key("e"), p), twice); encoded(t, got) != encoded(t, want) {
		t.Error("repeated reports change the records")
	}
}

func TestReactions(t *testing.T) {
	j := outcome.NewJoin(key("e"), plan(outcome.Reported))
	add := func(id string, at int64) outcome.Label {
		return j.Add(&outcome.Row{ID: id, Time: start + at*minute, Arrival: start + at*minute, Baseline: 0.5, Shadow: 0.6})
	}
	for _, c := range []struct {
		id    string
		y     bool
		known int64
		want  outcome.Reaction
	}{
		{"a", true, 16, outcome.Accepted},
		{"a", true, 17, outcome.Repeated},
		{"a", false, 17, outcome.Contradicting},
		{"never", true, 17, outcome.UnknownID},
		{"b", true, -1, outcome.Contradicting},
		{"b", true, 32, outcome.Late},
		{"b", true, 16, outcome.Late},
		{"c", false, 30, outcome.Accepted},
	} {
		for id, at := range map[string]int64{"a": 0, "b": 1, "c": 2} {
			add(id, at) // the second time they are repeated
		}
		if got := j.Report(c.id, c.y, start+c.known*minute); got != c.want {
			t.Errorf("%s known after %d min: got %v, want %v", c.id, c.known, got, c.want)
		}
	}
	labels, _ := j.Counts()
	if labels[outcome.Matured] != 2 || labels[outcome.Expired] != 1 || labels[outcome.Duplicate] != 21 {
		t.Errorf("got %v", labels)
	}
	if got := outcome.NewJoin(key("e"), plan(outcome.Quotes)).Report("a", true, start); got != outcome.UnknownID {
		t.Errorf("with labels from quotes: got %v", got)
	}
}

// Every row that a join cannot use gets its label, and the counts add up.
func TestLabels(t *testing.T) {
	quotes := func() *outcome.Join {
		j := outcome.NewJoin(key("e"), plan(outcome.Quotes))
		j.Minute("A", start+60*minute, outcome.Unknown)
		return j
	}
	good := outcome.Row{ID: "x", Symbol: "A", Time: start + 60*minute, Arrival: start + 60*minute, Baseline: 0.3, Shadow: 0.4}
	for name, c := range map[string]struct {
		change func(*outcome.Row)
		want   outcome.Label
	}{
		"a good row":                       {func(*outcome.Row) {}, outcome.Pending},
		"no time":                          {func(r *outcome.Row) { r.Time = 0 }, outcome.NotReady},
		"2 minutes before arrival":         {func(r *outcome.Row) { r.Arrival += 2 * minute }, outcome.Pending},
		"more than 2 minutes before":       {func(r *outcome.Row) { r.Arrival += 2*minute + 1 }, outcome.NotReady},
		"more than 2 minutes after":        {func(r *outcome.Row) { r.Arrival -= 2*minute + 1 }, outcome.NotReady},
		"a replay of long ago":             {func(r *outcome.Row) { r.Arrival, r.Source = 5e12, outcome.Replay }, outcome.Pending},
		"no baseline":                      {func(r *outcome.Row) { r.Baseline = math.NaN() }, outcome.NotReady},
		"another symbol":                   {func(r *outcome.Row) { r.Symbol = "B" }, outcome.NoLabel},
		"a replay long after the quotes":   {func(r *outcome.Row) { r.Time, r.Source = r.Time+16*minute, outcome.Replay }, outcome.NotReady},
		"a row whose label is known":       {func(r *outcome.Row) { r.Time, r.Source = r.Time-15*minute, outcome.Replay }, outcome.Expired},
		"a row of a closed block":          {func(r *outcome.Row) { r.Time, r.Source = r.Time-45*minute, outcome.Replay }, outcome.Expired},
		"a row before a closed block":      {func(r *outcome.Row) { r.Time, r.Source = 1, outcome.Replay }, outcome.Expired},
		"a row just before its label":      {func(r *outcome.Row) { r.Time, r.Source = r.Time-14*minute, outcome.Replay }, outcome.Pending},
		"no score of the model, in time":   {func(r *outcome.Row) { r.Missing = outcome.Shed }, outcome.Pending},
		"an impossible score of the model": {func(r *outcome.Row) { r.Shadow = 7 }, outcome.Pending},
	} {
		j, r := quotes(), good
		c.change(&r)
		if got := j.Add(&r); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
		if got := j.Add(&r); got != outcome.Duplicate {
			t.Errorf("%s, again: got %v, want duplicate", name, got)
		}
		if labels, _ := j.Counts(); labels.Total() != 2 || labels[c.want] != 1 {
			t.Errorf("%s: counts %v", name, labels)
		}
	}
}

// A silent symbol keeps no block open: other symbols close it, and its rows get no label.
func TestSilentSymbol(t *testing.T) {
	p := plan(outcome.Quotes)
	j := outcome.NewJoin(key("e"), p)
	j.Minute("silent", start, outcome.Unknown)
	for m := range int64(46) {
		j.Minute("A", start+m*minute, outcome.Negative)
		for i, s := range []string{"A", "silent"} {
			if m < 15 {
				j.Add(&outcome.Row{ID: fmt.Sprint(m, i), Symbol: s, Time: start + m*minute, Source: outcome.Replay, Baseline: 0.5, Shadow: 0.5})
			}
		}
		if closed := j.Closed(); (len(closed) == 1) != (m == 45) {
			t.Fatalf("minute %d: %d records", m, len(closed))
		} else if m == 45 && (closed[0].Labels[outcome.Matured] != 15 || closed[0].Labels[outcome.NoLabel] != 15) {
			t.Errorf("got %v", closed[0].Labels)
		}
	}
}

// Above 250 rows a second, further rows are not kept. Which rows are kept does not depend on their order.
func TestReportedRowsAreThinned(t *testing.T) {
	const perSecond, seconds = 1000, 120
	p := plan(outcome.Reported)
	var events []event
	for i := range perSecond * seconds {
		at := start + int64(i)*1000/perSecond
		events = append(events, event{at: at, row: &outcome.Row{ID: strconv.Itoa(i), Time: at, Source: outcome.Replay, Baseline: 0.5, Shadow: 0.4}})
	}
	sums := make([]string, 2)
	for i := range sums {
		j := outcome.NewJoin(key("e"), p)
		for _, e := range events {
			e.apply(j)
		}
		labels, _ := j.Counts()
		if kept := labels[outcome.Pending]; kept > 250*seconds || kept < 100*seconds || labels.Total() != perSecond*seconds || labels[outcome.NotKept]+kept != perSecond*seconds {
			t.Errorf("got %v", labels)
		}
		for k := range perSecond * seconds {
			j.Report(strconv.Itoa(k), k%3 == 0, start+20*minute)
		}
		j.Report("the end", true, start+90*minute)
		sums[i] = encoded(t, j.Closed())
		rand.New(rand.NewPCG(1, 7)).Shuffle(len(events), func(a, b int) { events[a], events[b] = events[b], events[a] })
	}
	if sums[0] != sums[1] {
		t.Error("another order of the rows gives other records")
	}
}

// In a live run, a replayed row in the far future does not close blocks.
func TestFarFutureReplayRow(t *testing.T) {
	j := outcome.NewJoin(key("e"), plan(outcome.Reported))
	live := outcome.Row{ID: "live", Time: start, Arrival: start, Baseline: 0.5, Shadow: 0.5}
	j.Add(&live)
	if got := j.Add(&outcome.Row{ID: "far", Time: 7e12, Source: outcome.Replay, Baseline: 0.5, Shadow: 0.5}); got != outcome.NotReady {
		t.Errorf("got %v, want not_ready", got)
	}
	if got := j.Report("live", true, start+15*minute); got != outcome.Accepted {
		t.Errorf("the live row's outcome is %v, want accepted", got)
	}
}

// Rows without a plan are counted without a cap, and not judged.
func TestWithoutPlan(t *testing.T) {
	j := outcome.NewJoin(key("e"), outcome.Plan{LabelSource: outcome.Quotes, HorizonMS: 15 * minute})
	records := run(j, minutes(8, 3, 12, "A"))
	for _, r := range records {
		if err := r.Validate(outcome.Plan{}); err != nil || r.Plan != "" || r.Fallbacks[outcome.Disagreement] != 0 || r.Labels[outcome.Matured] == 0 {
			t.Errorf("got %+v, %v", r, err)
		}
	}
	if v := outcome.Judge(outcome.Plan{}, records); v.Verdict != outcome.Error {
		t.Errorf("judged as %s, want ERROR", v.Verdict)
	}
}

func TestLostRows(t *testing.T) {
	j := outcome.NewJoin(key("e"), plan(outcome.Quotes))
	j.Lost(7)
	records := run(j, minutes(9, 2, 12, "A"))
	if records[0].Lost != 7 || records[0].Requests() != records[0].Labels.Total()+7 {
		t.Errorf("got %+v", records[0])
	}
	if _, lost := j.Counts(); lost != 7 {
		t.Errorf("%d lost, want 7", lost)
	}
}

// 10,000 requests a second over 100 symbols, with labels from quotes, take less than 50 MB. All rows of a symbol and minute form
// one sum, so the test uses a tenth of them, with scores as different as possible.
func TestMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	j := outcome.NewJoin(key("e"), plan(outcome.Quotes))
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprintf("SYMBOL-%d", i)
	}
	rng := rand.New(rand.NewPCG(1, 8))
	r := outcome.Row{Source: outcome.Replay}
	id := make([]byte, 0, 32)
	for m := range int64(18) {
		for _, s := range names {
			j.Minute(s, start+m*minute, outcome.Positive)
		}
		for i := range 60 * 1000 {
			id = strconv.AppendInt(id[:0], m*1e7+int64(i), 10)
			r.ID, r.Symbol, r.Time, r.Baseline = string(id), names[i%100], start+m*minute+int64(i), rng.Float64()
			r.Shadow = r.Baseline
			j.Add(&r)
		}
	}
	used := heap() - before
	labels, _ := j.Counts()
	t.Logf("%d rows, %d pending, %.1f MB", labels.Total(), labels[outcome.Pending], float64(used)/1e6)
	if used > 50e6 || labels[outcome.Pending] < 8e5 {
		t.Errorf("%d bytes for %v", used, labels)
	}
}

// BenchmarkAdd measures a row of the hot path. Repeated ids would be cheaper, so there are a million different ones.
func BenchmarkAdd(b *testing.B) {
	const distinct = 1 << 20
	ids := make([]string, distinct)
	for i := range ids {
		ids[i] = fmt.Sprintf("SIM-PERP-%d", 1736121660000+i)
	}
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprintf("SYM-%d", i)
	}
	for _, source := range []outcome.LabelSource{outcome.Quotes, outcome.Reported} {
		b.Run(string(source), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			r := outcome.Row{Time: start, Arrival: start}
			var j *outcome.Join
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if i%distinct == 0 {
					j = outcome.NewJoin(key("e"), plan(source))
					for _, s := range names {
						j.Minute(s, start, outcome.Unknown)
					}
				}
				r.ID, r.Symbol = ids[i%distinct], names[i%100]
				r.Baseline = 0.2 + 0.1*rng.Float64() // scores of a minute are alike
				r.Shadow = r.Baseline
				i++
				j.Add(&r)
			}
		})
	}
}

// readState reads a state as executor does.
func readState(raw []byte) (*outcome.State, error) {
	s := &outcome.State{}
	return s, json.Unmarshal(raw, s)
}
