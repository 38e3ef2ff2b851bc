package cli

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// reportFlags are the flags that select what to report on.
type reportFlags struct {
	state, date, evidence string
	nightly               flags.Recent
	check                 bool
	// show prints the summary with --output json.
	show func(report.Summary) error
}

// reportKind is a daily report or a weekly summary.
type reportKind struct {
	use, short string
	period     func(time.Time) report.Period
	files      func(report.Period) (table, document string)
	write      func(*evidence.Store, evidence.Header, report.Period, []report.Sample) (bool, error)
}

func reportCommand(c console.Console) *cobra.Command {
	cmd := &cobra.Command{Use: "report", Short: "Summarize a day or a week from the agent's journal", Args: console.NoArgs}
	var day, week reportFlags
	daily := day.command(c, reportKind{
		"daily", "Write the report of a UTC day: match rate, error rate, p95, PSI", report.Day, report.DailyFiles,
		func(store *evidence.Store, h evidence.Header, p report.Period, samples []report.Sample) (bool, error) {
			s := report.Summarize(p, samples)
			if classify := day.nightly.Classifier(c.Quiet()); classify != nil {
				s.Classifier, h.Inputs = classify(p)
				c.Say("apart     %s", report.Apart(s.Classifier))
			}
			return report.WriteDaily(day.evidence, store, h, s)
		},
	})
	day.nightly.Declare(daily.Flags())
	weekly := week.command(c, reportKind{
		"weekly", "Write the summary of the ISO week of a day", report.Week, report.WeeklyFiles,
		func(store *evidence.Store, h evidence.Header, p report.Period, samples []report.Sample) (bool, error) {
			return report.WriteWeekly(week.evidence, store, h, p, samples)
		},
	})
	cmd.AddCommand(daily, weekly)
	return cmd
}

func (f *reportFlags) command(c console.Console, kind reportKind) *cobra.Command {
	cmd := &cobra.Command{
		Use: kind.use, Short: kind.short,
		Long: kind.short + `.

The figures are differences of the counters in the journal of greenlight agent. A period without data is ERROR. An existing
report is not replaced. A period that has not ended is refused.`,
		Args: console.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := f.over(kind.period, time.Now())
			if err == nil {
				err = f.nightly.Validate()
			}
			if err != nil {
				return err
			}
			return f.report(c, kind, p)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.date, "date", "", "UTC day, as 2006-01-02: the day to report, or any day of the week; by default the last complete period")
	fs.StringVar(&f.state, "state", agentState, "folder of the agent's journal")
	declareCheck(fs, &f.check)
	flags.Evidence(fs, &f.evidence)
	f.show = console.Outputs[report.Summary](c, cmd, "greenlight/report/v1")
	return cmd
}

// over returns the period of the date, or the last complete period.
func (f *reportFlags) over(period func(time.Time) report.Period, now time.Time) (report.Period, error) {
	if f.date == "" {
		return period(period(now).Start.Add(-1)), nil
	}
	date, err := time.Parse(time.DateOnly, f.date)
	if err != nil {
		return report.Period{}, console.Usagef("--date %q: want a UTC day as 2006-01-02", f.date)
	}
	p := period(date)
	if p.End.After(now) {
		return p, console.Usagef("--date %s: %s is not over before %s UTC", f.date, p.Name, p.End.Format("2006-01-02 15:04"))
	}
	return p, nil
}

func (f *reportFlags) report(c console.Console, kind reportKind, p report.Period) error {
	samples, err := report.ReadJournal(f.state, p.Start)
	if err != nil {
		return console.WithHint(err, "greenlight agent keeps the journal; --state names its folder")
	}
	h := evidence.Header{Source: report.SourceOf(p, samples), Git: console.Revision()}
	wrote, err := flags.Keep(c, f.evidence, func(store *evidence.Store) (bool, error) { return kind.write(store, h, p, samples) })
	if err != nil {
		return err
	}
	s := report.Summarize(p, samples)
	_, document := kind.files(p)
	c.Say("%s  %s, %s, counts cover %.1f %% of the time", p.Name, text.Count(s.Requests, "request"), text.Count(s.Samples, "sample"), 100*s.Coverage)
	for _, m := range s.Missing {
		c.Say("missing   %s %s in %d of %s: %s", m.Service, m.Address, m.Samples, text.Count(s.Samples, "sample"), m.Reason)
	}
	if s.Decisions != nil {
		c.Say("decided   %s", s.Decisions)
	}
	if s.Quality != nil {
		c.Say("quality   %s", s.Quality.Line())
	}
	if err := errors.Join(s.Scorecard().Table(c.Out), f.show(s)); err != nil {
		return err
	}
	if wrote {
		c.Say("evidence  %s (%s)", filepath.Join(f.evidence, document), h.Source)
	} else {
		c.Say("evidence  %s exists already and was not replaced", filepath.Join(f.evidence, document))
	}
	return gated(f.check, s.Verdict)
}
