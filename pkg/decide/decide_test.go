package decide_test

import (
	"bufio"
	"bytes"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/decide"
)

// row is a row of testdata/decisions.txt: its cells by column, and the reason.
type row struct {
	cells   map[string][]string
	decides string
}

// readTable reads the truth table, and its columns in order.
func readTable(t *testing.T) (columns []string, rows []row) {
	t.Helper()
	raw, err := os.ReadFile("testdata/decisions.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case columns == nil:
			columns = fields[:len(fields)-1]
		case len(fields) != len(columns)+1:
			t.Fatalf("row %q: want %d cells", lines.Text(), len(columns)+1)
		default:
			r := row{map[string][]string{}, fields[len(columns)]}
			for i, c := range columns {
				r.cells[c] = strings.Split(fields[i], "|")
			}
			rows = append(rows, r)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return columns, rows
}

func (r row) matches(state map[string]string) bool {
	for column, cells := range r.cells {
		if cells[0] != "*" && !slices.Contains(cells, state[column]) {
			return false
		}
	}
	return true
}

// domains are the values of each column.
var domains = map[string][]string{
	"gate": {"set", "unset"}, "lease": {"held", "lapsed"},
	"killed": {"no", "yes"}, "quality": {"no", "yes"}, "drift": {"no", "yes"}, "budget": {"no", "yes"},
	"selected": {"yes", "no"}, "digest": {"same", "before", "after", "both"},
	"age": {"fresh", "two_minutes", "older"}, "domain": {"inside", "outside"},
	"answer": {
		"breaker_open", "shed", "unavailable", "deadline", "rejected", "internal", "canceled", "invalid_score",
		"nan", "infinite", "negative", "above_one", "low", "high", "far_below", "far_above", "equal", "near", "at_cap",
	},
}

const baseline = 0.5

// scores are the answers with a score, for a range from 0.125 to 0.875 and a cap of 0.25.
var scores = map[string]float64{
	"nan": math.NaN(), "infinite": math.Inf(1), "negative": -0.25, "above_one": math.Nextafter(1, 2),
	"low": math.Nextafter(0.125, 0), "high": math.Nextafter(0.875, 1), "far_below": 0.2, "far_above": math.Nextafter(0.75, 1),
	"equal": baseline, "near": 0.3, "at_cap": 0.75,
}

// inputs returns the inputs for the values of the columns.
func inputs(state map[string]string) (decide.State, decide.Request, decide.Advice) {
	const gated, other = "aa", "bb"
	s := decide.State{
		Gated: state["gate"] == "set", LeaseLapsed: state["lease"] == "lapsed", Killed: state["killed"] == "yes",
		QualityAlarm: state["quality"] == "yes", DriftAlarm: state["drift"] == "yes", BudgetSpent: state["budget"] == "yes",
		Limits: decide.Limits{Model: gated, Disagreement: 0.25, Low: 0.125, High: 0.875},
	}
	r := decide.Request{
		Baseline: baseline, Selected: state["selected"] == "yes", Model: gated, OutOfDomain: state["domain"] == "outside",
		Age: map[string]time.Duration{"fresh": 0, "two_minutes": 2 * time.Minute, "older": 2*time.Minute + 1}[state["age"]],
	}
	a := decide.Advice{Model: gated}
	if d := state["digest"]; d == "before" || d == "both" {
		r.Model = other
	}
	if d := state["digest"]; d == "after" || d == "both" {
		a.Model = other
	}
	if score, ok := scores[state["answer"]]; ok {
		a.Score = score
	} else {
		a.Failure, _ = decide.ParseReason(state["answer"])
		a.Score = baseline // which must not count
	}
	return s, r, a
}

// Every combination of values is decided according to the table, and every row of the table is needed.
func TestTruthTable(t *testing.T) {
	columns, rows := readTable(t)
	if len(columns) != len(domains) {
		t.Fatalf("columns %v, want those of %v", columns, domains)
	}
	used := make([]int, len(rows))
	lookup := func(state map[string]string, count bool) string {
		for i, r := range rows {
			if r.matches(state) {
				if count {
					used[i]++
				}
				return r.decides
			}
		}
		t.Fatalf("no row for %v", state)
		return ""
	}
	state := map[string]string{}
	states := 0
	var each func(left []string)
	each = func(left []string) {
		if len(left) > 0 {
			for _, v := range domains[left[0]] {
				state[left[0]] = v
				each(left[1:])
			}
			return
		}
		states++
		s, r, a := inputs(state)
		want := lookup(state, true)
		got := decide.Decide(s, r, a)
		name, score := got.Reason.String(), baseline
		if want == "model" {
			name, score = name+"model", scores[state["answer"]]
		}
		if name != want || got.Score != score || got.ByModel() != (want == "model") {
			t.Fatalf("%v: got %+v (%s), want %s", state, got, got.Reason, want)
		}
		// Refusal must match the table's reason for a good answer from the requested model.
		asked := maps.Clone(state)
		asked["answer"] = "equal"
		if asked["digest"] == "after" {
			asked["digest"] = "same"
		}
		refusal := lookup(asked, false)
		if refusal == "model" {
			refusal = ""
		}
		if got := decide.Refusal(s, r); got.String() != refusal {
			t.Fatalf("%v: refused for %q, want %q", state, got, refusal)
		}
	}
	each(columns)
	if want := 1 << 7 * 4 * 3 * 2 * 19; states != want {
		t.Errorf("%d states, want %d", states, want)
	}
	reasons := map[string]bool{"model": true}
	for _, r := range decide.Reasons() {
		reasons[r.String()] = true
	}
	for i, r := range rows {
		if used[i] == 0 {
			t.Errorf("row %d, %s, gives no state its reason", i+1, r.decides)
		}
		delete(reasons, r.decides)
	}
	if len(reasons) > 0 {
		t.Errorf("no row has %v", reasons)
	}
}

// check checks the properties of every decision, against an independent copy of the guards.
func check(t *testing.T, s decide.State, r decide.Request, a decide.Advice) (byModel bool) {
	t.Helper()
	d := decide.Decide(s, r, a)
	got, ours, model := math.Float64bits(d.Score), math.Float64bits(r.Baseline), math.Float64bits(a.Score)
	may := s.Gated && !s.LeaseLapsed && !s.Killed && !s.QualityAlarm && !s.DriftAlarm && !s.BudgetSpent &&
		r.Selected && r.Model == s.Model && r.Age <= 2*time.Minute && !r.OutOfDomain &&
		a.Failure == decide.None && a.Model == s.Model && 0 <= a.Score && a.Score <= 1 && s.Low <= a.Score && a.Score <= s.High &&
		math.Abs(a.Score-r.Baseline) <= s.Disagreement
	switch {
	case d.ByModel() != may:
		t.Errorf("%+v, %+v, %+v: got %+v, but the model may decide: %t", s, r, a, d, may)
	case may && (got != model || !(math.Abs(d.Score-r.Baseline) <= s.Disagreement)):
		t.Errorf("%+v, %+v, %+v: got %x, want the model's %x, within %v of %v", s, r, a, got, model, s.Disagreement, r.Baseline)
	case !may && got != ours:
		t.Errorf("%+v, %+v, %+v: got %x, want the baseline's %x", s, r, a, got, ours)
	case !may && (d.Reason == decide.None || !slices.Contains(decide.Reasons(), d.Reason)):
		t.Errorf("%+v, %+v, %+v: got the reason %d", s, r, a, d.Reason)
	}
	return may
}

// special are the bits of numbers that arithmetic would change: NaN with a payload, quiet and signaling, zeros of both signs,
// subnormals, infinities, and the numbers next to the limits.
var special = []uint64{
	0, 1 << 63, 1, 1<<63 | 1, 0x000fffffffffffff, 0x7ff8000000000001, 0xfff8dead0000beef, 0x7ff0000000000001, 0xfff4000000000000,
	math.Float64bits(math.Inf(1)), math.Float64bits(math.Inf(-1)), math.Float64bits(1), math.Float64bits(math.Nextafter(1, 2)),
	math.Float64bits(math.Nextafter(1, 0)), math.Float64bits(0.5), math.Float64bits(0.25), math.Float64bits(math.MaxFloat64),
}

// The result is one of the two inputs, bit for bit, whatever they are. It is the model's only if every guard holds.
func TestTheResultIsOneOfTheInputs(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 1))
	number := func() float64 {
		if rng.IntN(3) == 0 {
			return math.Float64frombits(special[rng.IntN(len(special))])
		}
		return rng.Float64()
	}
	rarely := func() bool { return rng.IntN(16) == 0 }
	digest := func() string {
		if rarely() {
			return "bb"
		}
		return "aa"
	}
	byModel := 0
	const n = 400_000
	for range n {
		s := decide.State{
			Gated: !rarely(), LeaseLapsed: rarely(), Killed: rarely(), QualityAlarm: rarely(), DriftAlarm: rarely(), BudgetSpent: rarely(),
			Limits: decide.Limits{Model: "aa", Disagreement: number(), High: 1},
		}
		if rng.IntN(4) == 0 {
			s.Low, s.High = number(), number()
		}
		r := decide.Request{Baseline: number(), Selected: !rarely(), Model: digest(), OutOfDomain: rarely(), Age: time.Duration(rng.Int64N(int64(130 * time.Second)))}
		a := decide.Advice{Score: number(), Model: digest()}
		if rng.IntN(4) == 0 {
			a.Failure = decide.BreakerOpen + decide.Reason(rng.IntN(int(decide.InvalidScore-decide.BreakerOpen)+1))
		}
		if check(t, s, r, a) {
			byModel++
		}
		if t.Failed() {
			return
		}
	}
	if byModel < n/100 || byModel > n/2 {
		t.Errorf("the model decided %d of %d: the test is lopsided", byModel, n)
	}
}

