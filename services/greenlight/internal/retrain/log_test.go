package retrain

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/label"
)

// write logs rows like an executor.
func write(t *testing.T, rows ...featurelog.Row) string {
	t.Helper()
	dir := t.TempDir()
	l, err := featurelog.Open(featurelog.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		l.Log(r)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func schemaOf(t *testing.T, name string) (*feature.Schema, *featurelog.Schema) {
	t.Helper()
	f, ok := feature.Lookup(name)
	if !ok {
		t.Fatalf("no schema %s", name)
	}
	s, err := featurelog.NewSchema(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

// A log of v1.8.1 has no price among its features: the raw inputs provide the prices. Rows with an impossible time are
// skipped, and the log is live only if every row is.
func TestFromLogWithRawInputs(t *testing.T) {
	whole := data(t)
	frame, err := feature.Compute(whole.Bars[:3*1440])
	if err != nil {
		t.Fatal(err)
	}
	f, schema := schemaOf(t, "v1.8.1")
	var rows []featurelog.Row
	for i := range frame.Len() {
		x := make([]float64, f.Len())
		frame.Row(i, f, x)
		at := time.UnixMilli(frame.End(i)).UTC()
		rows = append(rows, featurelog.Row{
			Symbol: "GBP/USD", EventTime: at, ArrivalTime: at.Add(time.Millisecond), Schema: schema, Features: x, Source: "live",
			Mid: featurelog.Some(frame.Column("mid")[i]), SpreadBP: featurelog.Some(frame.Column("spread_bp")[i]),
		})
	}
	stray := rows[100]
	stray.EventTime = time.Date(2189, 1, 1, 0, 0, 0, 0, time.UTC)
	got, log, err := FromLog(featurelog.Log{Dir: write(t, append(rows, stray)...)}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if log.Used != len(rows) || log.Untimely != 1 || log.Unusable != 0 || log.Source() != evidence.Live || len(got.Bars) != len(rows) {
		t.Errorf("log %+v, %d bars, want %d", log, len(got.Bars), len(rows))
	}
	for i, b := range got.Bars {
		if want := frame.Column("mid")[i]; b.Close != want || !b.Quoted() {
			t.Fatalf("minute %d closes at %v, want %v with a quote", i, b.Close, want)
		}
	}
	rows[7].Source = "replay"
	if _, log, err = FromLog(featurelog.Log{Dir: write(t, rows...)}, "", 0); err != nil || log.Source() != evidence.Replay || !strings.HasPrefix(log.Sources.String(), "mixed (") {
		t.Errorf("got %v, %v", log, err)
	}
}

// TestFromLog logs the features of a market and rebuilds the market from the log: closes, spreads, features and labels.
func TestFromLog(t *testing.T) {
	whole := data(t)
	frame, err := feature.Compute(whole.Bars[:5*1440])
	if err != nil {
		t.Fatal(err)
	}
	f, schema := schemaOf(t, "v1.8")
	var rows []featurelog.Row
	for i := range frame.Len() {
		x := make([]float64, f.Len())
		frame.Row(i, f, x)
		at := time.UnixMilli(frame.End(i)).UTC()
		rows = append(rows, featurelog.Row{Symbol: "GBP/USD", EventTime: at, ArrivalTime: at.Add(time.Millisecond), Schema: schema, Features: x})
	}
	// Earlier requests of the same minute and requests without a price do not count.
	early := rows[100]
	early.EventTime = early.EventTime.Add(-30 * time.Second)
	early.Features = append([]float64{}, early.Features...)
	early.Features[f.Index("mid")] *= 2
	without := rows[200]
	without.Features = nil
	dir := write(t, append(rows, early, without)...)

	got, log, err := FromLog(featurelog.Log{Dir: dir}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "GBP-USD" || got.Simulated || got.Digest() == "" {
		t.Errorf("name %q, simulated %v, digest %q", got.Name, got.Simulated, got.Digest())
	}
	if log.Rows != len(rows)+2 || log.Used != len(rows) || log.Replaced != 1 || log.Unusable != 1 {
		t.Errorf("log %+v: want %d rows, one replaced and one unusable", log, len(rows)+2)
	}
	again, err := feature.Compute(got.Bars)
	if err != nil {
		t.Fatal(err)
	}
	if again.Len() != frame.Len() {
		t.Fatalf("%d minutes, want %d", again.Len(), frame.Len())
	}
	for _, name := range []string{"mid", "spread_bp", "vol1m", "rsi14_z", "vol1m_log_rel", "zscore_mid_24h"} {
		for i, want := range frame.Column(name) {
			have := again.Column(name)[i]
			if math.IsNaN(want) != math.IsNaN(have) || math.Abs(have-want) > 1e-6*max(1, math.Abs(want)) {
				t.Fatalf("%s at minute %d: got %v, want %v", name, i, have, want)
			}
		}
	}
	// The range of closes is at most that of highs and lows.
	for i, want := range label.Default().Range(frame) {
		if have := label.Default().Range(again)[i]; math.IsNaN(want) != math.IsNaN(have) || have > want+1e-9 {
			t.Fatalf("range at minute %d: %v of closes, %v of highs and lows", i, have, want)
		}
		if i > 200 {
			break
		}
	}
	newest, _, err := FromLog(featurelog.Log{Dir: dir}, "GBP/USD", 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(Newest(newest, 1).Bars); n == 0 || n > 1440 {
		t.Errorf("%d bars of the newest day", n)
	}
}

func TestFromLogRefuses(t *testing.T) {
	at := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	row := func(symbol, schema string) featurelog.Row {
		f, s := schemaOf(t, schema)
		x := make([]float64, f.Len())
		for i := range x {
			x[i] = 1
		}
		return featurelog.Row{Symbol: symbol, EventTime: at, ArrivalTime: at, Schema: s, Features: x}
	}
	for _, tt := range []struct {
		name   string
		rows   []featurelog.Row
		symbol string
		want   string
	}{
		{"empty", nil, "", "not a feature log, or it is empty"},
		{"no price", []featurelog.Row{row("A", "v1.8.1")}, "", "no row of the log has a mid and a spread_bp (schemas v1.8.1)"},
		{"several symbols", []featurelog.Row{row("B", "v1.8"), row("A", "v1.8")}, "", `several symbols: ["A" "B"]`},
		{"another symbol", []featurelog.Row{row("A", "v1.8")}, "C", `no symbol "C": it has A`},
	} {
		_, _, err := FromLog(featurelog.Log{Dir: write(t, tt.rows...)}, tt.symbol, 28)
		var refusal *RefusalError
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), tt.want) || refusal.Hint == "" {
			t.Errorf("%s: got %v, want a refusal with %q and a hint", tt.name, err, tt.want)
		}
	}
	if _, _, err := FromLog(featurelog.Log{Dir: t.TempDir() + "/absent"}, "", 28); err == nil {
		t.Error("a missing folder: no error")
	}
	if d, _, err := FromLog(featurelog.Log{Dir: write(t, row("SIM-PERP", "v1.8"))}, "", 28); err != nil || !d.Simulated {
		t.Errorf("a log of the simulator's instrument: %v, simulated %v", err, d)
	}
}
