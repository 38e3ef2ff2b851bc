package promote

import (
	"fmt"
	"io"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/table"
)

// The names of the blockers.
const (
	PSIOverall     = "PSI overall"
	PSIFeature     = "PSI per feature"
	CanaryPhases   = "canary phases"
	CanaryPolicy   = "canary policy"
	Soak           = "soak at 100 %"
	EvidenceHolds  = "evidence holds"
	ModelHolds     = "model holds"
	ReleaseFree    = "release is free"
	EngineServes   = "ml-engine serves it"
	ExecutorAsks   = "executor shadows it"
	Confirmation   = "confirmation"
	hours          = gate.Unit("h")
	shownDigits    = 12
	notYetSaid     = "not confirmed"
	liveIsRequired = "is %s: a promotion requires measurements on running services"
)

// Row is one blocker with its verdict and evidence.
type Row struct {
	gate.Result
	// Evidence lists the judged files, with paths relative to the evidence folder.
	Evidence []evidence.Input `json:"evidence"`
	// Note is additional information for people: which feature, which window.
	Note string `json:"note,omitempty"`
}

// newRow returns a row judged by one rule and by files, which may be nil.
func newRow(result gate.Result, files ...*file) Row {
	r := Row{Result: result, Evidence: []evidence.Input{}}
	for _, f := range files {
		if f != nil {
			r.Evidence = append(r.Evidence, f.Input)
		}
	}
	return r
}

// missing returns a row that has nothing to judge.
func missing(rule gate.Rule, reason string, files ...*file) Row {
	return newRow(gate.Check(rule, gate.Missing(reason)), files...)
}

// problems returns a row that passes if no problem was found among n things.
func problems(name string, found []string, n int, files ...*file) Row {
	rule := gate.Rule{Name: name, Op: gate.AtMost, Threshold: 0, Unit: gate.Count}
	r := newRow(gate.Check(rule, gate.Measured(float64(len(found)), uint64(max(n, len(found))))), files...)
	if len(found) > 0 {
		r.Reason = strings.Join(found, "; ")
	}
	return r
}

// worsen adds a reason and its verdict. The row keeps the worst verdict.
func (r *Row) worsen(v gate.Verdict, format string, args ...any) {
	r.Verdict = gate.Worst(r.Verdict, v)
	reason := fmt.Sprintf(format, args...)
	if r.Reason != "" {
		reason = r.Reason + "; " + reason
	}
	r.Reason = reason
}

// about requires the file to be about the model with the digest.
func (r *Row) about(f *file, digest string) {
	switch m := f.header.Model; {
	case m == nil:
		r.worsen(gate.Error, "%s does not say which model it is about", f.Path)
	case oip.Unpinned(m.Digest):
		r.worsen(gate.Fail, "%s is about %s of a model server: %s", f.Path, m.Version, oip.Unpromotable)
	case m.Digest != digest:
		r.worsen(gate.Fail, "%s is about another model, %s with digest %s", f.Path, m.Version, short(m.Digest))
	}
}

// live requires the file to be measured on running services.
func (r *Row) live(f *file) {
	if f.header.Source != evidence.Live {
		r.worsen(gate.Fail, "%s "+liveIsRequired, f.Path, f.header.Source)
	}
}

func short(digest string) string { return fmt.Sprintf("%.*s", shownDigits, digest) }

// Table writes one line per blocker, then the overall verdict.
func (c *Check) Table(w io.Writer) error {
	t := table.New("blocker", "target", "achieved", "n", "verdict", "evidence", "reason")
	for _, r := range c.Blockers {
		t.Row(r.cells()...)
	}
	if err := t.Text(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "overall: %s\n", c.scorecard(c.Blockers).Summary())
	return err
}

func (r Row) cells() []any {
	files, reason := make([]string, 0, 2), r.Reason
	for _, in := range r.Evidence {
		files = append(files, in.Path+" "+short(in.SHA256))
	}
	if len(files) == 0 {
		files = append(files, "-")
	}
	if r.Note != "" && reason != "" {
		reason += " (" + r.Note + ")"
	} else if reason == "" {
		reason = r.Note
	}
	return []any{r.Name, r.Target(), r.Achieved(), r.N, r.Verdict, strings.Join(files, ", "), reason}
}

// WatchedText formats the indices that do not block.
func (c *Check) WatchedText() string {
	texts := make([]string, len(c.Watched))
	for i, w := range c.Watched {
		texts[i] = fmt.Sprintf("%s (%s) %.3f", w.Feature, w.Role, w.PSI)
	}
	return strings.Join(texts, ", ")
}
