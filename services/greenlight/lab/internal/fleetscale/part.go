package fleetscale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/member"
	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup/fleettest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Part is a process of a measured group.
type Part struct {
	// URL holds the addresses of the servers.
	URL       string
	Key       *dsse.Signer
	Lease     time.Duration
	Executors int
	// Samples is the file for the number of executors at a share, written when it changes.
	Samples string
}

func (p *Part) open(name string) (*natsgroup.Carrier, error) {
	return natsgroup.Open(natsgroup.Options{URL: p.URL, Group: GroupName, Name: name, Logger: slog.New(slog.DiscardHandler)})
}

// Members runs the members of a group until ctx ends.
func (p *Part) Members(ctx context.Context) error {
	out, err := os.Create(p.Samples)
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // every write is checked
	dir, err := os.MkdirTemp(filepath.Dir(p.Samples), "members-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is a working folder
	var carriers []*natsgroup.Carrier
	var members []*member.Member
	defer func() {
		for _, m := range members {
			_ = m.Stop(context.WithoutCancel(ctx)) // the folder is removed
		}
		for _, c := range carriers {
			c.Close()
		}
	}()
	for range min(p.Executors, maxConnections) {
		c, err := p.open("member")
		if err != nil {
			return err
		}
		carriers = append(carriers, c)
	}
	all := make([]*idle, p.Executors)
	for i := range all {
		all[i] = &idle{id: fmt.Sprintf("executor-%05d", i)}
		if err := os.Mkdir(filepath.Join(dir, all[i].id), 0o700); err != nil {
			return err
		}
		m, err := member.Open(member.Options{
			Group: GroupName, Keys: p.Key.Public(), Carrier: carriers[i%len(carriers)], ID: all[i].id, Instance: all[i].id,
			Dir: filepath.Join(dir, all[i].id), Executor: all[i], Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		members = append(members, m)
		m.Start()
	}
	for last := -1; ctx.Err() == nil; traffic.Pause(ctx, samplePeriod) {
		n := 0
		now := time.Now()
		for _, e := range all {
			if e.Percent() > 0 {
				n++
			}
		}
		if n != last {
			if _, err := fmt.Fprintln(out, now.UnixNano(), n); err != nil {
				return err
			}
			last = n
		}
	}
	return nil
}

// Controller publishes the record of a group, renews it and reads the reports, as a canary does, until ctx ends.
func (p *Part) Controller(ctx context.Context) error {
	c, err := p.open("controller")
	if err != nil {
		return err
	}
	defer c.Close()
	g, err := fleetgroup.Open(fleetgroup.Options{Group: GroupName, Signer: p.Key, Carrier: c})
	if err != nil {
		return err
	}
	defer g.Close()
	var publisher *fleetgroup.Publisher
	for publisher == nil && ctx.Err() == nil {
		if publisher, err = g.Publish(ctx, fleetgroup.Claim{Holder: "scale", Lease: p.Lease}); err != nil {
			traffic.Pause(ctx, time.Second) // the servers elect a leader
		}
	}
	defer publisher.Close()
	for published := false; ctx.Err() == nil; traffic.Pause(ctx, p.Lease/group.PollsPerLease) {
		if !published {
			err = publisher.Change(ctx, &fleetv1.Record{
				Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Percent: Share, Lease: durationpb.New(p.Lease), Holder: "scale",
			}, func(uint64) {})
			published = publisher.Last() != nil
		} else {
			err = publisher.Renew(ctx)
		}
		if taken := (*fleetgroup.TakenError)(nil); errors.As(err, &taken) {
			<-ctx.Done() // aborted
		}
		_ = g.Members(time.Now()) // a canary phase adds up their counts
	}
	return nil
}

// idle is an executor that decides nothing.
type idle struct {
	fleettest.Counter

	id string
}

// Report implements [member.Executor]. It is as large as the report of an executor that has decided for a long time.
func (e *idle) Report(ctx context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error) {
	_, rollout, err := e.Counter.Report(ctx)
	rollout.InstanceId = e.id
	return fleettest.Report(e.id, 1_000_000, e.Percent()), rollout, err
}
