package driftcompare

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
)

func names(s *Set) []string {
	var out []string
	for _, c := range s.columns {
		out = append(out, c.Name)
	}
	return out
}

// half scores a vector by its constant alone.
type half struct{}

func (half) Score(x []float64) float64 { return x[0] / 2 }

func (half) Scores(_, _ []float64) { panic("not used") }

func TestFromMarket(t *testing.T) {
	d := data(t)
	s, err := FromMarket(d, schema(t, "v1.8.1"), half{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"mid_logret_1m_rel", "mid_logret_5m_rel", "spread_bp_rel", "vol1m_log_rel", "rsi14_z", "zscore_mid_24h", "score", "mid", "spread_bp", "vol1m", "rsi14"}
	if got := names(s); !slices.Equal(got, want) {
		t.Errorf("columns %v, want %v", got, want)
	}
	frame, err := feature.Compute(d.Bars)
	if err != nil {
		t.Fatal(err)
	}
	if s.Rows()+s.Left != frame.Len() || len(s.Days()) != 19 || s.Source != evidence.Simulated || len(s.Inputs) != 1 {
		t.Errorf("%d rows of %d days and %d left of %d minutes, %s, inputs %v: want 19 days, the first being warm-up",
			s.Rows(), len(s.Days()), s.Left, frame.Len(), s.Source, s.Inputs)
	}
	// The rows are the last minutes of the frame, because the data has no hole.
	for _, c := range s.columns {
		for i, v := range c.Values {
			want := 0.5
			if c.Role != drift.Score {
				want = frame.Column(c.Name)[frame.Len()-s.Rows()+i]
			}
			if v != want || math.IsNaN(v) {
				t.Fatalf("%s of row %d is %v, want %v", c.Name, i, v, want)
			}
		}
	}
	// A schema with the price among its features needs no further raw inputs.
	if s, err = FromMarket(d, schema(t, "v1.8"), nil); err != nil || !slices.Equal(names(s), []string{"mid", "spread_bp", "vol1m", "rsi14", "mid_logret_1m"}) {
		t.Errorf("columns %v, %v", names(s), err)
	}
}

func TestSplit(t *testing.T) {
	s := whole(t)
	days := s.Days()
	first, rest := s.Split(5)
	if !slices.Equal(first.Days(), days[:5]) || !slices.Equal(rest.Days(), days[5:]) || first.Rows()+rest.Rows() != s.Rows() {
		t.Errorf("days %v and %v of %v", first.Days(), rest.Days(), days)
	}
	for j, c := range s.columns {
		if !slices.Equal(slices.Concat(first.columns[j].Values, rest.columns[j].Values), c.Values) {
			t.Errorf("%s was not cut in two", c.Name)
		}
	}
	if first, rest = s.Split(19); first.Rows() != s.Rows() || rest.Rows() != 0 || len(rest.Days()) != 0 {
		t.Errorf("%d and %d rows, want all and none", first.Rows(), rest.Rows())
	}
}

// TestFromLog reads back the features of a market, day by day.
func TestFromLog(t *testing.T) {
	dir := logged(t, "GBP/USD", "v1.8.1", "v1.8")
	s, err := FromLog(featurelog.Log{Dir: dir}, "", schema(t, "v1.8.1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	market := whole(t)
	if s.Source != evidence.Live || !slices.Equal(s.Symbols, []string{"GBP/USD"}) || s.Left != market.Left || len(s.Inputs) == 0 || !slices.Equal(s.days, market.days) {
		t.Errorf("%s of %v: %d rows and %d left in %d files, want %d and %d", s.Source, s.Symbols, s.Rows(), s.Left, len(s.Inputs), market.Rows(), market.Left)
	}
	for j, c := range s.columns {
		if c.Name != market.columns[j].Name || !slices.Equal(c.Values, market.columns[j].Values) {
			t.Errorf("%s is not what was logged", c.Name)
		}
	}
	if !(featurelog.Log{Dir: dir}).Exists() || (featurelog.Log{Dir: t.TempDir()}).Exists() || (featurelog.Log{Dir: "set_test.go"}).Exists() {
		t.Error("Exists confuses a log with another folder or file")
	}
	if s, err = FromLog(featurelog.Log{Dir: logged(t, "SIM-PERP", "v1.8.1")}, "SIM-PERP", schema(t, "v1.8.1"), nil); err != nil || s.Source != evidence.Simulated {
		t.Errorf("the simulator's log is %s, %v", s.Source, err)
	}
}

// Rows with an impossible time are skipped and counted, and a log is live only if every row is.
func TestLogTimesAndSources(t *testing.T) {
	f := schema(t, "v1.8.1")
	layout, err := featurelog.NewSchema(f)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 9, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		sources  []string
		want     evidence.Source
		counted  string
		untimely int
	}{
		{"live", []string{"live", "live"}, evidence.Live, "live", 0},
		{"older rows", []string{"", ""}, evidence.Replay, "unknown", 0},
		{"a replay among live ones", []string{"live", "replay"}, evidence.Replay, "mixed (1 live, 1 replay)", 0},
		{"impossible times", []string{"live", "9999", "1800", "live"}, evidence.Live, "live", 2},
	} {
		dir := t.TempDir()
		l, err := featurelog.Open(featurelog.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for i, source := range tt.sources {
			row := featurelog.Row{Symbol: "S", ArrivalTime: at.Add(time.Duration(i) * time.Hour), Schema: layout, Features: make([]float64, f.Len()), Source: source}
			if year, err := strconv.Atoi(source); err == nil {
				row.Source, row.EventTime = "replay", time.Date(year, 12, 31, 0, 0, 0, 0, time.UTC)
			}
			l.Log(row)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := FromLog(featurelog.Log{Dir: dir}, "", f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.Source != tt.want || s.Sources.String() != tt.counted || s.Untimely != tt.untimely || s.Rows() != len(tt.sources)-tt.untimely || len(s.Days()) != 1 {
			t.Errorf("%s: %s, %q, %d untimely, %d rows of %d days", tt.name, s.Source, s.Sources, s.Untimely, s.Rows(), len(s.Days()))
		}
	}
}

func TestLogRefused(t *testing.T) {
	dir := logged(t, "GBP/USD", "v1.8")
	_, err := FromLog(featurelog.Log{Dir: dir}, "", schema(t, "v1.8.1"), nil)
	if !errors.Is(err, ErrSchema) || !strings.HasSuffix(err.Error(), " has no rows of schema v1.8.1: it has v1.8") {
		t.Errorf("got %v, want ErrSchema", err)
	}
	if _, err = FromLog(featurelog.Log{Dir: dir}, "EUR/USD", schema(t, "v1.8"), nil); err == nil || !strings.HasSuffix(err.Error(), ` has no symbol "EUR/USD": it has GBP/USD`) {
		t.Errorf("got %v, want the symbols of the log", err)
	}
	renamed, err := feature.NewSchema("v1.8", "mid", "rsi14")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = FromLog(featurelog.Log{Dir: dir}, "", renamed, nil); err == nil || !strings.Contains(err.Error(), "a feature has changed its meaning") {
		t.Errorf("got %v, want the hashes", err)
	}
}

func TestSource(t *testing.T) {
	of := func(s evidence.Source) *Set { return &Set{Source: s} }
	tests := []struct{ reference, current, want evidence.Source }{
		{evidence.Replay, evidence.Live, evidence.Live},
		{evidence.Live, evidence.Replay, evidence.Replay},
		{evidence.Simulated, evidence.Live, evidence.Simulated},
		{evidence.Replay, evidence.Simulated, evidence.Simulated},
	}
	for _, tt := range tests {
		if got := Source(of(tt.reference), of(tt.current)); got != tt.want {
			t.Errorf("%s and %s are %s, want %s", tt.reference, tt.current, got, tt.want)
		}
	}
	a, b := evidence.Input{Path: "a"}, evidence.Input{Path: "b"}
	if got := Inputs(&Set{Inputs: []evidence.Input{a}}, &Set{Inputs: []evidence.Input{b, a}}); !slices.Equal(got, []evidence.Input{a, b}) {
		t.Errorf("inputs %v", got)
	}
}
