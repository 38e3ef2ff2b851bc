package driftfleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// errMoved means that the hour or the model of a replica changed between two answers, so that they are not of the same counts.
var errMoved = errors.New("its counts changed while they were read")

// replica is one ml-engine with its first answer. Later answers must match it.
type replica struct {
	fleet.Engine

	first *mlenginev1.GetDriftResponse
	// hours is the window of the first answer.
	hours int
}

// ask returns the counts of the last hours.
func (r *replica) ask(ctx context.Context, req *mlenginev1.GetDriftRequest, hours int) (*mlenginev1.GetDriftResponse, error) {
	a, err := r.DriftCounts(ctx, req, hours)
	if err != nil {
		return nil, fmt.Errorf("drift of %s: %w", r.Addr, err)
	}
	if r.first == nil {
		r.first, r.hours = a, hours
	}
	if a.GetModelDigest() != r.first.GetModelDigest() || a.GetInstanceId() != r.first.GetInstanceId() ||
		a.GetReferenceDigest() != r.first.GetReferenceDigest() || endHour(a) != endHour(r.first) {
		return nil, fmt.Errorf("drift of %s: %w", r.Addr, errMoved)
	}
	return a, nil
}

// endHour returns the exclusive end of a window, in hours since 1970-01-01 UTC.
func endHour(a *mlenginev1.GetDriftResponse) int64 { return a.GetWindowEndTime().GetSeconds() / 3600 }

// counts returns the counts of a window of length hours that ended ago hours before end, which is in hours since 1970-01-01
// UTC. An older window is the difference of a longer and a shorter one. The shorter one is read first, so that no row is
// missing. Rows that are scored in the milliseconds between the two answers count in the older window.
func (r *replica) counts(ctx context.Context, p *drift.Profile, end int64, length, ago int) (*drift.Counts, error) {
	// A replica that takes the time from the events that it scores may be behind the others.
	lag := int(end - endHour(r.first))
	outer, inner := ago+length-lag, ago-lag
	if outer <= 0 {
		return drift.NewCounts(p), nil
	}
	near, far := &mlenginev1.GetDriftResponse{}, r.first
	var err error
	if inner > 0 {
		if near, err = r.ask(ctx, &mlenginev1.GetDriftRequest{}, inner); err != nil {
			return nil, err
		}
	}
	if inner > 0 || outer != r.hours {
		if far, err = r.ask(ctx, &mlenginev1.GetDriftRequest{}, outer); err != nil {
			return nil, err
		}
	}
	bins, err := less(p, far, near)
	if err != nil {
		return nil, fmt.Errorf("drift of %s: %w", r.Addr, err)
	}
	newest, features := end-int64(ago)-1, far.GetFeatures()
	scored := drift.DaysBefore(newest, features[0].GetHours())
	var inputs []int
	if p.Scored() < len(features) {
		inputs = drift.DaysBefore(newest, features[p.Scored()].GetHours())
	}
	if len(scored) == 0 {
		return drift.NewCounts(p), nil
	}
	if len(inputs) == 0 {
		for _, counts := range bins[p.Scored():] {
			clear(counts)
		}
	}
	c, err := drift.CountsOf(p, bins, scored, inputs)
	if err != nil {
		return nil, fmt.Errorf("drift of %s: %w", r.Addr, err)
	}
	return c, nil
}

// less returns the counts of far minus those of near, by feature and bin. near may be empty.
func less(p *drift.Profile, far, near *mlenginev1.GetDriftResponse) ([][]uint64, error) {
	bins, err := binsOf(p, far)
	if err != nil || len(near.GetFeatures()) == 0 {
		return bins, err
	}
	newer, err := binsOf(p, near)
	if err != nil {
		return nil, err
	}
	for i := range bins {
		for b, n := range newer[i] {
			if n > bins[i][b] {
				return nil, errMoved
			}
			bins[i][b] -= n
		}
	}
	return bins, nil
}

// binsOf returns the counts of an answer by feature and bin.
func binsOf(p *drift.Profile, a *mlenginev1.GetDriftResponse) ([][]uint64, error) {
	if len(a.GetFeatures()) != len(p.Features) {
		return nil, fmt.Errorf("%d features, but the reference has %d", len(a.GetFeatures()), len(p.Features))
	}
	bins := make([][]uint64, len(p.Features))
	for i, f := range a.GetFeatures() {
		want := &p.Features[i]
		if f.GetFeature() != want.Name || len(f.GetBins()) != want.Bins() {
			return nil, fmt.Errorf("feature %q with %d bins, but the reference has %q with %d", f.GetFeature(), len(f.GetBins()), want.Name, want.Bins())
		}
		for _, bin := range f.GetBins() {
			bins[i] = append(bins[i], bin.GetCount())
		}
	}
	return bins, nil
}
