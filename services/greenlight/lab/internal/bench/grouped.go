package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	live "github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/fleetscale"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/natshost"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

const (
	// groupedRate is the load of an executor in a group, in decisions per second.
	groupedRate = 1000
	// joinTime is how long it may take to reach the share of its group: the servers elect leaders first.
	joinTime = time.Minute
)

var groupedSides = []string{noGroup, inGroup}

// grouped compares an executor in a group of three NATS servers, with a controller that renews its record and reads its
// reports, with an executor outside any group. Both give the same share of the decisions a shadow. The servers run in this
// process.
func (r *run) grouped(ctx context.Context) error {
	return natshost.With(ctx, filepath.Join(r.opts.Dir, "nats"), func(servers *natshost.Servers) (err error) {
		keyFile := filepath.Join(r.opts.Dir, "operator.pem")
		key, err := operator.NewKey(keyFile)
		if err != nil {
			return err
		}
		f := newFleet(r.opts)
		f.engine = r.fleet.engine
		controller := &fleetscale.Part{URL: servers.Direct(), Key: key, Lease: time.Duration(gate.DefaultPolicy().Lease)}
		controlled, cancel := context.WithCancel(ctx)
		var failed error
		var controlling sync.WaitGroup
		controlling.Go(func() { failed = controller.Controller(controlled) })
		defer func() {
			cancel()
			controlling.Wait()
			err = errors.Join(err, failed, f.Close())
		}()
		for name, flags := range map[string][]string{
			noGroup: {"--sample-percent", fmt.Sprint(fleetscale.Share)},
			inGroup: {
				"--sample-percent", "0", "--fleet", servers.Direct(), "--fleet-group", fleetscale.GroupName, "--fleet-trust", keyFile + ".pub",
				"--state-dir", filepath.Join(r.opts.Dir, "grouped-state"),
			},
		} {
			p, err := f.startExecutor(ctx, map[string]string{noGroup: "alone", inGroup: "grouped"}[name], flags...)
			if err != nil {
				return err
			}
			s, err := f.connect(name, p)
			if err == nil {
				err = s.decision(ctx, r.opts.Artifact, r.opts.States, baselineOf, 0)
			}
			if err == nil {
				err = s.awaitPercent(ctx, fleetscale.Share)
			}
			if err == nil {
				_, err = s.closed(ctx, manyUnderWay, span{length: r.opts.Closed}) // the first page faults
			}
			if err != nil {
				return err
			}
		}
		for round := range r.opts.Rounds {
			err := inTurn(round, perRound, groupedSides, func(name string, slice int) error {
				return r.take(fixed(name), round, func() (Sample, error) {
					return f.sides[name].open(ctx, groupedRate, seed(round, slice), r.slice(r.opts.Tail, perRound))
				})
			})
			if err != nil {
				return err
			}
		}
		for _, name := range groupedSides {
			if _, err := f.sides[name].settle(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitPercent waits until the share of the decisions gets a shadow.
func (s *side) awaitPercent(ctx context.Context, percent float64) error {
	now := 0.0
	_, done, err := rig.Await(ctx, joinTime, func() (bool, error) {
		r, err := live.NewExecutor(s.name, s.conn).Report(ctx)
		now = r.GetSamplePercent()
		return now == percent, err
	})
	if err == nil && !done {
		err = fmt.Errorf("%s is at %g %% after %v: want %g %%", s.name, now, joinTime, percent)
	}
	return err
}
