package featurelog

import (
	"math"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// A log of an older version is read: its rows have no source and no raw inputs. A row of the year 9999 is recognised by
// its time.
func TestReadOlderVersion(t *testing.T) {
	rows := all(t, "testdata/before-sources")
	if len(rows) != 4 {
		t.Fatalf("%d rows", len(rows))
	}
	sources, untimely := Sources{}, 0
	for _, r := range rows {
		sources.Add(&r)
		if _, ok := r.Time(); !ok {
			untimely++
		}
		if r.Source != "" || r.Mid.Present || r.SpreadBP.Present || len(r.Features) != len(r.Schema.Features) || r.Outcome != "match" || !r.ShadowLatencyMS.Present {
			t.Errorf("got %+v", r)
		}
		mid, spread := r.Price()
		if known := r.Schema.Name == "v1.8"; math.IsNaN(mid) == known || math.IsNaN(spread) == known || known && mid != r.Features[1] {
			t.Errorf("%s: price %v, %v", r.Schema.Name, mid, spread)
		}
	}
	if untimely != 1 || sources.String() != "unknown" || sources.Evidence() != evidence.Replay {
		t.Errorf("%d rows have no time that can be, sources %v, %v", untimely, sources, sources.Evidence())
	}
}

// A log from before gates is read: it has everything but decisions.
func TestReadLogFromBeforeGates(t *testing.T) {
	rows := all(t, "testdata/before-gates")
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, r := range rows {
		want := sample(schema(t, "v1.8.1"), i, r.ArrivalTime)
		want.Decision = Decision{}
		if !equal(r, want) {
			t.Errorf("row %d: got %+v, want %+v", i, r, want)
		}
	}
}

func TestRowTime(t *testing.T) {
	arrival := time.Date(2025, 9, 1, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		event, arrival, want time.Time
		ok                   bool
	}{
		"no event":              {time.Time{}, arrival, arrival, true},
		"an event":              {arrival.Add(-time.Second), arrival, arrival.Add(-time.Second), true},
		"a replay":              {arrival.AddDate(-14, 0, 0), arrival, arrival.AddDate(-14, 0, 0), true},
		"a clock that is ahead": {arrival.Add(time.Hour), arrival, arrival.Add(time.Hour), true},
		"two days to come":      {arrival.Add(48 * time.Hour), arrival, arrival.Add(48 * time.Hour), false},
		"the year 9999":         {time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), arrival, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), false},
		"1800":                  {time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC), arrival, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC), false},
		"arrived in 2150":       {time.Time{}, time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC), false},
		"arrived in 1970":       {time.Time{}, time.Unix(60, 0), time.Unix(60, 0), false},
	} {
		r := Row{EventTime: tt.event, ArrivalTime: tt.arrival}
		if at, ok := r.Time(); !at.Equal(tt.want) || ok != tt.ok {
			t.Errorf("%s: got %v, %v", name, at, ok)
		}
	}
}

// Rows count as live only if all of them are.
func TestSources(t *testing.T) {
	for _, tt := range []struct {
		rows     []string
		text     string
		evidence evidence.Source
	}{
		{nil, "unknown", evidence.Replay},
		{[]string{"live", "live"}, "live", evidence.Live},
		{[]string{"replay"}, "replay", evidence.Replay},
		{[]string{"simulated"}, "simulated", evidence.Simulated},
		{[]string{"", ""}, "unknown", evidence.Replay},
		{[]string{"live", "", "live"}, "mixed (2 live, 1 unknown)", evidence.Replay},
		{[]string{"live", "replay"}, "mixed (1 live, 1 replay)", evidence.Replay},
		{[]string{"live", "replay", "simulated", "somewhere"}, "mixed (1 live, 1 replay, 1 simulated, 1 unknown)", evidence.Simulated},
	} {
		s := Sources{}
		for _, source := range tt.rows {
			s.Add(&Row{Source: source})
		}
		if s.String() != tt.text || s.Evidence() != tt.evidence {
			t.Errorf("%q: got %q, %s", tt.rows, s, s.Evidence())
		}
	}
}

// The raw inputs take precedence over features with the same name.
func TestRowPrice(t *testing.T) {
	r := sample(schema(t, "v1.8.1"), 1, time.Now())
	if mid, spread := r.Price(); mid != r.Mid.Value || spread != r.SpreadBP.Value {
		t.Errorf("got %v, %v", mid, spread)
	}
	r.Mid, r.Features = Optional{}, nil
	if mid, _ := r.Price(); !math.IsNaN(mid) {
		t.Errorf("got %v", mid)
	}
}