// FuzzDecide checks the same for arbitrary bits.
func FuzzDecide(f *testing.F) {
	for i, x := range special {
		f.Add(uint16(1|1<<6), special[(i+1)%len(special)], x, math.Float64bits(0.25), uint64(0), math.Float64bits(1), int64(0), uint8(0))
	}
	f.Add(uint16(0xffff), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), int64(math.MaxInt64), uint8(18))
	f.Fuzz(func(t *testing.T, flags uint16, baseline, score, disagreement, low, high uint64, age int64, failure uint8) {
		flag := func(i int) bool { return flags>>i&1 == 1 }
		digest := func(other bool) string { return map[bool]string{false: "aa", true: "bb"}[other] }
		s := decide.State{
			Gated: flag(0), LeaseLapsed: flag(1), Killed: flag(2), QualityAlarm: flag(3), DriftAlarm: flag(4), BudgetSpent: flag(5),
			Limits: decide.Limits{
				Model: "aa", Disagreement: math.Float64frombits(disagreement), Low: math.Float64frombits(low), High: math.Float64frombits(high),
			},
		}
		r := decide.Request{
			Baseline: math.Float64frombits(baseline), Selected: flag(6), Model: digest(flag(7)), Age: time.Duration(age), OutOfDomain: flag(8),
		}
		a := decide.Advice{Score: math.Float64frombits(score), Model: digest(flag(9))}
		if k := decide.Reason(failure); k >= decide.BreakerOpen && k <= decide.InvalidScore {
			a.Failure = k
		}
		check(t, s, r, a)
	})
}

