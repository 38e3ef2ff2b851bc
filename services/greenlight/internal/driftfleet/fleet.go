// Package driftfleet reads the drift counts of one or several ml-engines and judges their sum. The index of a fleet is
// computed from the summed counts. It is not the mean of the indices.
package driftfleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// The schemas of psi_snapshot.json. Files of v1 use the bands of [drift.StatusOfV1].
const (
	Schema   = "greenlight/psi_snapshot/v2"
	SchemaV1 = "greenlight/psi_snapshot/v1"
)

// historyHours is the length of a history's windows, as in ml-engine.
const historyHours = 7 * 24

// Report is the drift of a fleet: the body of psi_snapshot.json.
type Report struct {
	driftview.Report
	// ReferenceDigest is the SHA-256 of the reference profile, the same for all replicas.
	ReferenceDigest string         `json:"reference_digest"`
	Replicas        []ReplicaCount `json:"replicas"`
	// Model is the model that all replicas serve. Sources counts the replicas by the least live source of their rows. Both belong
	// in the header.
	Model   evidence.Model   `json:"-"`
	Sources evidence.Sources `json:"-"`
}

// ReplicaCount is the number of rows of one replica.
type ReplicaCount struct {
	Address string `json:"address"`
	Rows    uint64 `json:"rows"`
}

// File is the name of the report in the evidence.
const File = "psi_snapshot.json"

// Write writes the report and its figures, and returns the number of figures. If the rows have a less live source than the
// header, the header gets that source.
func (r *Report) Write(store *evidence.Store, header evidence.Header) (int, error) {
	header.Source = r.Sources.Least(header.Source)
	return r.Report.Write(store, File, "", r.Title(r.Model.Version, header.Source), header, r)
}

// attempts bounds how often a fleet is read if its hour keeps changing meanwhile.
const attempts = 3

// Read reads the last hours, 1 to [drift.RingHours], of at least one replica. With history it also reads the indices of
// earlier weeks. It returns an error if a replica does not answer, since its counts would be missing, or if the replicas have
// different models or references. It returns a [fleet.ErrDuplicate] if two of them are one process. A report without rows has
// a reason.
func Read(ctx context.Context, replicas []fleet.Engine, hours int, history bool) (*Report, error) {
	if len(replicas) == 0 {
		return nil, errors.New("no ml-engine to ask")
	}
	for attempt := 1; ; attempt++ {
		r, err := read(ctx, replicas, hours, history)
		if err == nil || !errors.Is(err, errMoved) || attempt == attempts {
			return r, err
		}
	}
}

func read(ctx context.Context, replicas []fleet.Engine, hours int, history bool) (*Report, error) {
	f := &group{}
	var err error
	for _, r := range replicas {
		f.replicas = append(f.replicas, &replica{Engine: r})
	}
	if err = f.open(ctx, hours, history); err != nil {
		return nil, err
	}
	first := f.replicas[0].first
	report := &Report{
		ReferenceDigest: first.GetReferenceDigest(),
		Model:           modelOf(first),
		Sources:         make(evidence.Sources),
	}
	total := drift.NewCounts(f.profile)
	for _, r := range f.replicas {
		c, err := r.counts(ctx, f.profile, f.end, hours, 0)
		if err != nil {
			return nil, err
		}
		if err := total.Merge(c); err != nil {
			return nil, err
		}
		report.Replicas = append(report.Replicas, ReplicaCount{r.Addr, c.Rows()})
		report.Sources[sourceOf(r.first.GetSource())]++
	}
	window := driftview.Window{Hours: hours, Start: hourTime(f.end - int64(hours)), End: hourTime(f.end)}
	nulls := drift.NewNulls(f.profile, driftview.Replicates, driftview.Seed)
	snapshot, err := f.profile.Snapshot(total, nulls, drift.DefaultLimits())
	if errors.Is(err, drift.ErrNoRows) {
		reason := fmt.Sprintf("no rows: nothing was scored in the last %d hours", hours)
		report.Report = *driftview.Empty(f.profile, driftview.Window{Hours: hours}, reason)
		return report, nil
	}
	if err != nil {
		return nil, err
	}
	report.Report = *driftview.New(snapshot, window, drift.DefaultLimits())
	if history {
		report.History, err = f.history(ctx)
	}
	return report, err
}

// sourceOf returns the source that an ml-engine reports: live if it reports none, and simulated if it is unknown.
func sourceOf(s mlenginev1.Source) evidence.Source {
	switch s {
	case mlenginev1.Source_SOURCE_UNSPECIFIED, mlenginev1.Source_SOURCE_LIVE:
		return evidence.Live
	case mlenginev1.Source_SOURCE_REPLAY:
		return evidence.Replay
	case mlenginev1.Source_SOURCE_SIMULATED:
	}
	return evidence.Simulated
}

