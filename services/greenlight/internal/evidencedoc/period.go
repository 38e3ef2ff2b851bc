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

// told are the columns of a table of days that are compared.
var told = []string{"date", "figure", "value", "n", "threshold", "status"}

// lines asks a table of days for the figures of a day, and no others of that day.
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
	c.add(err == nil && !slices.Equal(have, ours), "says other than %s", table.name)
	return err
}

// rows are the lines of a day, of the columns that are compared.
func rows(raw []byte, date string) ([]string, error) {
	all, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil || len(all) == 0 {
		return nil, errors.Join(err, errNoTable)
	}
	var found []string
	for _, line := range all[1:] {
		var cells []string
		for _, name := range told {
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

var errNoTable = errors.New("it is no table of days")

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
		c.says(text, fmt.Sprintf("# Week %s: %s", w.Name, w.Verdict), w.Scorecard().Results)
	}
	return nil
}

// has says whether the folder has a file that stands beside the one that is checked, which is a problem when it has not.
func (c *checker) has(name string) bool {
	there := c.named[name] != nil
	c.add(!there, "stands without %s", name)
	return there
}

// summary judges a period by its counts.
func (c *checker) summary(s *report.Summary) {
	verdict, figures := s.Judge()
	c.add(verdict != s.Verdict, "says %s of %s, and by its counts it is %s", s.Verdict, s.Name, verdict)
	again := report.Summary{Figures: figures}
	c.add(!alike(again.Scorecard().Results, s.Scorecard().Results), "has figures of %s that do not follow from its counts", s.Name)
	mean := 0.0
	for _, e := range s.Executors {
		mean += e.Coverage / float64(len(s.Executors))
	}
	c.add(math.Abs(mean-s.Coverage) > 1e-9, "says that %s was covered to %v, and by its executors it is %v", s.Name, s.Coverage, mean)
	if d := s.Drift; d != nil {
		verdict, _ := d.Judge()
		c.add(verdict != d.Verdict, "says that drift was %s in %s, and by its index it was %s", d.Verdict, s.Name, verdict)
	}
	c.classifier(s.Classifier)
}

// classifier judges what a classifier found; it may be nil.
func (c *checker) classifier(k *twosample.Result) {
	if k == nil {
		return
	}
	if len(k.LeansOn) == 0 { // it was not fitted
		c.add(k.Verdict == gate.Pass || k.Verdict == gate.Fail, "says that a classifier without weights is %s", k.Verdict)
		return
	}
	verdict, _ := k.Judge()
	c.add(verdict != k.Verdict, "says that the classifier is %s, and by its AUC and p-value it is %s", k.Verdict, verdict)
}
