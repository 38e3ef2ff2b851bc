package cli

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

func simulateCommand(c console.Console) *cobra.Command {
	var d flags.Data
	var out string
	cmd := console.Command("simulate", "Simulate a market: quotes and one-minute bars from a seed",
		`Simulate writes bars.csv.gz and quotes.csv.gz of a simulated market to a folder. The market has clustered volatility,
jumps, sessions, and a spread that widens with volatility. The same seed gives the same numbers. Every file, model and report
made from it is marked as simulated.`,
		func(context.Context) error {
			sim, err := market.Simulate(d.Simulation)
			if err != nil {
				return console.Usage(err)
			}
			series := sim.Series()
			files := []struct {
				name  string
				write func(io.Writer) error
			}{
				{"bars.csv.gz", func(w io.Writer) error { return market.WriteBars(w, series) }},
				{"quotes.csv.gz", func(w io.Writer) error { return market.WriteQuotes(w, sim.Symbol(), true, sim.Quotes()) }},
			}
			for _, f := range files {
				path := filepath.Join(out, f.name)
				if err := writeGzip(path, f.write); err != nil {
					return err
				}
				c.Say("wrote %s", path)
			}
			c.Say("%s of %s, seed %d", text.Count(len(series.Bars), "bar"), sim.Symbol(), d.Simulation.Seed)
			return nil
		})
	d.DeclareSimulation(cmd.Flags())
	cmd.Flags().StringVar(&out, "out", "var/simulated", "folder to write to")
	return cmd
}

// writeGzip writes a compressed file, completely or not at all.
func writeGzip(path string, write func(io.Writer) error) error {
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.Write(path, 0o644, func(w io.Writer) error {
		zip := gzip.NewWriter(w)
		return errors.Join(write(zip), zip.Close())
	})
}
