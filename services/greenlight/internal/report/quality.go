package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// Quality is the verdict on live quality at a sample, over the records of all executors.
type Quality struct {
	// Time is the time of the sample, UTC.
	Time time.Time `json:"time"`
	// Model and Baseline are digests.
	Model    string `json:"model"`
	Baseline string `json:"baseline"`
	quality.Summary
	// Watch is the result of watching for a change since the promotion of the model; nil if it was not promoted.
	Watch *Watch `json:"watch,omitempty"`
}

// Watch detects a drop in quality below the margin since a promotion. It raises about one false alarm a year.
type Watch struct {
	// Since is the time of the promotion.
	Since time.Time `json:"since"`
	outcome.Alarm
}

// QualityOf judges the records of all executors. promoted is when the model was promoted; zero if it was not.
func QualityOf(q *fleet.Quality, now, promoted time.Time) (*Quality, error) {
	s := &Quality{Time: now, Model: q.Model, Baseline: q.Baseline, Summary: *quality.Summarize(q.Plan, q.Records)}
	if promoted.IsZero() {
		return s, nil
	}
	since := slices.DeleteFunc(slices.Clone(q.Records), func(r outcome.Record) bool { return q.Plan.Start(r.Block).Before(promoted) })
	alarm, err := outcome.Watch(q.Plan, since)
	if err != nil {
		return s, err
	}
	s.Watch = &Watch{promoted, *alarm}
	return s, nil
}

// Latch keeps an alarm that an earlier sample raised for the same promotion: its records may have expired since.
func (q *Quality) Latch(before *Quality) {
	if q == nil || before == nil || q.Watch == nil || before.Watch == nil || q.Model != before.Model || !q.Watch.Since.Equal(before.Watch.Since) {
		return
	}
	if before.Watch.Raised && !q.Watch.Raised {
		q.Watch.Alarm = before.Watch.Alarm
	}
}

// Alarmed reports whether the watch since the promotion has raised its alarm.
func (q *Quality) Alarmed() bool { return q != nil && q.Watch != nil && q.Watch.Raised }

// Line describes the verdict and the result of the watch.
func (q *Quality) Line() string {
	if q == nil {
		return "no verdict: the executors have no plan for it"
	}
	line := q.Words()
	if w := q.Watch; w != nil {
		line += fmt.Sprintf("; since the promotion at %s: ", w.Since.UTC().Format("2006-01-02 15:04"))
		if w.Raised {
			return line + "ALARM, the model has become worse than the margin allows"
		}
		line += fmt.Sprintf("no alarm (%.3g of %.0f)", w.Statistic, w.Threshold)
	}
	return line
}

// action returns what to do about a verdict on live quality.
func (q *Quality) action() string {
	switch {
	case q.Alarmed(), q.Verdict == outcome.Fail:
		return "roll back (greenlight rollback); retrain on newer data"
	case q.Verdict == outcome.Error:
		return lookInto
	case q.Verdict == outcome.Inconclusive:
		return "wait: " + q.Needs()
	}
	return "none"
}

// cells returns the row in a table of figures.
func (q *Quality) cells() []any {
	reasons := strings.Join(q.Reasons, "; ")
	if q.Alarmed() {
		reasons += "; ALARM since the promotion"
	}
	return []any{
		"live quality", "PASS or BETTER", fmt.Sprintf("%+.4g to %+.4g", q.Lower, q.Upper), q.Labels[outcome.Matured], q.Verdict, q.action(), reasons,
	}
}
