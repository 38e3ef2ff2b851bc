package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

func driftCompareCommand(c console.Console) *cobra.Command {
	f := flags.Compare{Options: driftcompare.DefaultOptions()}
	var folder string
	var check bool
	var show func(*driftcompare.Report) error
	cmd := console.Command("compare", "Measure the drift from one market or feature log to another, or within one",
		`Compare takes one set of rows as the reference and measures how far another has drifted from it: the population stability
index (PSI) of every feature of the schema, of the raw inputs, and with --model of the score. A set is market data, as for
--data of the other commands, or a feature log: the folder of an executor, or a dataset of several executors that greenlight
rows push has made, in a folder or at s3://bucket/prefix. With --reference-days instead of --current, one set is split by time:
its first days are the reference, and the rest is current.

Each index covers one feature. In addition, a classifier tests whether all features of the model together distinguish the two
sets, and which of them do.

It writes psi_compare.json, with a series of windows of 7 days through the current rows, and its figures to the evidence
folder. The verdicts are the same as for drift snapshot; the classifier and the series do not change them. The quality of
market data is judged too and can fail --check: the index of a frozen feed says nothing about a market.`,
		func(ctx context.Context) error {
			if err := f.Validate(); err != nil {
				return console.Usage(err)
			}
			return compareDrift(ctx, c, show, &f, folder, check)
		})
	fs := cmd.Flags()
	f.Declare(fs)
	declareCheck(fs, &check)
	flags.Evidence(fs, &folder)
	show = console.Outputs[*driftcompare.Report](c, cmd, driftcompare.Schema)
	return cmd
}

// compareDrift compares the sets, prints the report and writes it to the folder.
func compareDrift(ctx context.Context, c console.Console, show func(*driftcompare.Report) error, f *flags.Compare, folder string, check bool) error {
	reference, current, m, err := f.Sets(ctx, c)
	if err != nil {
		return err
	}
	r, err := driftcompare.Compare(reference, current, f.Options)
	if err != nil {
		return err
	}
	if err := errors.Join(sayDrift(c, &r.Report), show(r)); err != nil {
		return err
	}
	for _, line := range []struct{ head, text string }{{"weeks", r.Rolling()}, {"apart", r.Apart()}} {
		if line.text != "" {
			c.Say("%-9s %s", line.head, line.text)
		}
	}
	bad, reasons := r.DataVerdict()
	for _, reason := range reasons {
		c.Say("data      %s", reason)
	}
	header := evidence.Header{
		Schema: driftcompare.Schema, Git: console.Revision(), Model: m,
		Source: driftcompare.Source(reference, current), Inputs: driftcompare.Inputs(reference, current),
	}
	if err := keepDrift(c, folder, driftcompare.File, header.Source, func(store *evidence.Store) (int, error) {
		return r.Write(store, header)
	}); err != nil {
		return err
	}
	return gated(check, gate.Worst(r.Verdict, bad))
}
