package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/scenarios"
)

const (
	// scenarioRate is the load in requests per second: at 5 %, it reaches the minimum of comparisons in five seconds, and two
	// cores can handle it.
	scenarioRate = 2000
	// scenarioLease is short, so that it lapses soon.
	scenarioLease = 5 * time.Second
)

func scenariosCommand(c console.Console) *cobra.Command {
	var r flags.Rehearsal
	var dir string
	var only []string
	cmd := &cobra.Command{
		Use: "scenarios", Short: "Test what a canary does when something goes wrong",
		Long: `Scenarios starts a separate pair for every scenario, sends market states to it, runs a canary as a separate process, and
breaks something: ml-engine is slow, wrong or dead, there is no traffic, Prometheus is down, the canary is killed or suspended,
a second one is started, the executor restarts. Each scenario must end as the table states, every answer must be the baseline's, the
executor must be at 0 % at the end, and the evidence must verify.

Each has a folder in --dir with its logs, journal and evidence; scenarios.md there has the table. It exits 3 when a scenario
ended otherwise. A scenario that needs a missing program (prometheus) is ERROR.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := scenarios.All()
			for _, name := range only {
				if !slices.ContainsFunc(all, func(s scenarios.Scenario) bool { return s.Name == name }) {
					return console.Usagef("--only %s: want some of %s", name, strings.Join(names(all), ", "))
				}
			}
			if _, err := evidence.Verify(r.Evidence); err != nil {
				return console.WithHint(err, "write the offline evidence with greenlight train and greenlight eval; --evidence names its folder")
			}
			var o scenarios.Options
			var err error
			if o.Desk, err = desk(c, &r, "", scenarioRate); err != nil {
				return err
			}
			if r.File == "" {
				o.Policy.Lease = gate.Duration(scenarioLease)
			}
			o.Prometheus, _ = exec.LookPath("prometheus") // without it, one scenario is ERROR
			if o.Dir, err = newFolder(dir); err != nil {
				return err
			}
			var results []scenarios.Result
			for _, s := range all {
				if len(only) > 0 && !slices.Contains(only, s.Name) {
					continue
				}
				result := s.Play(cmd.Context(), o)
				if err := cmd.Context().Err(); err != nil {
					return err
				}
				c.Say("%-11s %-5s %5.1f s  %s", result.Name, result.Verdict, result.Took.Seconds(), result.Seen)
				results = append(results, result)
			}
			c.Say("")
			if err := scenarios.Table(c.Out, results); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(o.Dir, "scenarios.md"), scenarios.Markdown(results), 0o600); err != nil {
				return err
			}
			card := scenarios.Scorecard(results)
			c.Say("evidence  %s\noverall: %s", o.Dir, card.Summary())
			if !card.Verdict().OK() {
				return console.ErrGate
			}
			return nil
		},
	}
	r.Declare(cmd.Flags())
	cmd.Flags().StringVar(&dir, "dir", filepath.Join("var", "scenarios"), "parent of the folders that the calls create for their scenarios")
	cmd.Flags().StringSliceVar(&only, "only", nil, "names of the scenarios to run; default all: "+strings.Join(names(scenarios.All()), ", "))
	return cmd
}

func names(all []scenarios.Scenario) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Name)
	}
	return out
}
