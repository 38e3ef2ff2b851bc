package experiment

import (
	"fmt"
	"io"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/quality"
)

// DataQuality is the quality of market data and its verdict, in the form that reports use.
type DataQuality struct {
	Verdict gate.Verdict  `json:"verdict"`
	Checks  []gate.Result `json:"checks"`
	quality.Report
}

// NewDataQuality judges the quality by the rules of [gate.DataQuality].
func NewDataQuality(q quality.Report) *DataQuality {
	card := gate.Judge(gate.DataQuality(), observations(q))
	for i := range card.Results {
		r := &card.Results[i]
		if where := whereabouts(q, r.Name); !r.Verdict.OK() && where != "" {
			r.Reason += ": " + where
		}
	}
	return &DataQuality{Verdict: card.Verdict(), Checks: card.Results, Report: q}
}

// Card returns the judgment as a scorecard.
func (d *DataQuality) Card() gate.Scorecard { return gate.Scorecard{Results: d.Checks} }

// observations returns the figures that the rules judge.
func observations(q quality.Report) map[string]gate.Observation {
	n := uint64(q.Minutes)
	return map[string]gate.Observation{
		gate.FrozenMinutes:    gate.Measured(q.FrozenShare, n),
		gate.LongestFrozen:    gate.Measured(float64(q.LongestFrozen.Minutes), n),
		gate.LongestFlatRun:   gate.Measured(float64(q.LongestFlatRun.Minutes), n),
		gate.LargestMove:      gate.Measured(q.LargestMove.Share, n),
		gate.LargestGapMove:   gate.Measured(q.LargestGapMove.Share, n),
		gate.UnchangedMinutes: gate.Measured(q.UnchangedShare, n),
		gate.FilledMinutes:    gate.Measured(q.FilledShare, n),
	}
}

// whereabouts returns where in the data a figure was found; empty if it is not a single place.
func whereabouts(q quality.Report, rule string) string {
	switch rule {
	case gate.FrozenMinutes:
		return "the longest stretch is " + span(q.LongestFrozen)
	case gate.LongestFrozen:
		return span(q.LongestFrozen)
	case gate.LongestFlatRun:
		return span(q.LongestFlatRun)
	case gate.LargestMove:
		return "at " + stamp(q.LargestMove.Time)
	case gate.LargestGapMove:
		return "at " + stamp(q.LargestGapMove.Time)
	}
	return ""
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func span(s quality.Stretch) string {
	return fmt.Sprintf("%s to %s (%s, %s)", stamp(s.From), stamp(s.To), s.Kind, Length(s.Minutes))
}

// Length formats a number of minutes for people.
func Length(minutes int) string {
	switch d := time.Duration(minutes) * time.Minute; {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	default:
		return fmt.Sprintf("%d min", minutes)
	}
}

// Lines writes the quality for people: a line of figures, lines about skipped minutes, and a line for every rule that is not
// PASS.
func (d *DataQuality) Lines(w io.Writer) error {
	q := d.Report
	say := func(format string, args ...any) error {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		return err
	}
	err := say("%.1f %% of minutes unchanged, longest flat run %s; %.1f %% filled; largest one-minute move %.2f %%; %s",
		100*q.UnchangedShare, Length(q.LongestFlatRun.Minutes), 100*q.FilledShare, 100*q.LargestMove.Share, holes(q))
	if err == nil && q.ClosedMinutes > 0 {
		err = say("%d minutes of closed weekends are skipped like holes: their bars have only one price", q.ClosedMinutes)
	}
	if err == nil && q.FrozenMinutes > 0 {
		err = say("%d frozen minutes (%.1f %%) are skipped like holes: %s", q.FrozenMinutes, 100*q.FrozenShare, whereabouts(q, gate.FrozenMinutes))
	}
	if err == nil && q.LongestHole.Minutes > 14*24*60 {
		err = say("no fold spans the longest hole; rows whose features would span it are skipped")
	}
	for _, r := range d.Checks {
		if err == nil && !r.Verdict.OK() {
			err = say("%s: %s: %s", r.Verdict, r.Name, r.Reason)
		}
	}
	return err
}

func holes(q quality.Report) string {
	switch q.Holes {
	case 0:
		return "no holes"
	case 1:
		return "one hole, " + span(q.LongestHole)
	}
	return fmt.Sprintf("%d holes, the longest %s", q.Holes, span(q.LongestHole))
}
