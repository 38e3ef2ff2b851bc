package evidencedoc

import (
	"bytes"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/drift/domain"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

func (c *checker) daily() error {
	s, err := as[report.Summary](c.file)
	if err != nil {
		return err
	}
	c.summary(s)
	want, err := s.Table()
	if err != nil {
		return err
	}
	name, _ := report.DailyFiles(s.Period)
	if table := c.named[name]; c.has(name) {
		c.add(!bytes.Equal(want, table.raw), "says other than %s", name)
	}
	if all := c.named[report.CumulativeName]; c.has(report.CumulativeName) {
		heading := bytes.IndexByte(want, '\n') + 1
		c.add(!bytes.HasPrefix(all.raw, want[:heading]) || !bytes.Contains(all.raw[heading-1:], append([]byte{'\n'}, want[heading:]...)),
			"says other than %s", report.CumulativeName)
	}
	return nil
}

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
		c.add(!bytes.Equal(w.Markdown(c.file.header.Source), text.raw), "says other than %s", name)
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
	c.add(!equal(figures, s.Figures), "has figures of %s that do not follow from its counts", s.Name)
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
func (c *checker) classifier(k *domain.Result) {
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
