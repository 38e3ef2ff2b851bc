package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// engineFlags say which ml-engines to ask for their drift, and over how long.
type engineFlags struct {
	accessFlags

	addrs   []string
	window  time.Duration
	timeout time.Duration
}

const (
	week = 7 * 24 * time.Hour
	// driftTimeout is far more than the first answer takes, which draws the noise: some hundred milliseconds.
	driftTimeout = 10 * time.Second
)

func (e *engineFlags) declare(fs *pflag.FlagSet, c Console) {
	e.accessFlags.declare(fs, c)
	targetsVar(fs, &e.addrs, "engine", []string{"127.0.0.1:4010"}, "gRPC addresses of ml-engine, one per replica")
	fs.DurationVar(&e.window, "window", week, "how far to look back: whole hours, at most 672h")
	fs.DurationVar(&e.timeout, "timeout", driftTimeout, "how long the answers may take")
	require(fs, "timeout", "more than 0", func() bool { return e.timeout > 0 })
}

func (e *engineFlags) validate() error {
	if e.window%time.Hour != 0 || e.window < time.Hour || e.window > drift.RingHours*time.Hour {
		return usageError{fmt.Errorf("--window %v: want whole hours from 1 to %d", e.window, drift.RingHours)}
	}
	if len(e.addrs) == 0 {
		return usageError{errors.New("--engine: no address")}
	}
	for i, addr := range e.addrs {
		if slices.Contains(e.addrs[:i], addr) {
			return usageError{fmt.Errorf("--engine: %s is there twice, and would be counted twice", addr)}
		}
	}
	return nil
}

// dial connects to all replicas, hands them to use, and closes the connections.
func (e *engineFlags) dial(use func([]fleet.Engine) error) error {
	if err := e.open(); err != nil {
		return err
	}
	services, err := fleet.Connect(e.connect, e.addrs, nil)
	if err != nil {
		return err
	}
	return errors.Join(use(services.Engines), services.Close())
}

// read asks the replicas within the timeout.
func (e *engineFlags) read(ctx context.Context, replicas []fleet.Engine, history bool) (*driftfleet.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return driftfleet.Read(ctx, replicas, int(e.window/time.Hour), history)
}

func driftSnapshotCommand(c Console) *cobra.Command {
	var e engineFlags
	var folder, source string
	var check bool
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Write down the drift of what ml-engine has scored lately",
		Long: `Snapshot asks one or several replicas of ml-engine for their counts, adds them up, and judges the sum: the population
stability index (PSI) of every feature against the model's training rows, beside what it reaches without any drift. It
writes psi_snapshot.json, and figures beside it, to the evidence folder.

An index is FAIL above its threshold (0.2 overall, 0.3 for a feature) and above the 99 % quantile without drift; above the
threshold alone it is INCONCLUSIVE, and so are fewer than 500 rows or 5 days. Replicas with different models or references
are refused. It exits 0 whatever the verdict, and with --check it exits 3 when it is not PASS.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.validate(); err != nil {
				return err
			}
			if !evidence.Source(source).Valid() {
				return usageError{fmt.Errorf("--source %q: want %s, %s or %s", source, evidence.Live, evidence.Replay, evidence.Simulated)}
			}
			var r *driftfleet.Report
			if err := e.dial(func(replicas []fleet.Engine) (err error) {
				r, err = e.read(cmd.Context(), replicas, true)
				return err
			}); err != nil {
				return err
			}
			for _, replica := range r.Replicas {
				c.Say("engine    %s: %s, digest %.12s, %s", replica.Address, r.Model.Version, r.Model.Digest, text.Count(replica.Rows, "row"))
			}
			if err := c.sayDrift(&r.Report); err != nil {
				return err
			}
			header := evidence.Header{Schema: driftfleet.Schema, Source: evidence.Source(source), Model: &r.Model, Git: Revision()}
			return c.keepDrift(folder, snapshotEvidence(r, header), check)
		},
	}
	fs := cmd.Flags()
	e.declare(fs, c)
	fs.StringVar(&source, "source", string(evidence.Live), "where the scored states come from: live, replay or simulated")
	declareCheck(fs, &check)
	DeclareEvidence(fs, &folder)
	return cmd
}

func declareCheck(fs *pflag.FlagSet, check *bool) {
	fs.BoolVar(check, "check", false, "exit 3 when the verdict is not PASS")
}

// driftEvidence is a report to write down.
type driftEvidence struct {
	// file is the report's name, figures what those of its figures begin with, title what stands above them.
	file, figures, title string
	header               evidence.Header
	// body is the report with what is beside it in the file.
	body   any
	report *driftview.Report
}

// snapshotEvidence is the snapshot with the source that the header claims, or a less live one that the rows have.
func snapshotEvidence(r *driftfleet.Report, header evidence.Header) driftEvidence {
	header.Source = r.Sources.Least(header.Source)
	return driftEvidence{"psi_snapshot.json", "", r.Title(r.Model.Version, header.Source), header, r, &r.Report}
}

// write writes the figures, then the report, and returns how many figures there are.
func (e driftEvidence) write(store *evidence.Store) (int, error) {
	figures, err := e.report.Figures(e.figures, e.title)
	if err != nil {
		return 0, err
	}
	for _, f := range figures {
		if err := store.WriteFile(f.Name, f.SVG); err != nil {
			return 0, err
		}
	}
	return len(figures), store.WriteJSON(e.file, e.header, e.body)
}

// keepDrift writes a report; its verdict is the exit code if it is to be checked.
func (c Console) keepDrift(folder string, e driftEvidence, check bool) error {
	store, err := evidence.Open(folder, evidence.Options{})
	if err != nil {
		return err
	}
	n, err := e.write(store)
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	c.Say("evidence  %s (%s), with %s", filepath.Join(folder, e.file), e.header.Source, text.Count(n, "figure"))
	if check && !e.report.Verdict.OK() {
		return ErrGate
	}
	return nil
}

// sayDrift prints the table, what it means, and the verdict.
func (c Console) sayDrift(r *driftview.Report) error {
	if !r.Window.End.IsZero() {
		c.Say("window    %s to %s, %s of %s, against %s of %s", clock(r.Window.Start.UnixMilli()), clock(r.Window.End.UnixMilli()),
			text.Count(r.Rows, "row"), text.Count(r.Days, "day"), text.Count(r.ReferenceRows, "row"), text.Count(r.ReferenceDays, "day"))
	}
	bins := driftview.Numbers
	if c.screen != nil {
		bins = driftview.Blocks
	}
	if err := r.Table(c.Out, bins); err != nil {
		return err
	}
	if story := r.Story(); story != "" {
		c.Say("%s", story)
	}
	if r.Reason == "" {
		c.Say("verdict   %s", r.Verdict)
	} else {
		c.Say("verdict   %s: %s", r.Verdict, r.Reason)
	}
	return nil
}
