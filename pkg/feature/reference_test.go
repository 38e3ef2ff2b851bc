package feature

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

// dataDir returns the folder of the real market data; tests that need it skip if it is not set.
func dataDir(tb testing.TB) string {
	tb.Helper()
	return need.Data(tb)
}

// reference reads a table of the reference folder: one map per row, with NaN for empty cells.
func reference(t *testing.T, file string) []map[string]float64 {
	t.Helper()
	f, err := os.Open(filepath.Join(dataDir(t), "reference", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]float64
	for _, r := range records[1:] {
		row := map[string]float64{}
		for k, name := range records[0] {
			row[name] = math.NaN()
			if r[k] == "" {
				continue
			}
			if row[name], err = strconv.ParseFloat(r[k], 64); err != nil {
				t.Fatal(err)
			}
		}
		rows = append(rows, row)
	}
	if len(rows) < 100 {
		t.Fatalf("%s: only %d rows", file, len(rows))
	}
	return rows
}

func compute(t *testing.T, set string) (*Frame, map[int64]int) {
	t.Helper()
	series, err := marketfile.Read(filepath.Join(dataDir(t), set), marketfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Compute(series.Bars)
	if err != nil {
		t.Fatal(err)
	}
	at := map[int64]int{}
	for i := range f.Len() {
		at[f.End(i)] = i
	}
	return f, at
}

// agree compares a value with the table, which has at least nine digits, to a relative 1e-8. The absolute tolerance is
// for zeros: the table's rolling sums leave about 1e-12 there.
func agree(t *testing.T, name string, at, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-8*math.Abs(want)+1e-11) {
		t.Errorf("%s at %.0f: got %.12g, want %.12g", name, at, got, want)
	}
}

func TestReferencePipeline(t *testing.T) {
	// The table's columns under our names.
	columns := map[string]string{
		"mid": "mid", "spread_bp": "spread_bp", "vol1m": "vol1m", "rsi14": "rsi14",
		"mid_logret_1m": "mid_logret_1m", "mid_logret_5m": "mid_logret_5m",
		"rsi14_z": "rsi14_z", "zscore_mid_24h": "zscore_mid_24h",
		"sig_u": "sigma_ref", "spread_ref_u": "spread_ref",
		"vol1m_u": "vol1m_log_rel", "spread_u": "spread_bp_rel",
		"r1_u": "mid_logret_1m_rel", "r5_u": "mid_logret_5m_rel",
	}
	tests := []struct{ name, set, file string }{
		{"btcperp", "btcperp-ftx-1m", "pipeline_btcperp.csv"},
		{"gbpusd", "gbpusd-fxcm-1m-bidask", "pipeline_gbpusd.csv"},
		{"filusdt", "filusdt-binance-1m", "pipeline_filusdt_2024.csv"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, at := compute(t, tt.set)
			for _, row := range reference(t, tt.file) {
				ts := row["ts_end"]
				i, ok := at[int64(ts)*1000]
				if !ok {
					t.Fatalf("no minute ends at %.0f", ts)
				}
				for theirs, ours := range columns {
					want, ok := row[theirs]
					if !ok {
						t.Fatalf("no column %s", theirs)
					}
					agree(t, ours, ts, f.Column(ours)[i], want)
				}
			}
		})
	}
}

func TestReferenceMidAndSpread(t *testing.T) {
	f, at := compute(t, "gbpusd-fxcm-1m-bidask")
	for _, row := range reference(t, "mid_spread_gbpusd.csv") {
		i, ok := at[int64(row["ts_end"])*1000]
		if !ok {
			t.Fatalf("no minute ends at %.0f", row["ts_end"])
		}
		agree(t, "mid", row["ts_end"], f.Column("mid")[i], row["mid"])
		agree(t, "spread_bp", row["ts_end"], f.Column("spread_bp")[i], row["spread_bp"])
	}
}

func TestReferenceRSI(t *testing.T) {
	var w wilder
	last := math.NaN()
	for _, row := range reference(t, "rsi14_wilder.csv") {
		w.push(row["price"] - last)
		last = row["price"]
		if got, want := w.value(), row["rsi14"]; !math.IsNaN(got) || !math.IsNaN(want) {
			agree(t, "rsi14", row["i"], got, want)
		}
	}
}

func TestReferenceRolling(t *testing.T) {
	f, at := compute(t, "btcperp-ftx-1m")
	rows := reference(t, "rolling_btcperp.csv")
	long := newWindow(120, 120)
	compared := map[string]int{}
	compare := func(name string, ts, got, want float64) {
		if !math.IsNaN(want) { // our windows are defined earlier than those of the table
			compared[name]++
			agree(t, name, ts, got, want)
		}
	}
	for k, row := range rows {
		ts := row["ts_end"]
		i, ok := at[int64(ts)*1000]
		if !ok {
			t.Fatalf("no minute ends at %.0f", ts)
		}
		long.push(row["close"])
		compare("r1_bp", ts, f.Column("mid_logret_1m")[i], row["r1_bp"])
		compare("rv60_bp", ts, f.Column("vol1m")[i], row["rv60_bp"])
		compare("z_mid_120", ts, long.z(row["close"]), row["z_mid_120"])
		if k > 0 {
			before := rows[k-1]
			compare("corwin_schultz_bp", ts, CorwinSchultz(before["high"], before["low"], row["high"], row["low"]), row["corwin_schultz_bp"])
		}
	}
	for _, name := range []string{"r1_bp", "rv60_bp", "z_mid_120", "corwin_schultz_bp"} {
		if compared[name] < 150 {
			t.Errorf("%s: compared %d values only", name, compared[name])
		}
	}
}
