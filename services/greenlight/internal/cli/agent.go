package cli

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/agent"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// agentState is the default folder of the agent's journal.
const agentState = "state/agent"

// agentFlags configure greenlight agent.
type agentFlags struct {
	engines   flags.Engines
	executors []string
	group     flags.Fleet
	nightly   flags.Recent
	options   agent.Options
	source    string
	once      bool
	metrics   string
	addresses string
}

func agentCommand(c console.Console) *cobra.Command {
	var f agentFlags
	cmd := console.Command("agent", "Write the drift every hour, a report every day and a summary every week",
		`Agent asks ml-engine for its drift and the executors for their counters every hour, keeps a journal of the answers, and
writes psi_snapshot.json. At 00:00 UTC it writes the report of the day before, and on Sunday at 23:59 UTC the summary of the
week. It suggests retraining when the overall index stays above 0.3 and above its noise. After downtime it writes the missing
reports. Each report is written once. A service that does not answer is reported as missing, not as healthy.

Every hour it also adds up the records of all executors, and judges by real outcomes whether the model is at least as good as
the baseline. After a promotion it watches for a drop in quality, with about one false alarm a year. Both results are in the
reports and in the metrics of the agent. A new FAIL or alarm is logged as an error.

If a model decides behind a gate, the agent shuts the gate of every executor when the model has become worse since its
promotion, or when its overall index is above 0.3 and above its noise. This needs the operator's token (--control-token-file).
A gate stays shut until a person clears it. If an alarm cannot be raised, the report says so, and the agent tries again at the
next sample.

With --feature-log and --reference, a classifier runs every night. It tests whether all features together distinguish the last
7 days from the reference. The result is in the daily report and changes no verdict.

With --fleet and --fleet-group, the agent works on the executors of the group that are present, and judges the quality from the
group's stored records. Alarms for a group are signed and need --fleet-key.

Only one agent may use a state folder. It runs until SIGTERM or an interrupt, and logs JSON lines. With --once it takes one
sample, writes what is due, and exits: use this for an immediate reading, or with your own scheduler.`,
		func(ctx context.Context) error {
			if err := f.validate(); err != nil {
				return err
			}
			if !f.group.Given() {
				return f.run(ctx, c, nil)
			}
			return fleetgroup.Use(f.group.Address, f.engines.Access.Access, func(g *fleetgroup.Group) error {
				_ = g.Listen(ctx) // if no executor reports, the sample has the error
				return f.run(ctx, c, g)
			})
		})
	fs := cmd.Flags()
	f.engines.Declare(fs, c)
	flags.TargetsVar(fs, &f.executors, "executor", flags.LocalExecutor, "gRPC addresses of the executors, one per replica")
	f.group.Declare(fs)
	f.engines.DeclareKey(fs)
	fs.StringVar(&f.options.State, "state", agentState, "folder of the journal")
	fs.StringVar(&f.source, "source", string(evidence.Live), "where the requests come from: live, replay or simulated")
	fs.IntVar(&f.options.CriticalHours, "critical-hours", 24, "consecutive hours above 0.3 after which retraining is suggested")
	f.nightly.Declare(fs)
	fs.BoolVar(&f.once, "once", false, "take one sample, write what is due, and exit")
	fs.StringVar(&f.metrics, "metrics-listen", "127.0.0.1:4031", "HTTP address of /metrics and /healthz")
	fs.StringVar(&f.addresses, "address-file", "", "file to write the bound address to, for use with port 0")
	flags.Evidence(fs, &f.options.Evidence)
	return cmd
}

func (f *agentFlags) validate() error {
	if f.options.CriticalHours < 1 {
		return console.Usagef("--critical-hours %d: want at least 1", f.options.CriticalHours)
	}
	executors := f.group.Check()
	if !f.group.Given() {
		executors = cmp.Or(executors, flags.Distinct("executor", f.executors))
	}
	return cmp.Or(executors, f.nightly.Validate(), checkSource(f.source), f.engines.Validate())
}

func (f *agentFlags) run(ctx context.Context, c console.Console, g *fleetgroup.Group) (err error) {
	if err := f.engines.Open(); err != nil {
		return err
	}
	f.options.Seal = *c.Seal
	owner, err := durable.Own(f.options.State)
	if err != nil {
		if errors.Is(err, durable.ErrOwned) {
			return console.WithHint(err, "another agent is using this state folder: stop it, or name another folder with --state")
		}
		return err
	}
	defer func() { err = errors.Join(err, owner.Close()) }()
	logger, err := telemetry.NewLogger(c.Err, "info", "json")
	if err != nil {
		return err
	}
	var flush func()
	f.options.Logger, flush = telemetry.Queued(logger)
	defer flush()
	registry := telemetry.NewRegistry("greenlight")
	o := &f.options
	o.Metrics, o.Source, o.Git = agent.NewMetrics(registry), evidence.Source(f.source), console.Revision()
	services := agent.Services{
		Dial: f.engines.Connect, Engines: f.engines.Addrs, Executors: f.executors, Group: g, Hours: f.engines.Hours(), Timeout: f.engines.Timeout,
		Evidence: o.Evidence,
	}
	o.Raise = services.Raise
	o.Read, o.Classify = services.Sample, f.nightly.Classifier(c.Quiet())
	a, err := agent.New(*o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if f.once {
		return a.Tick(ctx, time.Now())
	}
	pages := serve.NewPages(registry, func() string { return "running" })
	return a.Serve(ctx, pages, f.metrics, f.addresses)
}
