package gatecmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatedrill"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

func gateDrillCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var work flags.Work
	cmd := console.Command("drill", "Test every way to switch a gate off, on its own pair of services",
		`Drill starts an ml-engine and an executor with --allow-gated on free ports of this machine, lets the model decide, and switches
the gate off in every possible way: a kill by call, by file and by signal, a lapsed lease, alarms, a spent budget, another
model, a dead ml-engine, and requests that the model may not decide. For each it shows who decided afterwards and how long
the switch took. It also checks every answer bit for bit. It touches no other executor, and writes gate_drill.json.

It exits 3 when an exercise fails.`,
		func(ctx context.Context) error {
			dir, err := work.Folder(time.Now())
			if err != nil {
				return err
			}
			t, states, err := l.States(c, flags.Released)
			if err != nil {
				return err
			}
			if t.Artifact.Ranges() == nil {
				return refusedGate(fmt.Errorf("%s cannot decide behind a gate: %w", l.Model, gatekeeper.ErrNoRanges))
			}
			other, err := gatedrill.Another(l.Models, t.Artifact)
			if err != nil {
				return err
			}
			if other == "" {
				c.Say("note      %s has no other model, so a model change is not tested", l.Models)
			}
			report, err := gatedrill.Run(ctx, gatedrill.Options{
				Services: process.Services{Programs: work.Programs, Models: l.Models, Artifact: t.Artifact}, Other: other, Dir: dir, States: states,
				Observe: func(x gatedrill.Exercise) {
					var seen []string
					for _, reason := range slices.Sorted(maps.Keys(x.Seen)) {
						seen = append(seen, fmt.Sprintf("%s %d", reason, x.Seen[reason]))
					}
					c.Say("%-15s %s: %s; off after %.1f ms", x.Name, x.What, strings.Join(seen, ", "), x.OffMS)
				},
			})
			if err != nil {
				return err
			}
			if err := flags.WithEvidence(c, l.Evidence, func(store *evidence.Store) error {
				return store.WriteJSON(gatedrill.Name, t.Data.Header(gatedrill.Schema, t.Artifact, t.Git), report)
			}); err != nil {
				return err
			}
			return c.Verdict(gate.Scorecard{Results: report.Checks})
		})
	console.OutputsVerdict(c, cmd)
	l.Declare(cmd.Flags())
	work.Declare(cmd.Flags(), "var/drill")
	return cmd
}
