package evidencedoc

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

func (c *checker) daily() error {
	s, err := as[report.Summary](c.file)
	if err != nil {
		return err
	}
	c.summary(s)
	name, _ := report.DailyFiles(s.Period)
	for _, name := range []string{name, report.CumulativeName} {
		if !c.has(name) {
			continue
		}
		if err := c.lines(c.named[name], s); err != nil {
			return err
		}
	}
	return nil
}

// comparedColumns are the columns of a daily CSV table that are checked against the summary.
var comparedColumns = []string{"date", "figure", "value", "n", "threshold", "status"}

// lines checks that a daily table has exactly the figures of the day.
func (c *checker) lines(table *file, s *report.Summary) error {
	want, err := s.Table()
	if err != nil {
		return err
	}
	have, err := rows(table.raw, s.Name)
	if err != nil {
		c.add(true, "cannot be compared with %s: %v", table.name, err)
		return nil
	}
	ours, err := rows(want, s.Name)
	c.add(err == nil && !slices.Equal(have, ours), "disagrees with %s", table.name)
	return err
}

// rows returns the lines of a day, with the compared columns only.
func rows(raw []byte, date string) ([]string, error) {
	all, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil || len(all) == 0 {
		return nil, errors.Join(err, errNoTable)
	}
	var found []string
	for _, line := range all[1:] {
		var cells []string
		for _, name := range comparedColumns {
			i := slices.Index(all[0], name)
			if i < 0 {
				return nil, fmt.Errorf("%w: no column %s", errNoTable, name)
			}
			cells = append(cells, line[i])
		}
		if cells[0] == date {
			found = append(found, strings.Join(cells, ","))
		}
	}
	return found, nil
}

var errNoTable = errors.New("not a daily table")

func (c *checker) weekly() error {
	w, err := as[report.Weekly](c.file)
	if err != nil {
		return err
	}
	c.summary(&w.Summary)
	for i := range w.Days {
		c.summary(&w.Days[i])
	}
	name, _ := report.WeeklyFiles(w.Period)
	if text := c.named[name]; c.has(name) {
		c.text(text, fmt.Sprintf("# Week %s: %s", w.Name, w.Verdict), w.Scorecard().Results)
	}
	return nil
}

// has reports whether the folder has the named companion of the checked file. A missing companion is a problem.
func (c *checker) has(name string) bool {
	exists := c.named[name] != nil
	c.add(!exists, "has no companion file %s", name)
	return exists
}

// summary judges the summary of a period again from its counts.
func (c *checker) summary(s *report.Summary) {
	verdict, figures := s.Judge()
	c.add(verdict != s.Verdict, "records %s for %s, but its counts give %s", s.Verdict, s.Name, verdict)
	again := report.Summary{Figures: figures}
	c.add(!sameJudgment(again.Scorecard().Results, s.Scorecard().Results), "has figures for %s that do not follow from its counts", s.Name)
	mean := 0.0
	for _, e := range s.Executors {
		mean += e.Coverage / float64(len(s.Executors))
	}
	c.add(math.Abs(mean-s.Coverage) > 1e-9, "records a coverage of %v for %s, but its executors give %v", s.Coverage, s.Name, mean)
	if d := s.Drift; d != nil {
		verdict, _ := d.Judge()
		c.add(verdict != d.Verdict, "records drift as %s in %s, but its index gives %s", d.Verdict, s.Name, verdict)
	}
	c.classifier(s.Classifier)
}

// classifier judges the result of a classifier again; k may be nil.
func (c *checker) classifier(k *twosample.Result) {
	if k == nil {
		return
	}
	if len(k.LeansOn) == 0 { // the classifier was not fitted
		c.add(k.Verdict == gate.Pass || k.Verdict == gate.Fail, "records a classifier without weights as %s", k.Verdict)
		return
	}
	verdict, _ := k.Judge()
	c.add(verdict != k.Verdict, "records the classifier as %s, but its AUC and p-value give %s", k.Verdict, verdict)
}
