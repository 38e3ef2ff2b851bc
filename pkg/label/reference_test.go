package label_test

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

func TestReferenceLabels(t *testing.T) {
	dir := need.Data(t)
	tests := []struct{ name, path, file string }{
		{"btcperp", "btcperp-ftx-1m", "pipeline_btcperp.csv"},
		{"gbpusd", "gbpusd-fxcm-1m-bidask", "pipeline_gbpusd.csv"},
		{"filusdt", "filusdt-binance-1m", "pipeline_filusdt_2024.csv"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			series, err := marketfile.Read(filepath.Join(dir, tt.path), marketfile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			f := compute(t, series.Bars)
			row := map[int64]int{}
			for i := range f.Len() {
				row[f.End(i)] = i
			}
			file, err := os.Open(filepath.Join(dir, "reference", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			records, err := csv.NewReader(file).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			if len(records) < 200 {
				t.Fatalf("only %d reference rows", len(records))
			}
			columns := map[string][]float64{"range15_bp": label.Default().Range(f), "z_label": label.Default().Z(f)}
			checked := 0
			for _, r := range records[1:] {
				ts, err := strconv.ParseInt(r[0], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				i, ok := row[ts*1000]
				if !ok {
					t.Fatalf("no minute ends at %d", ts)
				}
				for k, name := range records[0] {
					column, ok := columns[name]
					if !ok {
						continue
					}
					want, err := strconv.ParseFloat(r[k], 64)
					if err != nil {
						t.Fatal(err)
					}
					checked++
					if !(math.Abs(column[i]-want) <= 1e-8*math.Abs(want)) {
						t.Errorf("%s at %d: got %.10g, want %.10g", name, ts, column[i], want)
					}
				}
			}
			if checked != 2*(len(records)-1) {
				t.Errorf("checked %d values of %d rows", checked, len(records)-1)
			}
		})
	}
}
