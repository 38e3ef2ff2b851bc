// Package fleetcmd has the commands of greenlight fleet: flags, texts and exit codes. Package fleetgroup does the work.
package fleetcmd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
)

// readBack is how long executors may take to report a stop.
const readBack = 10 * time.Second

// Command returns the command with all its subcommands.
func Command(c console.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "fleet", Short: "See and stop a group of executors that report over NATS",
		Long: `Fleet works on a group of executors that were started with --fleet and --fleet-group. The executors report to NATS
servers, so no command needs to connect to them. Commands that take --executor also take --fleet and --fleet-group.

  greenlight fleet ls       which executors are present, and their percentages
  greenlight fleet watch    the same, until interrupted
  greenlight fleet serve    the same as a web page
  greenlight fleet abort    set 0 % on all executors now
  greenlight fleet kill     the same, and no model decides until a person clears it
  greenlight fleet reset    make one executor forget the highest record that it has seen

Executors obey only messages that are signed with a key that they trust. The servers are not trusted.`,
		Args: console.NoArgs,
	}
	cmd.AddCommand(list(c), watch(c), pages(c), stop(c, "abort", fleetv1.StopKind_STOP_KIND_ABORT), stop(c, "kill", fleetv1.StopKind_STOP_KIND_KILL), reset(c))
	return cmd
}

// groupFlags are the flags of a command that works on a group.
type groupFlags struct {
	flags.Fleet
	flags.Access
}

// declare declares the flags. sign is for commands whose messages must be signed.
func (f *groupFlags) declare(fs *pflag.FlagSet, c console.Console, sign bool) {
	f.Logger = slog.New(telemetry.BoundLog(slog.NewTextHandler(c.Err, nil)))
	f.Fleet.Declare(fs)
	if sign {
		f.DeclareKey(fs)
	}
}

func (f *groupFlags) use(fn func(*fleetgroup.Group) error) error {
	if err := f.Fleet.Require(); err != nil {
		return err
	}
	return fleetgroup.Use(f.Address, f.Access.Access, fn)
}

func list(c console.Console) *cobra.Command {
	var f groupFlags
	var show func(*fleetgroup.Listing) error
	cmd := &cobra.Command{
		Use: "ls", Short: "List the executors of a group", Args: console.NoArgs,
		Long: `Ls waits 2.5 s for a report from every executor, and shows a line for each: its id and host, the percentage of
requests that get a shadow, the newest record that it has seen (revision and renewal), whether the operator has admitted it,
the match rate of its rolling window, the age of its report, and its trouble, if any. An executor counts as gone 15 s after its
last report.

It exits 1 if no executor reports.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.use(func(g *fleetgroup.Group) error {
				if err := g.Listen(cmd.Context()); err != nil {
					return err
				}
				l := g.Listing(time.Now())
				return errors.Join(l.Table(c.Out, 0), show(l))
			})
		},
	}
	f.declare(cmd.Flags(), c, false)
	show = console.Outputs[*fleetgroup.Listing](c, cmd, "greenlight/fleet/v1")
	return cmd
}

func watch(c console.Console) *cobra.Command {
	var f groupFlags
	cmd := &cobra.Command{
		Use: "watch", Short: "Follow the executors of a group", Args: console.NoArgs,
		Long: `On a terminal, watch shows the table of greenlight fleet ls and redraws it every 2 s. In a pipe it prints a line
whenever an executor appears, changes or disappears. It ends when it is interrupted.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.use(func(g *fleetgroup.Group) error {
				if c.Screen == nil {
					return g.Lines(cmd.Context(), c.Out)
				}
				return g.Screen(cmd.Context(), c.Screen, func() int {
					if _, height, err := term.GetSize(int(c.Screen.Fd())); err == nil {
						return height
					}
					return 24
				})
			})
		},
	}
	f.declare(cmd.Flags(), c, false)
	return cmd
}

// errNotStopped means that the reports of some executors do not confirm a stop.
var errNotStopped = errors.New("not every executor has confirmed the stop: see above")

