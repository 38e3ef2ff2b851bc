package quality

import (
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Compared holds the models of a study and its baseline: how often they agree with it, and who was right.
type Compared struct {
	study   *experiment.Study
	reports []*Report
}

// Compare compares the out-of-time scores of the candidate, and then of all other models of the study, with the baseline. Each
// gets the plan that its own scores suggest.
func Compare(s *experiment.Study, candidate *experiment.Candidate) (*Compared, error) {
	c := &Compared{study: s}
	versions := []string{candidate.Version}
	for _, o := range s.Candidates {
		if o != candidate {
			versions = append(versions, o.Version)
		}
	}
	for _, version := range versions {
		r, err := FromStudy(s, version, experiment.BaselineVersion, Options{})
		if err != nil {
			return nil, fmt.Errorf("quality of %s: %w", version, err)
		}
		c.reports = append(c.reports, r)
	}
	return c, nil
}

// Write writes quality_offline_<version>.json, and a figure, for each model.
func (c *Compared) Write(store *evidence.Store, git string) error {
	var errs []error
	for _, r := range c.reports {
		_, err := r.WriteAs(store, evidence.Header{Source: c.study.Data.Source(), Inputs: c.study.Data.Inputs(), Git: git}, "quality_offline_"+r.Model)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Table shows agreement and quality, which are different things.
func (c *Compared) Table() *table.Table {
	t := table.New("who was right", "against", ">within 0.05 of it", ">Brier loss less by", "verdict", "when")
	for _, r := range c.reports {
		match := "-"
		if of, err := c.study.Candidate(r.Model); err == nil {
			match = fmt.Sprintf("%.1f %%", 100*of.BaselineMatch)
		}
		t.Row(r.Model, r.Baseline, match, fmt.Sprintf("%+.4f", r.Judgment.Difference), string(r.Judgment.Verdict)+meaning[r.Judgment.Verdict], r.When())
	}
	return t
}

// When describes how long the verdict took, or what it still needs.
func (r *Report) When() string {
	v := r.Judgment
	switch v.Verdict {
	case outcome.Pass, outcome.Better, outcome.Fail:
		return "after " + outcome.Days(r.after().Hours()/24)
	case outcome.Inconclusive:
		return SummaryOf(v).Needs()
	case outcome.Error:
	}
	return ""
}

// after returns how long the verdict took: until its claim, and for a PASS at least until both streams had enough blocks.
func (r *Report) after() time.Duration {
	v := r.Judgment
	var took time.Duration
	for _, c := range v.Claims {
		if c.Verdict == v.Verdict {
			took = c.Time.Sub(v.Start)
		}
	}
	if v.Verdict == outcome.Fail {
		return took
	}
	var counted [2]int
	for _, p := range v.Points {
		if counted[p.Stream]++; min(counted[0], counted[1]) >= outcome.LeastBlocks {
			return max(took, v.Plan.Start(p.Block+1).Sub(v.Start))
		}
	}
	return took
}
