package promote

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/study"
)

const offlineName = "offline_report.json"

// offlineReport is offline_report.json.
type offlineReport struct {
	evidence.Header
	study.OfflineReport
}

// offline judges how the model's kind did out of time.
//
// The report is of walk-forward folds: each has a model of its own, and the model of the last is the one that was
// registered. So the report names that model, and it must be this one; a report that names none must be of this model's
// training data.
func (j *judgment) offline() []Row {
	rules := gate.Offline()
	for i := range rules {
		switch rules[i].Name {
		case gate.AUC:
			rules[i].Threshold = j.policy.Promotion.AUC
		case gate.PrecisionAt20:
			rules[i].Threshold = j.policy.Promotion.PrecisionAt20
		}
	}
	f, err := j.read(offlineName, "greenlight train")
	var report offlineReport
	if err == nil {
		err = f.as(study.OfflineSchema, &report)
	}
	if err == nil {
		err = complete(f)
	}
	rows := make([]Row, 0, len(rules))
	for _, rule := range rules {
		if err != nil {
			rows = append(rows, missing(rule, err.Error(), f))
			continue
		}
		r := newRow(gate.Check(rule, report.Observations()[rule.Name]), f)
		r.Note = fmt.Sprintf("base rate %.3f, %d folds", report.BaseRate, report.Split.Folds)
		if f.header.Model != nil {
			r.about(f, j.digest)
		} else if want := j.manifest.Training.DataDigest; report.DatasetDigest != want {
			r.worsen(gate.Fail, "%s is of other data, %s, and the model was trained on %s", f.Path, short(report.DatasetDigest), short(want))
		}
		if f.header.Source == evidence.Simulated {
			r.worsen(gate.Fail, "%s is %s: it says nothing of any market", f.Path, f.header.Source)
		}
		rows = append(rows, r)
	}
	return rows
}

// complete asks for the figures to be there: one that is not would read as 0.
func complete(f *file) error {
	var figures struct {
		AUC           *float64 `json:"auc"`
		PrecisionAt20 *float64 `json:"precision_at_20"`
		N             *int     `json:"n"`
	}
	if err := f.decode(&figures); err != nil {
		return err
	}
	if figures.AUC == nil || figures.PrecisionAt20 == nil || figures.N == nil || *figures.N < 0 {
		return fmt.Errorf("%s has no auc, precision_at_20 or n", f.Path)
	}
	return nil
}
