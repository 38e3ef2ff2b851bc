package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/scenario"
)

const (
	// scenarioRate is how many requests a second: the floor of comparisons at 5 % in five seconds, with room on two cores.
	scenarioRate = 2000
	// scenarioLease is short, so that its lapse is not waited for long.
	scenarioLease = 5 * time.Second
)

func canaryScenariosCommand(c console) *cobra.Command {
	var r rehearsal
	var dir string
	var only []string
	cmd := &cobra.Command{
		Use: "scenarios", Short: "Prove what a canary does when something goes wrong",
		Long: `Scenarios starts a pair of its own for every scenario, sends market states to it, runs a canary as a process of its own, and
breaks something: ml-engine is slow, wrong or dead, there is no traffic, Prometheus is down, the canary is killed or halted,
a second one is started, the executor restarts. Each must end as the table says, every answer must be the baseline's, the
executor must be at 0 % in the end, and the evidence must verify.

Each leaves a folder below --dir with its logs, journal and evidence; the table is in scenarios.md there as well. Exits 3
when one did not end as it must. What lacks a program to be played with (prometheus) is ERROR.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := scenario.All()
			for _, name := range only {
				if !slices.ContainsFunc(all, func(s scenario.Scenario) bool { return s.Name == name }) {
					return usageError{fmt.Errorf("--only %s: want some of %s", name, strings.Join(names(all), ", "))}
				}
			}
			o, err := r.scenarios(c, dir)
			if err != nil {
				return err
			}
			var results []scenario.Result
			for _, s := range all {
				if len(only) > 0 && !slices.Contains(only, s.Name) {
					continue
				}
				result := s.Play(cmd.Context(), *o)
				if err := cmd.Context().Err(); err != nil {
					return err
				}
				c.say("%-11s %-5s %5.1f s  %s", result.Name, result.Verdict, result.Took.Seconds(), result.Seen)
				results = append(results, result)
			}
			c.say("")
			if err := scenario.Table(c.out, results); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(o.Dir, "scenarios.md"), scenario.Markdown(results), 0o600); err != nil {
				return err
			}
			card := scenario.Scorecard(results)
			c.say("evidence  %s\noverall: %s", o.Dir, card.Summary())
			if !card.Verdict().OK() {
				return errGate
			}
			return nil
		},
	}
	r.declare(cmd.Flags())
	cmd.Flags().StringVar(&dir, "dir", filepath.Join("var", "scenarios"), "folder in which each call gets a folder for its scenarios")
	cmd.Flags().StringSliceVar(&only, "only", nil, "names of the scenarios to play; all without it: "+strings.Join(names(scenario.All()), ", "))
	return cmd
}

func names(all []scenario.Scenario) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Name)
	}
	return out
}

// scenarios is what the scenarios run on.
func (r *rehearsal) scenarios(c console, dir string) (*scenario.Options, error) {
	policy, err := r.policy.rehearsalPolicy()
	if err != nil {
		return nil, err
	}
	if r.policy.file == "" {
		policy.Lease = gate.Duration(scenarioLease)
	}
	bin, err := programs(r.bin)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if _, err := evidence.Verify(r.load.evidence); err != nil {
		return nil, withHint(err, "greenlight train and greenlight eval write the offline evidence; --evidence names its folder")
	}
	data, a, states, err := r.load.states(c, released)
	if err != nil {
		return nil, err
	}
	o := &scenario.Options{
		Self: self, Bin: bin, Models: r.load.models, Artifact: a, Evidence: r.load.evidence, States: states, Rate: r.load.rate,
		Source: data.Source(), Policy: policy, ShadowTimeout: r.shadowTimeout, Dir: filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000Z")),
	}
	if o.Rate == 0 {
		o.Rate = scenarioRate
	}
	o.Prometheus, _ = exec.LookPath("prometheus") // without it, one scenario cannot be played, and says so
	return o, os.MkdirAll(o.Dir, 0o755)
}
