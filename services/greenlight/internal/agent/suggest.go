package agent

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// SuggestionSchema is the evidence schema of [Suggestion].
const SuggestionSchema = "greenlight/retrain_suggestion/v1"

// Suggestion is a suggestion to retrain: the body of retrain_suggestion_<time>.json.
type Suggestion struct {
	// Since is the time of the first sample of the episode. Hours is the number of hours with a sample; all were above Threshold.
	Since     time.Time `json:"since"`
	Hours     int       `json:"hours"`
	Threshold float64   `json:"threshold"`
	// PSI is the newest overall PSI, PSIMax the largest of the episode.
	PSI    float64      `json:"psi"`
	PSIMax float64      `json:"psi_max"`
	Status drift.Status `json:"status"`
	Action string       `json:"action"`
}

// episode is the current run of critical samples.
type episode struct {
	Suggestion

	// hour is the newest hour that was counted.
	hour time.Time
}

// add takes the next sample. A PSI counts if it is above [drift.CriticalAbove] and above its noise. Several samples in one
// hour, for example after the agent restarts, count once. A sample without a PSI, or with an inconclusive one, changes
// nothing.
func (e *episode) add(sample report.Sample) {
	d := sample.Drift
	switch {
	case d == nil:
	case d.PSI <= drift.CriticalAbove:
		*e = episode{}
	case d.Verdict == gate.Fail:
		if e.Hours == 0 {
			e.Since = sample.Time
		}
		if hour := sample.Time.Truncate(time.Hour); !hour.Equal(e.hour) { // the hour may be earlier if the clock was wrong before
			e.Hours, e.hour = e.Hours+1, hour
		}
		e.PSI, e.PSIMax = d.PSI, max(e.PSIMax, d.PSI)
	}
}

// suggest writes the suggestion for the current episode, once.
func (a *Agent) suggest(store *evidence.Store, now time.Time) error {
	s := a.episode.Suggestion
	if s.Hours < a.CriticalHours {
		return nil
	}
	name := "retrain_suggestion_" + s.Since.UTC().Format("20060102T150405Z") + ".json"
	if exists, err := report.Written(a.Evidence, name); err != nil || exists {
		return err
	}
	s.Threshold, s.Status, s.Action = drift.CriticalAbove, drift.Critical, "run greenlight retrain, and evaluate the candidate before it is served"
	h := evidence.Header{Schema: SuggestionSchema, Source: a.Source, Git: a.Git}
	a.Logger.Warn("drift is still critical: retraining is suggested", "since", s.Since, "hours", s.Hours, "psi", s.PSI)
	return a.done("retrain_suggestion", name, true, now, store.WriteJSON(name, h, s))
}
