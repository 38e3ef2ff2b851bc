package fleetgroup_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup/fleettest"
)

// With a real server, the executors are heard, obey the record, and stop after one message.
func TestUseServices(t *testing.T) {
	t.Parallel()
	nats := natstest.Start(t, 1)
	signer, _ := keytest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	executors := map[string]*fleettest.Counter{}
	for _, id := range []string{"a", "b", "c"} {
		c, err := natsgroup.Open(natsgroup.Options{URL: nats.URL, Group: "desk-a", Name: id, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		executors[id] = &fleettest.Counter{}
		m := &fleettest.Member{Executor: executors[id], ID: id, Carrier: c, Keys: signer.Public()}
		t.Cleanup(m.Start(t))
	}
	at := fleetgroup.Address{URL: nats.URL, Group: "desk-a"}
	access := fleet.Access{FleetKey: signer}
	use := func(brake fleetgroup.Brake, fn func(*fleet.Services, *fleetgroup.Group) error) {
		t.Helper()
		if err := fleetgroup.UseServices(ctx, at, access, nil, brake, fn); err != nil {
			t.Fatal(err)
		}
	}
	use(fleetgroup.Brake{}, func(s *fleet.Services, g *fleetgroup.Group) error {
		if len(s.Executors) != 3 {
			t.Errorf("%d executors", len(s.Executors))
		}
		p, err := g.Publish(ctx, fleetgroup.Claim{Holder: "run-1", Lease: time.Minute})
		if err != nil {
			return err
		}
		defer p.Close()
		err = p.Change(ctx, &fleetv1.Record{
			Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Percent: 10, Lease: durationpb.New(time.Minute), Holder: "run-1",
		}, func(uint64) {})
		for id, e := range executors {
			for e.Percent() != 10 && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			if e.Percent() != 10 {
				t.Errorf("executor %s is at %g %%", id, e.Percent())
			}
		}
		return errors.Join(err, p.Renew(ctx))
	})
	use(fleetgroup.Brake{Kind: fleetv1.StopKind_STOP_KIND_ABORT, Reason: "enough"}, func(s *fleet.Services, _ *fleetgroup.Group) error {
		for _, e := range s.Executors {
			if err := e.AbortRollout(ctx, "enough"); err != nil || executors[e.Addr].Percent() != 0 {
				t.Errorf("executor %s: %v, at %g %%", e.Addr, err, executors[e.Addr].Percent())
			}
		}
		return nil
	})
}

// The error names a server that cannot be reached.
func TestUseNobody(t *testing.T) {
	t.Parallel()
	at := fleetgroup.Address{URL: "nats://127.0.0.1:1", Group: "desk-a"}
	err := fleetgroup.UseServices(t.Context(), at, fleet.Access{}, nil, fleetgroup.Brake{}, nil)
	if err == nil || !strings.Contains(err.Error(), "group desk-a: no executor of the group has reported") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}
