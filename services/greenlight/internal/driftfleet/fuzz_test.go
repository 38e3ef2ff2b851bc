package driftfleet

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// parrot always gives the same answer.
type parrot struct{ answer *mlenginev1.GetDriftResponse }

func (p parrot) GetDrift(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
	return p.answer, nil
}

// FuzzRead adds up arbitrary answers of two replicas. Either they are refused, or the index of the fleet is at least 0 and the
// rows are the sum of the replicas' rows.
func FuzzRead(f *testing.F) {
	e := newEngine(profile(f))
	for i, x := range vectors(rand.New(rand.NewPCG(2, 0)), 400) {
		e.ring.Observe(newest-int64(400-i), x)
	}
	good, err := e.GetDrift(f.Context(), &mlenginev1.GetDriftRequest{Window: durationpb.New(7 * 24 * time.Hour), Bins: true, Reference: true, History: true})
	if err != nil {
		f.Fatal(err)
	}
	raw, err := proto.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	patch := func(change func(*mlenginev1.GetDriftResponse)) {
		a := &mlenginev1.GetDriftResponse{}
		change(a)
		raw, err := proto.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, false, uint8(0), uint8(0), uint64(0))
	}
	f.Add(raw, false, uint8(0), uint8(0), uint64(7))
	f.Add(raw, true, uint8(1), uint8(2), uint64(1)<<63)
	patch(func(a *mlenginev1.GetDriftResponse) { a.Rows = math.MaxUint64 })
	patch(func(a *mlenginev1.GetDriftResponse) {
		a.History = []*mlenginev1.DriftPoint{{Overall: math.NaN(), Features: make([]float64, 99)}}
	})
	f.Fuzz(func(t *testing.T, raw []byte, both bool, feature, bin uint8, count uint64) {
		a := &mlenginev1.GetDriftResponse{}
		if proto.Unmarshal(raw, a) != nil {
			return
		}
		// Missing fields keep their valid values, so that most answers pass the first checks.
		merged := proto.Clone(good).(*mlenginev1.GetDriftResponse)
		if len(a.GetFeatures()) > 0 || len(a.GetReference()) > 0 {
			merged = a
		} else {
			proto.Merge(merged, a)
		}
		if n := len(merged.GetFeatures()); n > 0 {
			if bins := merged.Features[int(feature)%n].GetBins(); len(bins) > 0 {
				bins[int(bin)%len(bins)].Count += count
			}
		}
		all := []fleet.Engine{{Addr: "A", Drift: parrot{merged}}}
		if both {
			all = append(all, fleet.Engine{Addr: "B", Drift: parrot{good}})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := Read(ctx, all, 7*24, true)
		if err != nil || r.Overall == nil {
			return
		}
		if v := r.Overall.PSI; !(v >= 0) || math.IsInf(v, 0) || r.Rows <= 0 {
			t.Fatalf("index %v of %d rows", v, r.Rows)
		}
		for _, reading := range r.Features {
			if !(reading.PSI >= 0) || math.IsInf(reading.PSI, 0) {
				t.Fatalf("%s: %v", reading.Feature, reading.PSI)
			}
			sum := 0.0
			for _, b := range reading.Bins {
				sum += b.Current
			}
			if !(math.Abs(sum-1) < 1e-9) {
				t.Fatalf("%s: the shares add up to %v", reading.Feature, sum)
			}
		}
	})
}
