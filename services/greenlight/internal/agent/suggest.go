package agent

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// critical is the overall index above which a retraining is due when it stays there.
const critical = 0.3

// Suggestion is that a retraining is due: the body of retrain_suggestion_<time>.json.
type Suggestion struct {
	// Since is the first sample of the episode, Samples how many there are in a row, of which none is at or below Threshold.
	Since     time.Time `json:"since"`
	Samples   int       `json:"samples"`
	Threshold float64   `json:"threshold"`
	// PSI is the newest index, PSIMax the largest of the episode.
	PSI    float64      `json:"psi"`
	PSIMax float64      `json:"psi_max"`
	Status drift.Status `json:"status"`
	Action string       `json:"action"`
}

// episode is the run of critical samples that goes on now. A sample without an index neither ends it nor counts.
func episode(samples []report.Sample) (s Suggestion) {
	for _, sample := range samples {
		switch d := sample.Drift; {
		case d == nil:
		case d.PSI <= critical:
			s = Suggestion{}
		default:
			if s.Samples == 0 {
				s.Since = sample.Time
			}
			s.Samples++
			s.PSI, s.PSIMax = d.PSI, max(s.PSIMax, d.PSI)
		}
	}
	return s
}

// suggest writes the suggestion of the episode that goes on, once.
func (a *Agent) suggest(store *evidence.Store, samples []report.Sample, now time.Time) error {
	s := episode(samples)
	a.Metrics.criticalSamples.Set(float64(s.Samples))
	if s.Samples < a.CriticalSamples {
		return nil
	}
	name := "retrain_suggestion_" + s.Since.UTC().Format("20060102T150405Z") + ".json"
	if there, err := report.Written(a.Evidence, name); err != nil || there {
		return err
	}
	s.Threshold, s.Status, s.Action = critical, drift.Critical, "run greenlight retrain, and evaluate the candidate before it is served"
	h := a.header()
	h.Schema = "greenlight/retrain_suggestion/v1"
	a.Logger.Warn("drift stays critical: a retraining is due", "since", s.Since, "samples", s.Samples, "psi", s.PSI)
	return a.done("retrain_suggestion", name, true, now, store.WriteJSON(name, h, s))
}
