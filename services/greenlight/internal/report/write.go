package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// Schemas of the reports.
const (
	DailySchema  = "greenlight/daily_report/v1"
	WeeklySchema = "greenlight/weekly_summary/v1"
)

// Weekly is the body of summary_<week>.json.
type Weekly struct {
	Summary
	Days []Summary `json:"days"`
}

// DailyFiles returns the names of a day's report in the evidence folder. The last is written last.
func DailyFiles(p Period) (table, document string) {
	return "daily/report_" + p.Name + ".csv", "daily/report_" + p.Name + ".json"
}

// WeeklyFiles returns the names of a week's summary. The last is written last.
func WeeklyFiles(p Period) (text, document string) {
	return "weekly/summary_" + p.Name + ".md", "weekly/summary_" + p.Name + ".json"
}

// Written reports whether the document is in the evidence folder. It is written after the files that belong to it.
func Written(folder, document string) (bool, error) {
	_, err := os.Stat(filepath.Join(folder, filepath.FromSlash(document)))
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

// Stands reports whether the document is in the evidence folder and covers at least the given number of samples. A document
// with fewer samples was written before its period ended: with a wrong clock or by hand.
func Stands(folder, document string, samples int) (bool, error) {
	path := filepath.Join(folder, filepath.FromSlash(document))
	raw, err := durable.ReadFile(path, maxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var seen struct {
		Samples int `json:"samples"`
	}
	if err := json.Unmarshal(raw, &seen); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return seen.Samples >= samples, nil
}

// maxDocument bounds a document, in bytes.
const maxDocument = 16 << 20

// WriteDaily writes the report of a day to the evidence folder: its table, its lines in the table of all days, and its
// document. It replaces an earlier report unless that stands: see [Stands]. It reports whether it wrote.
func WriteDaily(folder string, store *evidence.Store, h evidence.Header, s Summary) (wrote bool, err error) {
	table, document := DailyFiles(s.Period)
	if there, err := Stands(folder, document, s.Samples); err != nil || there {
		return false, err
	}
	one, err := s.Table()
	if err != nil {
		return false, err
	}
	all, err := merge(filepath.Join(folder, filepath.FromSlash(CumulativeName)), s.Name, one)
	if err != nil {
		return false, err
	}
	if err := store.WriteFile(table, one); err != nil {
		return false, err
	}
	if err := store.WriteFile(CumulativeName, all); err != nil {
		return false, err
	}
	h.Schema, h.Model = DailySchema, s.model()
	return true, store.WriteJSON(document, h, s)
}

// WriteWeekly writes the summary of a week and its days, unless there is a summary that stands: see [Stands]. It reports
// whether it wrote.
func WriteWeekly(folder string, store *evidence.Store, h evidence.Header, p Period, samples []Sample) (wrote bool, err error) {
	text, document := WeeklyFiles(p)
	w := Weekly{Summary: Summarize(p, samples)}
	if there, err := Stands(folder, document, w.Samples); err != nil || there {
		return false, err
	}
	for t := p.Start; t.Before(p.End); t = t.Add(day) {
		w.Days = append(w.Days, Summarize(Day(t), samples))
	}
	if err := store.WriteFile(text, w.Markdown(h.Source)); err != nil {
		return false, err
	}
	h.Schema, h.Model = WeeklySchema, w.model()
	return true, store.WriteJSON(document, h, w)
}

// model returns the model that answered all shadows; nil if there were several or none.
func (s *Summary) model() *evidence.Model {
	if len(s.Models) != 1 {
		return nil
	}
	return &s.Models[0]
}
