package featurelog

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func schema(t testing.TB, name string) *Schema {
	t.Helper()
	f, ok := feature.Lookup(name)
	if !ok {
		t.Fatal("no schema " + name)
	}
	s, err := NewSchema(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sample returns row i of a plausible log.
func sample(s *Schema, i int, arrival time.Time) Row {
	rng := rand.New(rand.NewPCG(uint64(i), 0))
	r := Row{
		RequestID: fmt.Sprintf("req-%08d", i), Symbol: "BTCUSDT",
		EventTime: arrival.Add(-3 * time.Millisecond), ArrivalTime: arrival,
		Schema:        s,
		BaselineScore: rng.Float64(), BaselineVersion: "v1.8.1-b0", BaselineDigest: strings.Repeat("0a", 32),
		Outcome: "match", ModelVersion: "v1.8.1-rc1", ModelDigest: strings.Repeat("b1", 32),
		ShadowScore: Some(rng.Float64()), ShadowLatencyMS: Some(float64(rng.IntN(4000)) / 1000),
		Source: "live", Mid: Some(100 + rng.Float64()), SpreadBP: Some(rng.Float64()),
	}
	for range s.Features {
		r.Features = append(r.Features, rng.NormFloat64())
	}
	switch i % 3 {
	case 1:
		r.Decision = Decision{By: "model", Score: r.ShadowScore, Revision: uint64(i)}
	case 2:
		r.Decision = Decision{By: "baseline", Reason: "out_of_domain", Score: Some(r.BaselineScore), Revision: math.MaxInt64}
	}
	return r
}

// all reads the whole log.
func all(t testing.TB, dir string) []Row {
	t.Helper()
	var rows []Row
	for r, err := range Read(dir, time.Time{}, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}

// list returns the files of the log, relative to its folder.
func list(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	if err := walk(dir, func(string) bool { return true }, func(p Part) error {
		files = append(files, filepath.FromSlash(p.Path()))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

// equal reports whether two rows are the same. NaN equals NaN, schemas compare by content, times to the microsecond.
func equal(a, b Row) bool {
	text := func(r Row) string {
		s := r.Schema
		event, arrival := r.EventTime.UnixMicro(), r.ArrivalTime.UnixMicro()
		r.Schema, r.EventTime, r.ArrivalTime = nil, time.Time{}, time.Time{}
		return fmt.Sprint(r, event, arrival, s.Name, s.Hash, s.Features)
	}
	return text(a) == text(b) && math.Float64bits(a.BaselineScore) == math.Float64bits(b.BaselineScore)
}
