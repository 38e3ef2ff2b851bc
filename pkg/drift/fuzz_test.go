package drift_test

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// FuzzMerge adds foreign counts, such as replicas send. They are refused, or every index of the sum is at least 0, the
// rows add up, and the shares of each feature add up to 1.
func FuzzMerge(f *testing.F) {
	columns, days := rows(1, 6, 20)
	p, err := drift.NewProfile(columns, days)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, []byte{3, 2, 1}, uint8(1), uint8(0), uint8(0))
	f.Add(bytes.Repeat([]byte{5, 0, 255}, 12), bytes.Repeat([]byte{0}, 30), uint8(7), uint8(3), uint8(63))
	f.Fuzz(func(t *testing.T, a, b []byte, days, inputs, shift uint8) {
		of := func(data []byte) (*drift.Counts, bool) {
			bins := make([][]uint64, len(p.Features))
			rows := [2]uint64{} // rows of vectors, and of those with raw inputs
			for i := range p.Features {
				bins[i] = make([]uint64, p.Features[i].Bins())
				part := 0
				if i >= p.Scored() {
					part = 1
				}
				sum := uint64(0)
				for k := range bins[i] {
					if len(data) > 0 {
						bins[i][k], data = uint64(data[0])<<(shift%64), data[1:]
						sum += bins[i][k]
					}
				}
				if i == 0 || i == p.Scored() {
					rows[part] = sum
				} else if shift%2 == 0 { // makes most of them agree
					bins[i][0] += rows[part] - sum
				}
			}
			list := func(n uint8) []int {
				var days []int
				for d := range int(n % 30) {
					days = append(days, -d)
				}
				return days
			}
			c, err := drift.CountsOf(p, bins, list(days), list(inputs))
			return c, err == nil
		}
		x, okX := of(a)
		y, okY := of(b)
		if !okX || !okY {
			return
		}
		want := x.Rows() + y.Rows()
		if err := x.Merge(y); err != nil {
			return
		}
		if x.Rows() != want || want < y.Rows() {
			t.Fatalf("%d rows, want %d", x.Rows(), want)
		}
		for i := range p.Features {
			if x.RowsOf(i) == 0 {
				continue
			}
			sum := 0.0
			for _, s := range x.Shares(i) {
				sum += s
			}
			if !(math.Abs(sum-1) < 1e-9) {
				t.Fatalf("the shares of feature %d of %d rows add up to %v: %v", i, x.RowsOf(i), sum, x.Bins(i))
			}
		}
		overall, each := p.PSI(x)
		for i, v := range append(each, overall) {
			if math.IsInf(v, 0) || v < 0 || (math.IsNaN(v) && i < p.Scored() && x.Rows() > 0) {
				t.Fatalf("index %d is %v", i, v)
			}
		}
	})
}

// FuzzProfile reads a drift profile, such as a model has. It is refused, or it counts, yields indices, and is written
// back unchanged.
func FuzzProfile(f *testing.F) {
	columns, days := rows(1, 6, 20)
	p, err := drift.NewProfile(columns, days)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("0."), []byte("1e30"), 1))
	f.Add([]byte(`{"features":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := &drift.Profile{}
		if json.Unmarshal(raw, p) != nil {
			return
		}
		c := drift.NewCounts(p)
		for _, v := range []float64{0, math.NaN(), math.Inf(1), math.Inf(-1), 1e300, -1e-300} {
			x := make([]float64, len(p.Features))
			for i := range x {
				x[i] = v
			}
			c.Observe(1, x)
		}
		overall, each := p.PSI(c)
		for i, v := range append(each, overall) {
			if math.IsInf(v, 0) || math.IsNaN(v) || v < 0 {
				t.Fatalf("index %d is %v", i, v)
			}
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		back := &drift.Profile{}
		if err := json.Unmarshal(again, back); err != nil {
			t.Fatalf("cannot read what it wrote: %v", err)
		}
	})
}
