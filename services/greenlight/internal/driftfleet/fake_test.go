package driftfleet

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// engine is an in-process DriftService that counts rows like ml-engine and answers from these counts.
type engine struct {
	profile          *drift.Profile
	ring             *drift.Ring
	model, reference string
	calls            int
	// spoil, which may be nil, changes an answer.
	spoil func(call int, a *mlenginev1.GetDriftResponse)
	err   error
}

func newEngine(p *drift.Profile) *engine {
	return &engine{profile: p, ring: drift.NewRing(p), model: "v1.8.1-rc1", reference: digest('a')}
}

func digest(c byte) string {
	d := make([]byte, 64)
	for i := range d {
		d[i] = c
	}
	return string(d)
}

// GetDrift implements DriftServiceClient.
func (e *engine) GetDrift(_ context.Context, req *mlenginev1.GetDriftRequest, _ ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
	e.calls++
	if e.err != nil {
		return nil, e.err
	}
	hours := int(req.GetWindow().AsDuration() / time.Hour)
	end := e.ring.Present()
	counts, scored, inputs := e.ring.Window(end, hours)
	a := &mlenginev1.GetDriftResponse{
		ModelVersion: e.model, ModelDigest: digest(e.model[len(e.model)-1]), ReferenceDigest: e.reference,
		WindowEndTime: &timestamppb.Timestamp{Seconds: (end + 1) * 3600}, Rows: counts.Rows(),
	}
	for i := range e.profile.Features {
		f := &e.profile.Features[i]
		d := &mlenginev1.FeatureDrift{Feature: f.Name, Role: string(f.Role), Rows: counts.RowsOf(i), Hours: scored}
		if i >= e.profile.Scored() {
			d.Hours = inputs
		}
		for b, n := range counts.Bins(i) {
			d.Bins = append(d.Bins, &mlenginev1.DriftBin{Bin: f.BinName(b), Count: n})
		}
		a.Features = append(a.Features, d)
	}
	if req.GetReference() {
		raw, err := json.Marshal(e.profile)
		if err != nil {
			return nil, err
		}
		a.Reference = raw
	}
	if req.GetHistory() {
		for ago := drift.RingHours - historyHours; ago >= 0; ago -= 24 {
			if week, _, _ := e.ring.Window(end-int64(ago), historyHours); week.Rows() > 0 {
				overall, each := e.profile.PSI(week)
				a.History = append(a.History, &mlenginev1.DriftPoint{
					WindowEndTime: &timestamppb.Timestamp{Seconds: (end + 1 - int64(ago)) * 3600}, Rows: week.Rows(), Overall: overall, Features: each,
				})
			}
		}
	}
	if e.spoil != nil {
		e.spoil(e.calls, a)
	}
	return a, nil
}

// vectors returns n rows of two features, the score and a raw input.
func vectors(rng *rand.Rand, n int) [][]float64 {
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = []float64{rng.NormFloat64(), rng.ExpFloat64(), rng.Float64(), 100 + rng.NormFloat64()}
	}
	return rows
}

// profile returns the profile of 28 days of such rows.
func profile(t testing.TB) *drift.Profile {
	t.Helper()
	columns := []drift.Column{{Name: "a"}, {Name: "b"}, {Name: "score", Role: drift.Score}, {Name: "mid", Role: drift.RawInput}}
	var days []int
	for i, x := range vectors(rand.New(rand.NewPCG(1, 0)), 28*50) {
		days = append(days, 20_000+i/50)
		for j := range columns {
			columns[j].Values = append(columns[j].Values, x[j])
		}
	}
	p, err := drift.NewProfile(columns, days)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newest is the last hour of the tests.
const newest = 480_000

func replicas(engines ...*engine) []fleet.Engine {
	var all []fleet.Engine
	for i, e := range engines {
		all = append(all, fleet.Engine{Addr: string(rune('A' + i)), Drift: e})
	}
	return all
}