// group is replicas with one reference profile.
type group struct {
	replicas []*replica
	profile  *drift.Profile
	// end is the exclusive end of the newest window, in hours since 1970-01-01 UTC.
	end int64
}

// open reads every replica once, and checks that they have one model, one reference and plausible clocks.
func (f *group) open(ctx context.Context, hours int, history bool) error {
	for i, r := range f.replicas {
		a, err := r.ask(ctx, &mlenginev1.GetDriftRequest{Reference: i == 0, History: history && len(f.replicas) == 1}, hours)
		if err != nil {
			return err
		}
		lead := f.replicas[0]
		switch {
		case a.GetModelDigest() != lead.first.GetModelDigest():
			return fmt.Errorf("%s and %s have different models, %s and %s: their counts cannot be merged", lead.Addr, r.Addr, modelOf(lead.first), modelOf(a))
		case a.GetReferenceDigest() != lead.first.GetReferenceDigest():
			return fmt.Errorf("%s and %s have different references, %.12s and %.12s: their counts cannot be merged", lead.Addr, r.Addr,
				lead.first.GetReferenceDigest(), a.GetReferenceDigest())
		}
		if i == 0 {
			f.profile = &drift.Profile{}
			if err := json.Unmarshal(a.GetReference(), f.profile); err != nil {
				return fmt.Errorf("reference of %s: %w", r.Addr, err)
			}
		}
		end := endHour(a)
		if latest := time.Now().Add(maxAhead).Unix() / 3600; end < 0 || end > latest {
			return fmt.Errorf("drift of %s: its window ends with hour %d since 1970, and it is hour %d here: one of the two clocks is wrong, and the rows of the other replicas would be left out",
				r.Addr, end, latest-int64(maxAhead/time.Hour))
		}
		f.end = max(f.end, end)
	}
	var names, processes []string
	for _, r := range f.replicas {
		names, processes = append(names, r.Addr), append(processes, r.first.GetInstanceId())
	}
	return fleet.CheckDistinct("ml-engine", names, processes)
}

// maxAhead bounds how far ahead of this machine's clock the window of a replica may end: the current hour, and one more for
// clocks that differ.
const maxAhead = 2 * time.Hour

func modelOf(a *mlenginev1.GetDriftResponse) evidence.Model {
	return evidence.Model{Version: a.GetModelVersion(), Digest: a.GetModelDigest()}
}

func hourTime(hour int64) time.Time { return time.Unix(hour*3600, 0).UTC() }

// history returns the indices of the weeks that ended 21, 20, ... 0 days ago and have rows. A single replica sends them. With
// several replicas, the counts of every week are added up.
func (f *group) history(ctx context.Context) ([]driftview.Point, error) {
	points, err := f.weeks(ctx)
	if len(points) == 0 || len(points) > (drift.RingHours-historyHours)/24 {
		return points, err // the counts go back this far, so it is unknown whether the first week was full
	}
	// The week that ended a day before the first point has no rows, so counting started within the 24 hours after it.
	for i := range points {
		points[i].Partial = points[i].End.Before(points[0].End.Add((historyHours - 24) * time.Hour))
	}
	return points, err
}

func (f *group) weeks(ctx context.Context) ([]driftview.Point, error) {
	points := []driftview.Point{}
	if len(f.replicas) == 1 {
		for _, p := range f.replicas[0].first.GetHistory() {
			points = append(points, f.point(p.GetWindowEndTime().AsTime(), p.GetRows(), p.GetOverall(), p.GetFeatures()))
		}
		return points, nil
	}
	for ago := drift.RingHours - historyHours; ago >= 0; ago -= 24 {
		week := drift.NewCounts(f.profile)
		for _, r := range f.replicas {
			c, err := r.counts(ctx, f.profile, f.end, historyHours, ago)
			if err != nil {
				return nil, err
			}
			if err := week.Merge(c); err != nil {
				return nil, err
			}
		}
		if week.Rows() > 0 {
			overall, each := f.profile.PSI(week)
			points = append(points, f.point(hourTime(f.end-int64(ago)), week.Rows(), overall, each))
		}
	}
	return points, nil
}

// point returns a point with the feature names of the profile. It omits features without rows.
func (f *group) point(end time.Time, rows uint64, overall float64, each []float64) driftview.Point {
	p := driftview.Point{End: end, Rows: int(rows), Overall: overall, Features: map[string]float64{}}
	for i, v := range each {
		if i < len(f.profile.Features) && !math.IsNaN(v) {
			p.Features[f.profile.Features[i].Name] = v
		}
	}
	return p
}
