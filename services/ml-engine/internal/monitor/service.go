package monitor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// weekHours is the window of the gauges, and the default of [Service.GetDrift].
const weekHours = 7 * 24

// Service is ml-engine's DriftService.
type Service struct {
	mlenginev1.UnimplementedDriftServiceServer

	monitor *Monitor
	// instance is a random id of this process.
	instance string
	// slots limits the concurrent computation of answers: each takes up to a megabyte.
	slots chan struct{}
}

// maxAnswers is how many answers are computed concurrently. Other requests wait.
const maxAnswers = 4

// NewService returns a service that answers from the monitor's active watch.
func NewService(m *Monitor) *Service {
	return &Service{monitor: m, instance: rand.Text(), slots: make(chan struct{}, maxAnswers)}
}

// GetDrift implements DriftService.
func (s *Service) GetDrift(ctx context.Context, req *mlenginev1.GetDriftRequest) (*mlenginev1.GetDriftResponse, error) {
	hours := weekHours
	if d := req.GetWindow(); d != nil {
		length := d.AsDuration()
		hours = int(length / time.Hour)
		if !d.IsValid() || length%time.Hour != 0 || hours < 1 || hours > drift.RingHours {
			return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_WINDOW_INVALID,
				"window %v: want whole hours from 1 to %d", length, drift.RingHours)
		}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	w := s.monitor.Active()
	if w == nil {
		return nil, rpc.EngineError(codes.FailedPrecondition, mlenginev1.ErrorReason_ERROR_REASON_REFERENCE_MISSING,
			"the active model has no reference profile: train it, or import it with its training data, to get one")
	}
	ring := w.view(time.Now()) // one copy, so that the whole answer is consistent
	seen := windowOf(ring, hours, 0)
	resp := &mlenginev1.GetDriftResponse{
		ModelVersion: w.version, ModelDigest: w.owner.Model, ReferenceDigest: w.owner.Reference,
		WindowStartTime: hourTime(seen.end + 1 - int64(hours)), WindowEndTime: hourTime(seen.end + 1),
		Rows: seen.counts.Rows(), Days: uint32(len(seen.counts.Days())),
		Source:     sourceOf(ring.MarkOf(seen.end, hours)),
		InstanceId: s.instance, ReferenceRows: uint64(w.profile.Rows), ReferenceDays: uint32(len(w.profile.Days)),
	}
	snapshot, err := w.profile.Snapshot(seen.counts, w.nulls, drift.DefaultLimits())
	switch {
	case errors.Is(err, drift.ErrNoRows):
		snapshot = &drift.Snapshot{}
	case err != nil:
		return nil, fmt.Errorf("drift: %w", err)
	default:
		resp.Overall = readingOf(snapshot.Overall)
		if snapshot.Weighted != nil {
			resp.OverallWeighted = readingOf(*snapshot.Weighted)
		}
	}
	resp.Features = features(w, seen, snapshot, req.GetBins())
	if req.GetReference() {
		if resp.Reference, err = referenceOf(w.profile); err != nil {
			return nil, fmt.Errorf("reference: %w", err)
		}
	}
	if req.GetHistory() {
		resp.History = history(w.profile, ring)
	}
	return resp, nil
}

// window has the counts of some hours.
type window struct {
	counts         *drift.Counts
	end            int64 // the newest hour
	scored, inputs []int64
}

// windowOf returns the counts of a window of the given hours that ended ago hours before the present.
func windowOf(ring *drift.Ring, hours, ago int) window {
	v := window{end: ring.Present() - int64(ago)}
	v.counts, v.scored, v.inputs = ring.Window(v.end, hours)
	return v
}

// referenceOf returns the profile exactly as stored in the model's folder, so that its digest matches.
func referenceOf(p *drift.Profile) ([]byte, error) {
	raw, err := json.MarshalIndent(p, "", "  ")
	return append(raw, '\n'), err
}

// features returns the features of the profile, with a reading if there are rows.
func features(w *Watch, seen window, snapshot *drift.Snapshot, bins bool) []*mlenginev1.FeatureDrift {
	readings := make(map[string]*drift.FeatureReading, len(snapshot.Features))
	for i := range snapshot.Features {
		readings[snapshot.Features[i].Feature] = &snapshot.Features[i]
	}
	all := make([]*mlenginev1.FeatureDrift, len(w.profile.Features))
	for i := range w.profile.Features {
		f := &w.profile.Features[i]
		d := &mlenginev1.FeatureDrift{Feature: f.Name, Role: string(f.Role), Rows: seen.counts.RowsOf(i), Weight: f.Weight}
		r := readings[f.Name]
		if r != nil {
			d.Reading, d.EffectiveRows = readingOf(r.Reading), r.Effective
		}
		if bins {
			d.Hours = seen.scored
			if i >= w.profile.Scored() {
				d.Hours = seen.inputs
			}
			counts := seen.counts.Bins(i)
			for b, share := range f.Shares {
				bin := &mlenginev1.DriftBin{Bin: f.BinName(b), Range: f.BinRange(b), Reference: share, Count: counts[b]}
				if r != nil {
					bin.Psi = r.Bins[b].PSI
				}
				d.Bins = append(d.Bins, bin)
			}
		}
		all[i] = d
	}
	return all
}

// history returns the index of the 7-day windows that ended 21, 20, ... 0 days ago, without empty ones.
func history(p *drift.Profile, ring *drift.Ring) []*mlenginev1.DriftPoint {
	var points []*mlenginev1.DriftPoint
	for ago := drift.RingHours - weekHours; ago >= 0; ago -= 24 {
		seen := windowOf(ring, weekHours, ago)
		if seen.counts.Rows() == 0 {
			continue
		}
		overall, each := p.PSI(seen.counts)
		points = append(points, &mlenginev1.DriftPoint{
			WindowEndTime: hourTime(seen.end + 1), Rows: seen.counts.Rows(), Overall: overall, Features: each,
		})
	}
	return points
}

var verdicts = map[gate.Verdict]mlenginev1.DriftVerdict{
	gate.Pass:         mlenginev1.DriftVerdict_DRIFT_VERDICT_PASS,
	gate.Fail:         mlenginev1.DriftVerdict_DRIFT_VERDICT_FAIL,
	gate.Inconclusive: mlenginev1.DriftVerdict_DRIFT_VERDICT_INCONCLUSIVE,
	gate.Error:        mlenginev1.DriftVerdict_DRIFT_VERDICT_ERROR,
}

func readingOf(r drift.Reading) *mlenginev1.DriftReading {
	d := &mlenginev1.DriftReading{
		Psi: r.PSI, PValue: r.P, Threshold: r.Threshold, Verdict: verdicts[r.Verdict], Reason: r.Reason, Status: string(r.Status),
	}
	if r.Noise != nil {
		d.NullExpected, d.NullQ95, d.NullQ99 = &r.Expected, &r.Q95, &r.Q99
	}
	return d
}

func hourTime(hour int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: hour * 3600} }
