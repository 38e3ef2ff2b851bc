package command

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
)

func scaleCommand(c console.Console) *cobra.Command {
	var m measurement
	var rounds int
	var figure string
	cmd := &cobra.Command{
		Use: "scale", Short: "Measure how costs grow with batches, calls, replicas, symbols and models",
		Long: `Scale measures, with the real services on this machine, how costs grow with the rows in a batch, the rate of decisions,
the calls in flight (1 to 5,000), the replicas of ml-engine behind client-side balancing, the symbols whose quotes
executor observes (1 to 10,000), and the features and trees of a model. For each curve it prints the size from which
it is within a quarter of its best, and the size from which it is worse than the best by half. It also prints how many cores
1,000, 10,000 and 100,000 decisions per second need. It takes about three minutes.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rounds < 1 {
				return console.Usagef("--rounds %d: want at least 1", rounds)
			}
			opts := bench.QuickOptions()
			opts.Rounds = rounds
			if err := m.benchOptions(cmd.Context(), c, &opts); err != nil {
				return err
			}
			result, err := bench.RunScale(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if err := report(c, m.json, result); err != nil {
				return err
			}
			return drawScale(c, figure, result)
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&rounds, "rounds", 3, "number of times that everything is measured")
	fs.StringVar(&figure, "figure", "", "SVG file to write the curves to")
	m.declare(fs, "var/bench")
	return cmd
}

// drawScale draws the curves, unless path is empty.
func drawScale(c console.Console, path string, s *bench.Scale) error {
	if path == "" {
		return nil
	}
	var curves []plots.Curve
	for _, m := range s.Curves {
		curve := plots.Curve{X: m.Of, Y: fmt.Sprintf("%s (%s)", m.Measure, m.Unit)}
		for _, p := range m.Points {
			curve.Sizes = append(curve.Sizes, float64(p.Size))
			curve.Values = append(curve.Values, p.Value.Median)
			curve.Low, curve.High = append(curve.Low, p.Value.Min), append(curve.High, p.Value.Max)
		}
		curves = append(curves, curve)
	}
	subtitle := fmt.Sprintf("medians of %d rounds with the smallest and the largest, on %d CPUs (%s/%s)", s.Rounds, s.Machine.CPUs, runtime.GOOS, runtime.GOARCH)
	err := durable.Write(path, 0o644, func(w io.Writer) error { return plots.Curves(w, "How costs grow", subtitle, curves) })
	if err != nil {
		return err
	}
	c.Say("drawn in %s", path)
	return nil
}
