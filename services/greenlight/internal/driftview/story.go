package driftview

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Story explains the report in a sentence or two: has the market moved, and do the model's inputs show it? It is empty if
// there are too few rows or days.
func (r *Report) Story() string {
	if r.Overall == nil || r.Overall.Noise == nil || r.Rows < r.limits.MinRows || r.Days < r.limits.MinDays {
		return ""
	}
	inputs := r.beyond(func(role drift.Role) bool { return role == drift.RawInput })
	model := r.beyond(func(role drift.Role) bool { return role != drift.RawInput })
	if r.Overall.Verdict == gate.Fail {
		model = append([]string{fmt.Sprintf("overall (%.3f)", r.Overall.PSI)}, model...)
	}
	var story string
	switch {
	case len(inputs) > 0 && len(model) == 0:
		story = fmt.Sprintf("The market has moved, but the model's features have not: raw %s drifted from the reference, while the features have an overall PSI of %.3f and none exceeds both its limit and its noise.",
			strings.Join(inputs, ", "), r.Overall.PSI)
	case len(inputs) > 0:
		story = fmt.Sprintf("The market has moved, and the model's features with it: raw %s drifted from the reference, and so did %s.", strings.Join(inputs, ", "), strings.Join(model, ", "))
	case len(model) > 0:
		story = fmt.Sprintf("The model no longer sees what it was trained on: %s drifted from the reference.", strings.Join(model, ", "))
	default:
		story = "No drift: no PSI exceeds both its limit and its noise."
	}
	if !slices.ContainsFunc(r.Features, func(f drift.FeatureReading) bool { return f.Role == drift.RawInput || f.Feature == "mid" }) {
		story += " The vectors came without raw inputs, so it is unknown whether the price itself moved."
	}
	return story
}

// beyond returns the features of the given roles whose verdict is FAIL, each with its PSI.
func (r *Report) beyond(of func(drift.Role) bool) []string {
	var names []string
	for _, f := range r.Features {
		if of(f.Role) && f.Verdict == gate.Fail {
			names = append(names, fmt.Sprintf("%s (%.3f)", f.Feature, f.PSI))
		}
	}
	return names
}

// Text writes the window, the table, what it means, and the verdict.
func (r *Report) Text(out io.Writer, bins Bins) error {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	if !r.Window.End.IsZero() {
		const minute = "2006-01-02 15:04"
		line("window    %s to %s, %s of %s, against %s of %s", r.Window.Start.UTC().Format(minute), r.Window.End.UTC().Format(minute),
			text.Count(r.Rows, "row"), text.Count(r.Days, "day"), text.Count(r.ReferenceRows, "row"), text.Count(r.ReferenceDays, "day"))
	}
	if err := r.Table(out, bins); err != nil {
		return err
	}
	if story := r.Story(); story != "" {
		line("%s", story)
	}
	if r.Reason == "" {
		line("verdict   %s", r.Verdict)
	} else {
		line("verdict   %s: %s", r.Verdict, r.Reason)
	}
	return nil
}