func TestReasonNames(t *testing.T) {
	all := decide.Reasons()
	if len(all) != 19 || all[0] != decide.Off || all[18] != decide.Disagreement {
		t.Errorf("got %v", all)
	}
	for i, r := range append(all, decide.None) {
		if got, ok := decide.ParseReason(r.String()); !ok || got != r {
			t.Errorf("%v: parsed as %v, %t", r, got, ok)
		}
		if want := i < 6; r.OfState() != want {
			t.Errorf("%v: of the state: %t, want %t", r, r.OfState(), want)
		}
	}
	if r, ok := decide.ParseReason("unknown"); ok {
		t.Errorf("got %v", r)
	}
	if got := decide.Reason(20).String(); got != "unknown" {
		t.Errorf("got %q", got)
	}
}

func TestOutside(t *testing.T) {
	domain := []decide.Range{{Low: -1, High: 1}, {Low: 1, High: 1}}
	for _, tt := range []struct {
		values []float64
		want   bool
	}{
		{[]float64{0, 1}, false},
		{[]float64{-1, 1}, false},
		{[]float64{1, 1}, false},
		{[]float64{math.Nextafter(1, 2), 1}, true},
		{[]float64{math.Nextafter(-1, -2), 1}, true},
		{[]float64{0, math.Nextafter(1, 0)}, true},
		{[]float64{0, 0}, true},
		{[]float64{math.NaN(), 1}, true},
		{[]float64{0, math.NaN()}, true},
		{[]float64{math.Inf(-1), 1}, true},
		{nil, false},
	} {
		if got := decide.Outside(tt.values, domain); got != tt.want {
			t.Errorf("%v: got %t", tt.values, got)
		}
	}
}
