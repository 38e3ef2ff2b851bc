package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rowtable"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

func schemaNew(c console.Console) *cobra.Command {
	var table, name, score, out string
	var except []string
	var horizon time.Duration
	cmd := console.Command("new", "Write a schema from the header of a CSV or Parquet file",
		`New writes a schema whose features are the columns of the file, in order. Leave out the time, the label and the group with
--except. Complete the units and descriptions by hand, and add a domain [lowest, highest] where it is known. A missing unit
means 1, a pure number. Names, units and order determine the schema's hash: if you change them, give the schema a new name.`,
		func(context.Context) error {
			if table == "" {
				return console.Usagef("--table is required: a CSV or Parquet file whose columns are the features")
			}
			header, err := rowtable.Header(table)
			if err != nil {
				return err
			}
			for _, column := range except {
				if !slices.Contains(header, column) {
					return console.Usagef("--except %s: %s has no such column", text.Clean(column, 64), table)
				}
			}
			var defs []feature.Def
			for _, column := range header {
				if !slices.Contains(except, column) {
					defs = append(defs, feature.Def{Name: column})
				}
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(table), filepath.Ext(table))
			}
			s, err := feature.MakeSchema(name, score, horizon, defs)
			if err != nil {
				return console.WithHint(err, "rename the column, or leave it out with --except")
			}
			raw, err := s.YAML()
			if err != nil {
				return err
			}
			if out == "" {
				_, err = c.Out.Write(raw)
				return err
			}
			if err := durable.WriteFile(out, raw, 0o644); err != nil {
				return err
			}
			c.Say("schema    %s: %s; complete their units and descriptions, then greenlight schema check %s", out, text.Count(s.Len(), "feature"), out)
			return nil
		})
	fs := cmd.Flags()
	fs.StringVar(&table, "table", "", "CSV or Parquet file whose columns are the features (required)")
	fs.StringSliceVar(&except, "except", nil, "columns that are not features, for example the time and the label")
	fs.StringVar(&name, "name", "", "name of the schema; by default the name of the file")
	fs.StringVar(&score, "score", "", "what a score means, in one sentence")
	fs.DurationVar(&horizon, "horizon", 0, "how far ahead the label looks, for example 15m")
	fs.StringVar(&out, "out", "", "file to write; by default standard output")
	return cmd
}

func schemaCheck(c console.Console) *cobra.Command {
	var table string
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Check a schema and print its hash",
		Long: `Check reads a schema, shows which of its features are computed from quotes and which the caller sends, and prints its
hash, which requests may include. With --table it also checks that the file has a column for each feature.`,
		Args: console.Arguments(1, "name one schema file"),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := flags.ReadSchema(args[0])
			if err != nil {
				return err
			}
			var computed []string
			for _, name := range s.Names() {
				if _, ok := feature.Find(name); ok {
					computed = append(computed, name)
				}
			}
			c.Say("schema    %s: %s, hash %s", s.Name, text.Count(s.Len(), "feature"), s.Hash())
			if len(computed) > 0 {
				c.Say("          computed from quotes: %s", strings.Join(computed, ", "))
			}
			c.Say("          sent by the caller: %d", s.Len()-len(computed))
			if table == "" {
				return nil
			}
			header, err := rowtable.Header(table)
			if err != nil {
				return err
			}
			absent := slices.DeleteFunc(s.Names(), func(name string) bool { return name == feature.Bias || slices.Contains(header, name) })
			if len(absent) > 0 {
				return console.WithHint(fmt.Errorf("%s lacks %s: %s", table, text.Count(len(absent), "feature"), strings.Join(absent[:min(len(absent), 20)], ", ")),
					"greenlight schema new --table %s writes a schema of its columns", table)
			}
			c.Say("table     %s has all features", table)
			return nil
		},
	}
	cmd.Flags().StringVar(&table, "table", "", "CSV or Parquet file that must have the features")
	return cmd
}
