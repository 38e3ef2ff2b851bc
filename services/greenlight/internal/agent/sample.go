package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// Services are what an agent samples.
type Services struct {
	Dial fleet.Dialer
	// Engines and Executors are gRPC addresses.
	Engines, Executors []string
	// Group provides the executors instead of Executors; nil if there is no group.
	Group *fleetgroup.Group
	// Hours is the length of the drift window. Timeout limits the wait for all services of one kind.
	Hours   int
	Timeout time.Duration
	// Evidence is the folder in which promotions are recorded.
	Evidence string
}

// Sample reads all services concurrently. ml-engines and executors have separate timeouts, so a service that hangs does not
// hide the others. The sample lists services that do not answer as missing.
func (s Services) Sample(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
	var executors []fleet.Counters
	var errs []error
	var asked []string
	var drift *driftfleet.Report
	var driftErr error
	var wg sync.WaitGroup
	wg.Go(func() { executors, asked, errs = s.counters(ctx) })
	wg.Go(func() { drift, driftErr = s.drift(ctx) })
	var live *report.Quality
	var liveErr error
	wg.Go(func() { live, liveErr = s.quality(ctx, now) })
	wg.Wait()
	sample := report.Sample{Time: now, Executors: []report.Counters{}, Quality: live}
	if liveErr != nil {
		sample.Missing = append(sample.Missing, report.Missing{Service: report.LiveQuality, Address: strings.Join(s.addresses(), ","), Reason: liveErr.Error()})
	}
	for _, c := range executors {
		sample.Executors = append(sample.Executors, report.CountersOf(c))
	}
	for i, addr := range asked {
		if errs[i] != nil {
			sample.Missing = append(sample.Missing, report.Missing{Service: report.Executor, Address: addr, Reason: fleet.Plain(errs[i]).Error()})
		}
	}
	missing := ""
	switch {
	case driftErr != nil:
		missing = driftErr.Error()
	case drift.Overall == nil:
		missing = drift.Reason
	}
	if missing != "" {
		sample.Missing = append(sample.Missing, report.Missing{Service: report.Engine, Address: strings.Join(s.Engines, ","), Reason: missing})
	}
	if drift != nil {
		sample.Drift = report.DriftOf(drift, now)
	}
	return sample, drift
}

// drift reads the drift of all ml-engines. The report is nil after an error.
func (s Services) drift(ctx context.Context) (*driftfleet.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	services, err := fleet.Connect(s.Dial, s.Engines, nil)
	if err != nil {
		return nil, err
	}
	r, err := driftfleet.Read(ctx, services.Engines, s.Hours, true)
	if err = errors.Join(err, services.Close()); err != nil {
		return nil, err
	}
	return r, nil
}

// counters reads the counters of the executors that answer, and returns one error per executor. Decisions are only known for
// executors that also let the agent read their rollout, which requires the operator's token.
func (s Services) counters(ctx context.Context) (all []fleet.Counters, asked []string, errs []error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	services, err := s.executors()
	if err != nil {
		return nil, s.addresses(), slices.Repeat([]error{err}, len(s.addresses()))
	}
	for _, e := range services.Executors {
		asked = append(asked, e.Addr)
	}
	all, errs = fleet.ReadCounters(ctx, services.Executors)
	gates, unread := fleet.Each(services.Executors, func(e fleet.Executor) (*executorv1.GetRolloutResponse, error) { return e.Rollout(ctx) })
	for i := range all {
		j := slices.Index(asked, all[i].Executor)
		if unread[j] == nil && gates[j].GetInstanceId() == all[i].Instance {
			all[i].Decisions = fleet.DecisionsOf(gates[j].GetGate())
		}
	}
	_ = services.Close() // all answers have been read
	return all, asked, errs
}

// executors connects to the executors. If there is a group, it returns those of the group that are present.
func (s Services) executors() (*fleet.Services, error) {
	if s.Group == nil {
		return fleet.Connect(s.Dial, nil, s.Executors)
	}
	present := s.Group.Executors()
	if len(present) == 0 {
		return nil, errors.New("no executor of the group reports")
	}
	return &fleet.Services{Executors: present, Recorded: s.Group.Recorders}, nil
}

// addresses returns the addresses of the executors, or the name of their group.
func (s Services) addresses() []string {
	if s.Group == nil {
		return s.Executors
	}
	return []string{"group " + s.Group.Group()}
}