func stop(c console.Console, name string, kind fleetv1.StopKind) *cobra.Command {
	var f groupFlags
	var reason string
	short, long := "Set 0 % on every executor of a group now", `Abort sends a signed stop to all executors of the group, before
it knows which are present, and stores it for executors that cannot be reached. Then it waits for their reports. A canary of
the group ends. After the stop, executors obey only later records.

It exits 1 if an executor has not confirmed 0 % within 10 s, or if the stop was sent but could not be stored within 5 s:
executors that start later will not see it. Leases lapse in any case.`
	if kind == fleetv1.StopKind_STOP_KIND_KILL {
		short, long = "Kill the gates of all executors of a group now", `Kill sends a signed stop to all executors of the group,
before it knows which are present, and stores it for executors that cannot be reached. Then it waits until they report 0 %. No
model decides until a person clears the kill with greenlight gate clear, which also removes the stored kill. Meanwhile, a later
canary may still shadow requests.

It exits 1 if an executor has not confirmed the kill within 10 s, or if the stop was sent but could not be stored within 5 s:
executors that start later will not see it. Leases lapse in any case.`
	}
	cmd := &cobra.Command{
		Use: name + " --reason TEXT", Short: short, Long: long, Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return console.Usagef("--reason is required: others must know why")
			}
			return f.use(func(g *fleetgroup.Group) error { return stopGroup(cmd.Context(), c, g, kind, reason) })
		},
	}
	f.declare(cmd.Flags(), c, true)
	cmd.Flags().StringVar(&reason, "reason", "", "reason, for people and the audit logs")
	return cmd
}

func stopGroup(ctx context.Context, c console.Console, g *fleetgroup.Group, kind fleetv1.StopKind, reason string) error {
	return g.Brake(ctx, fleetgroup.Brake{Kind: kind, Reason: reason, Say: c.Say}, func() error { return readStops(ctx, c, g, kind, reason) })
}

// readStops shows which executors have confirmed a stop.
func readStops(ctx context.Context, c console.Console, g *fleetgroup.Group, kind fleetv1.StopKind, reason string) error {
	if err := g.Listen(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readBack)
	defer cancel()
	var failed error
	if kind == fleetv1.StopKind_STOP_KIND_KILL {
		failed = gatekeeper.Lines(c.Out, gatekeeper.Kill(ctx, g.Executors(), reason))
	} else {
		failed = canaryview.Stops(c.Out, canary.Abort(ctx, g.Executors(), reason))
	}
	if failed != nil {
		return console.WithHint(errNotStopped, "check that --fleet-trust of the executor has the public key of --fleet-key. To stop the executor on its host, create the file gate.kill in its state folder, or send it SIGUSR1")
	}
	return nil
}

func reset(c console.Console) *cobra.Command {
	var f groupFlags
	cmd := &cobra.Command{
		Use: "reset EXECUTOR", Short: "Make an executor forget the highest record that it has seen", Args: oneExecutor,
		Long: `Reset makes one executor of a group forget the highest revision and the aborts that it has seen. Use it for an
executor that refuses all records, because the clock of a controller was once far ahead, or because two controllers signed the
same revision. The executor must be at 0 %. A recorded and replayed reset is ignored.

It exits 1 if the executor does not confirm it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := group.CheckName(args[0]); err != nil {
				return console.Usagef("executor %w", err)
			}
			return f.use(func(g *fleetgroup.Group) error {
				ctx, cancel := context.WithTimeout(cmd.Context(), readBack)
				defer cancel()
				if err := g.Reset(ctx, args[0]); err != nil {
					return err
				}
				c.Say("executor  %s has forgotten what it had seen, and is at 0 %%", args[0])
				return nil
			})
		},
	}
	f.declare(cmd.Flags(), c, true)
	return cmd
}

// oneExecutor requires exactly one argument.
func oneExecutor(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return console.Usagef("%d arguments: name one executor", len(args))
	}
	return nil
}

func pages(c console.Console) *cobra.Command {
	var f groupFlags
	var addr, addresses string
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve a web page with the executors of a group", Args: console.NoArgs,
		Long: `Serve shows the executors of a group on a web page: the totals, and a row for each executor. The page changes nothing
and needs no password. By default it listens only on this machine; --http-addr sets another address. It runs until SIGTERM or
an interrupt.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.use(func(g *fleetgroup.Group) error { return servePage(cmd.Context(), c, g, addr, addresses) })
		},
	}
	f.declare(cmd.Flags(), c, false)
	cmd.Flags().StringVar(&addr, "http-addr", "127.0.0.1:4032", "HTTP address of the page")
	cmd.Flags().StringVar(&addresses, "address-file", "", "file to write the bound address to, for use with port 0")
	return cmd
}

// stopGrace is how long the page may take to stop.
const stopGrace = 5 * time.Second

func servePage(ctx context.Context, c console.Console, g *fleetgroup.Group, addr, addresses string) error {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", g)
	w := serve.Web{
		Name: "http", Addr: addr, Flag: "--http-addr", Addresses: addresses, Handler: mux, Grace: stopGrace,
		Logger: slog.New(telemetry.BoundLog(slog.NewTextHandler(c.Err, nil))),
	}
	return w.Run(ctx, func(_ *serve.Stack, at net.Addr) { c.Say("page      http://%s/", at) })
}
