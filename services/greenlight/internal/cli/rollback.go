package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
)

// pairFlags say which services to talk to.
type pairFlags struct {
	accessFlags

	Engines, Executors []string
	timeout            time.Duration
}

// declare declares the flags with the addresses of a pair on this machine, or none.
func (p *pairFlags) declare(fs *pflag.FlagSet, c console.Console, engines, executors []string, timeout time.Duration) {
	targetsVar(fs, &p.Engines, "engine", engines, "gRPC addresses of ml-engine, one per replica")
	targetsVar(fs, &p.Executors, "executor", executors, "gRPC addresses of executor, one per replica")
	p.declareAccess(fs, c, timeout)
}

// declareAccess declares how the services are reached, and how long they may take.
func (p *pairFlags) declareAccess(fs *pflag.FlagSet, c console.Console, timeout time.Duration) {
	p.accessFlags.declare(fs, c)
	fs.DurationVar(&p.timeout, "timeout", timeout, "how long the services may take to answer")
	console.Require(fs, "timeout", "more than 0", func() bool { return p.timeout > 0 })
}

// use connects to the services, and hands them to fn with the time that they have.
func (p *pairFlags) use(ctx context.Context, fn func(context.Context, *fleet.Services) error) error {
	services, err := fleet.Dial(fleet.Options{Access: p.Access, Engines: p.Engines, Executors: p.Executors})
	if err != nil {
		return console.Usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return errors.Join(fn(ctx, services), services.Close())
}

var (
	localEngine   = []string{"127.0.0.1:4010"}
	localExecutor = []string{"127.0.0.1:4020"}
)

// brakeTimeout is how long a rollback waits for a service that does not answer. A healthy pair takes milliseconds.
const brakeTimeout = 2 * time.Second

func rollbackCommand(c console.Console) *cobra.Command {
	var p pairFlags
	var folder, reason string
	cmd := &cobra.Command{
		Use: "rollback", Short: "The emergency brake: back to the model before, and no more shadows",
		Long: `Rollback tells every ml-engine to return to the model that was active before the last activation, and every executor to
stop its shadows (0 %, OFF), all at once, and reads back what they do. It asks nothing. The lease of a canary that runs
ends with it, and the canary aborts.

Pulled again, it does nothing more: an ml-engine that has returned already is left where it is. It writes
rollback_<time>.json to the evidence folder, after the brake was pulled. It exits 1 when a service has not obeyed, and says
which did and which did not.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r *rollback.Result
			err := p.use(cmd.Context(), func(ctx context.Context, services *fleet.Services) error {
				r = rollback.Run(ctx, services, reason)
				return nil
			})
			if r == nil {
				return err
			}
			sayRollback(c, r)
			if kept := keepRollback(c, folder, r); kept != nil {
				err = errors.Join(err, fmt.Errorf("the evidence was not written: %w", kept))
			}
			if undone := r.Err(); undone != nil {
				return console.WithHint(errors.Join(undone, err), "%s", r.Hint())
			}
			return err
		},
	}
	fs := cmd.Flags()
	p.declare(fs, c, localEngine, localExecutor, brakeTimeout)
	fs.StringVar(&reason, "reason", "greenlight rollback", "why, for the audit log and the evidence")
	DeclareEvidence(fs, &folder)
	return cmd
}

func sayRollback(c console.Console, r *rollback.Result) {
	for _, e := range r.Engines {
		switch {
		case e.Done && e.Already:
			c.Say("engine    %s had returned to %s already", e.Address, e.To.Version)
		case e.Done:
			c.Say("engine    %s serves %s again, and not %s: %.1f ms", e.Address, e.To.Version, e.From.Version, e.TookMS)
		default:
			c.Say("engine    %s FAILED: %s", e.Address, e.Error)
		}
	}
	for _, e := range r.Executors {
		switch {
		case e.Done && e.Error != "":
			c.Say("executor  %s shadows nothing (%v %%, %s): %.1f ms; but %s", e.Address, *e.Percent, e.Mode, e.TookMS, e.Error)
		case e.Done:
			c.Say("executor  %s shadows nothing (%v %%, %s): %.1f ms", e.Address, *e.Percent, e.Mode, e.TookMS)
		default:
			c.Say("executor  %s FAILED: %s", e.Address, e.Error)
		}
	}
	if r.Complete {
		c.Say("rollback  complete and read back in %.1f ms", r.TookMS)
	}
}

// keepRollback writes the evidence.
func keepRollback(c console.Console, folder string, r *rollback.Result) error {
	var name string
	err := withEvidence(folder, func(store *evidence.Store) (err error) {
		name, err = r.Write(store, console.Revision())
		return err
	})
	if err != nil {
		return err
	}
	c.Say("evidence  %s", filepath.Join(folder, name))
	return nil
}
