package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group/member"
	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rollout"
)

// Fleet configures the group of an executor, whose record sets the rollout.
type Fleet struct {
	// URL has the NATS servers; empty means no group. Creds and CA are files for the connection.
	URL, Creds, CA string
	Group          string
	// Trust is the file with the public keys whose records are accepted.
	Trust string
}

func (f *Fleet) declare(fs *flag.FlagSet) {
	fs.StringVar(&f.URL, "fleet", "", "NATS `servers` of one cluster, nats://host:port or tls://host:port separated by commas, from which executor follows the record of its group; needs --state-dir; empty is off")
	fs.StringVar(&f.Group, "fleet-group", "", "`name` of the group: 1 to 64 letters, digits, - and _")
	fs.StringVar(&f.Creds, "fleet-creds", "", "NATS credentials `file`, read at every connection")
	fs.StringVar(&f.CA, "fleet-ca", "", "`file` with the certificates of the authorities of the NATS servers (PEM), read at every connection")
	fs.StringVar(&f.Trust, "fleet-trust", "", "`file` with the public keys (PEM) whose records executor obeys")
}

func (f *Fleet) connection(logger *slog.Logger) natsgroup.Options {
	return natsgroup.Options{URL: f.URL, Group: f.Group, Creds: f.Creds, CA: f.CA, Name: "executor", Logger: logger}
}

// checkFleet checks the options of the group.
func (o *Options) checkFleet() error {
	f := &o.Fleet
	if f.URL == "" {
		if *f != (Fleet{}) {
			return errors.New("--fleet-group, --fleet-creds, --fleet-ca and --fleet-trust need --fleet")
		}
		return nil
	}
	connection := f.connection(nil)
	switch {
	case f.Group == "":
		return errors.New("--fleet needs --fleet-group")
	case f.Trust == "":
		return errors.New("--fleet needs --fleet-trust: executor obeys only records that a trusted key has signed")
	case o.StateDir == "":
		return errors.New("--fleet needs --state-dir: an abort must survive a restart")
	case o.SamplePercent > 0:
		return fmt.Errorf("--sample-percent %v with --fleet: want 0, since the group sets the percentage", o.SamplePercent)
	}
	if err := connection.Validate(); err != nil {
		return fmt.Errorf("--fleet: %w", err)
	}
	return nil
}

// callHome makes executor follow its group until shell stops. Without a group it only registers the metrics.
func (p *parts) callHome(shell *serve.App, opts *Options, logger *slog.Logger) error {
	f := &opts.Fleet
	if f.URL == "" {
		shell.Registry.MustRegister(p.home)
		return nil
	}
	keys, err := dsse.ReadKeys(f.Trust)
	if err != nil {
		return fmt.Errorf("--fleet-trust: %w", err)
	}
	if len(keys.Ed25519()) == len(keys) {
		return fmt.Errorf("--fleet-trust %s has no ECDSA key; records need one", f.Trust)
	}
	carrier, err := natsgroup.Open(f.connection(logger))
	if err != nil {
		return fmt.Errorf("--fleet: %w", err)
	}
	shell.OnStop("connection to NATS", func(context.Context) error {
		carrier.Close()
		return nil
	})
	host, _ := os.Hostname() // without a name the operator sees only the id
	p.home, err = member.Open(member.Options{
		Group: f.Group, Keys: keys, Carrier: carrier, ID: p.outcomes.ID(), Instance: p.rollouts.Instance(), Host: host, Dir: opts.StateDir,
		Executor: follower{p, rollout.NewService(p.rollouts)}, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("--fleet: %w", err)
	}
	p.rollouts.OnAbort(p.home.Hold, p.home.Keep)
	p.gate.OnKill(p.home.Killed)
	shell.Registry.MustRegister(p.home)
	p.home.Start()
	shell.OnStop("fleet", p.home.Stop)
	return nil
}

// follower adapts the executor to its group.
type follower struct {
	*parts

	service *rollout.Service
}

// Obey implements [member.Executor].
func (f follower) Obey(r *fleetv1.Record, until time.Time, why string) error {
	return f.rollouts.Obey(r, until, why)
}

// Kill implements [member.Executor].
func (f follower) Kill(by, from, reason string) error { return f.gate.Kill(by, from, reason) }

// Command implements [member.Executor].
func (f follower) Command(c *fleetv1.Admission) error {
	by := "group:" + c.GetGroup() + " " + c.GetIssuer()
	if c.GetAlarm() != executorv1.GateLatch_GATE_LATCH_UNSPECIFIED {
		return f.gate.Alarm(c.GetAlarm(), c.GetModelDigest(), by, "", c.GetReason())
	}
	return f.gate.ClearSeen(c.GetClear(), c.GetLastSetTimes(), by, "", c.GetReason())
}

// Report implements [member.Executor].
func (f follower) Report(ctx context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error) {
	report, err := f.reports.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return nil, nil, err
	}
	now, err := f.service.GetRollout(ctx, &executorv1.GetRolloutRequest{})
	return report, now, err
}

// Blocks implements [member.Executor].
func (f follower) Blocks(after uint64) (*executorv1.GetQualityReportResponse, uint64, int, error) {
	return f.outcomes.Closed(after)
}
