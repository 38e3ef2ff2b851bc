package promote

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// offline judges the model's out-of-time figures by the evaluation that it was registered with. Older models have none: then
// the report in the evidence folder counts, which must be about the model.
//
// The report of a model that was trained here covers walk-forward folds. Each fold has its own model, and the last fold's
// model is the registered one.
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
	f, report, err := j.offlineReport()
	rows := make([]Row, 0, len(rules))
	for _, rule := range rules {
		if err != nil {
			rows = append(rows, missing(rule, err.Error(), f))
			continue
		}
		r := newRow(gate.Check(rule, report.Observations()[rule.Name]), f)
		r.Note = fmt.Sprintf("base rate %.3f, %d folds", report.BaseRate, report.Split.Folds)
		for _, other := range report.Judge().Results {
			if concerns(other.Name, rule.Name) && !other.Verdict.OK() {
				r.worsen(other.Verdict, "%s: %s", other.Name, other.Reason)
			}
		}
		if report.Model != nil {
			r.about(f, j.digest)
		} else if want := j.manifest.Training.DataDigest; report.DatasetDigest != want {
			r.worsen(gate.Fail, "%s is about other data, %s; the model was trained on %s", f.Path, short(report.DatasetDigest), short(want))
		}
		if report.Source == evidence.Simulated {
			r.worsen(gate.Fail, "%s is %s: it says nothing about any market", f.Path, report.Source)
		}
		rows = append(rows, r)
	}
	return rows
}

// concerns reports whether the figure depends on what the other rule judges.
func concerns(rule, figure string) bool {
	switch rule {
	case gate.AUC, gate.PrecisionAt20:
		return false // judged by the policy's limits
	case gate.AUCLow:
		return figure == gate.AUC
	case gate.PrecisionLift:
		return figure == gate.PrecisionAt20
	}
	return true
}

// offlineReport returns the evaluation to judge the model by, and its file.
func (j *judgment) offlineReport() (*file, *experiment.OfflineFile, error) {
	if j.artifact == nil {
		return nil, nil, errors.New("the model does not verify, and its own evaluation is one of its files")
	}
	own, err := experiment.Own(j.artifact)
	if err == nil {
		f := &file{
			Input:  evidence.Input{Path: filepath.ToSlash(filepath.Join(j.dir, model.OfflineFile)), SHA256: evidence.Sum(j.artifact.Offline)},
			header: own.Header, raw: j.artifact.Offline,
		}
		// Prefer the same file in the evidence folder: evidence verify finds it there.
		if g, err := readFile(j.folder, model.OfflineFile, ""); err == nil && g.SHA256 == f.SHA256 {
			f = g
		}
		j.check.files = append(j.check.files, f)
		return f, own, nil
	}
	if !errors.Is(err, experiment.ErrNoOwnReport) {
		return nil, nil, err
	}
	f, err := j.read(model.OfflineFile, "greenlight train")
	if err != nil {
		return f, nil, fmt.Errorf("%w (%w)", err, experiment.ErrNoOwnReport)
	}
	report, err := experiment.ReadOffline(f.Path, f.raw)
	return f, report, err
}
