package command

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/fleetdemo"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
)

const (
	// demoRate is the load of each executor in requests per second.
	demoRate = 100
	// demoLease is long enough for the servers to elect another leader when one is killed.
	demoLease = 10 * time.Second
	demoPhase = 6 * time.Second
)

func fleetDemoCommand(c console.Console) *cobra.Command {
	var r flags.Rehearsal
	var dir string
	cmd := &cobra.Command{
		Use: "demo", Short: "Show a canary of four executors over NATS, and what happens when a server and the canary die",
		Long: `Demo trains a model on a simulated market, starts three NATS servers, two ml-engines and four executors on this machine, sends
decisions to them, and runs a canary of the group as a process. It kills a NATS server, which must have no effect, and the
canary: all executors must be at 0 % within the lease. Then it resumes the canary.

It prints the shares of all executors over time, and what was expected. It takes about a minute and a half, and exits 3 when
something unexpected happened. Its policy has wide limits for latency and errors, because everything shares this machine; --policy
sets another one.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if dir, err = newFolder(dir); err != nil {
				return err
			}
			bin, err := flags.Programs(r.Bin)
			if err != nil {
				return err
			}
			r.Models, r.Evidence = filepath.Join(dir, "models"), filepath.Join(dir, "evidence")
			c.Say("training a model on a simulated market")
			for _, step := range []string{"train", "eval"} {
				run, err := operator.Run(filepath.Join(bin, "greenlight"), filepath.Join(dir, step+".log"), step, "--models", r.Models, "--evidence", r.Evidence)
				if err != nil {
					return err
				}
				if run.Wait() != 0 {
					return fmt.Errorf("greenlight %s: %s", step, run.LastLine())
				}
			}
			o := fleetdemo.Options{KeyFile: filepath.Join(dir, operatorKey), Say: c.Say}
			if o.Desk, err = desk(c, &r, dir, demoRate); err != nil {
				return err
			}
			if r.File == "" {
				demoPolicy(&o.Policy, cmd.Flags().Changed)
			}
			if _, err := operator.NewKey(o.KeyFile); err != nil {
				return err
			}
			res, err := fleetdemo.Run(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("%w; logs are in %s", err, dir)
			}
			c.Say("")
			if err := res.Table(c.Out); err != nil {
				return err
			}
			c.Say("\nlogs and evidence  %s", dir)
			if !res.OK() {
				return console.ErrGate
			}
			return nil
		},
	}
	r.Declare(cmd.Flags())
	cmd.Flags().StringVar(&dir, "dir", filepath.Join("var", "fleet-demo"), "parent of the folders that the calls create")
	return cmd
}

// demoPolicy sets what was not given: three short phases, and limits that a loaded machine stays within.
func demoPolicy(p *gate.Policy, given func(string) bool) {
	p.Lease = gate.Duration(demoLease)
	if !given("phases") {
		p.Phases = []float64{10, 50, 100}
	}
	if !given("phase-duration") {
		p.PhaseDuration = gate.Duration(demoPhase)
	}
	if !given("min-comparisons") {
		p.MinComparisons = 20
	}
	p.SLO.P95MS, p.SLO.ErrorRate, p.SLO.Coverage = 500, 0.4, 0.4
	p.Abort.P95MS, p.Abort.ErrorRate, p.Abort.Coverage = 900, 0.6, 0.2
}
