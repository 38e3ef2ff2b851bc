package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// reportFlags say what to report on.
type reportFlags struct {
	state, date, source, evidence string
	check                         bool
}

func reportCommand(c console) *cobra.Command {
	cmd := &cobra.Command{Use: "report", Short: "Sum up a day or a week from what the agent has seen", Args: noArgs}
	var f reportFlags
	cmd.AddCommand(
		f.command(c, "daily", "Write the report of a UTC day: PSI, error rate, match rate, p95", report.Day, report.DailyFiles,
			func(store *evidence.Store, h evidence.Header, p report.Period, samples []report.Sample) (bool, error) {
				return report.WriteDaily(f.evidence, store, h, report.Summarize(p, samples))
			}),
		f.command(c, "weekly", "Write the summary of the ISO week of a day", report.Week, report.WeeklyFiles,
			func(store *evidence.Store, h evidence.Header, p report.Period, samples []report.Sample) (bool, error) {
				return report.WriteWeekly(f.evidence, store, h, p, samples)
			}),
	)
	return cmd
}

func (f *reportFlags) command(c console, use, short string, period func(time.Time) report.Period, files func(report.Period) (string, string),
	write func(*evidence.Store, evidence.Header, report.Period, []report.Sample) (bool, error),
) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Long: short + `.

The figures are differences of the counters in the journal of greenlight agent. A period without data is ERROR. A report
that is there already is left as it is. A period that is not over is refused.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			date, err := time.Parse(time.DateOnly, f.date)
			if err != nil {
				return usageError{fmt.Errorf("--date %q: want a UTC day as 2006-01-02", f.date)}
			}
			if !evidence.Source(f.source).Valid() {
				return usageError{fmt.Errorf("--source %q: want %s, %s or %s", f.source, evidence.Live, evidence.Replay, evidence.Simulated)}
			}
			p := period(date)
			if p.End.After(time.Now()) {
				return usageError{fmt.Errorf("--date %s: %s is not over before %s UTC", f.date, p.Name, p.End.Format("2006-01-02 15:04"))}
			}
			samples, err := report.ReadJournal(f.state)
			if err != nil {
				return withHint(err, "greenlight agent keeps the journal; --state names its folder")
			}
			store, err := evidence.Open(f.evidence, evidence.Options{})
			if err != nil {
				return err
			}
			wrote, err := write(store, evidence.Header{Source: evidence.Source(f.source), Git: revision()}, p, samples)
			if err = errors.Join(err, store.Close()); err != nil {
				return err
			}
			s := report.Summarize(p, samples)
			_, document := files(p)
			c.say("%s  %d requests, counts cover %.1f %% of the time", p.Name, s.Requests, 100*s.Coverage)
			for _, figure := range s.Figures {
				c.say("  %-20s %s, n %d: %s (%s)", figure.Name, figure.Achieved(), figure.N, figure.Verdict, figure.Action)
			}
			c.say("verdict   %s", s.Verdict)
			if wrote {
				c.say("evidence  %s (%s)", filepath.Join(f.evidence, document), f.source)
			} else {
				c.say("evidence  %s was there already and is left as it is", filepath.Join(f.evidence, document))
			}
			if f.check && !s.Verdict.OK() {
				return errGate
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.date, "date", "", "UTC day, as 2006-01-02: the day, or one of the week")
	fs.StringVar(&f.state, "state", agentState, "folder of the agent's journal")
	fs.StringVar(&f.source, "source", string(evidence.Live), "where the requests came from: live, replay or simulated")
	declareCheck(fs, &f.check)
	declareEvidence(fs, &f.evidence)
	return cmd
}
