package evidencedoc

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
)

// opening writes the beginning of the document: whether the model may go live, which requirements are open and met, and what
// the answer is based on.
func (p *page) opening(judge func(string, time.Time) (*promote.Check, error), r evidence.Report) error {
	check, origin, err := p.check(judge)
	if err != nil {
		return err
	}
	about, model := "no model", ""
	if m := p.model(); m != nil {
		model = m.Version
		about = fmt.Sprintf("model %s, digest `%.12s`", m.Version, m.Digest)
	}
	p.line("%s\n", strings.TrimSpace("# Evidence "+model))
	if check == nil {
		p.line("**It is unknown whether %s may go live**: %s.", cmp.Or(model, "a model"), origin)
	} else if err := p.verdict(check, origin); err != nil {
		return err
	}
	p.line("\n## About this evidence\n")
	p.line("About %s, as of %s UTC, the time of the newest file.\n", about, p.newest().UTC().Format(time.DateTime))
	p.line("- %d files verify: every digest, every chain link and every verdict. The chain has %d lines and the head `%s`.", r.Files, r.Lines, r.Head)
	p.sources()
	for _, s := range r.Stale {
		p.line("- Note: %s.", s)
	}
	return nil
}

// check returns the promotion check to show, and its origin. If there is no check, the origin is the reason.
func (p *page) check(judge func(string, time.Time) (*promote.Check, error)) (check *promote.Check, origin string, err error) {
	unknown := "`greenlight promote --check` has not been run, and no model was given"
	if model := p.model(); judge != nil && model != nil {
		check, err := judge(model.Version, p.newest())
		switch {
		case err != nil:
			unknown = "the model cannot be judged: " + err.Error()
		case check.Digest != model.Digest:
			unknown = fmt.Sprintf("the registry holds a different model %s, with digest %.12s", model.Version, check.Digest)
		default:
			return check, "Recomputed from the files, as of the newest one. To check the running services as well, use `greenlight promote --check --engine ... --executor ...`.", nil
		}
	}
	f, check, err := named[promote.Check](p.folder, promote.CheckName)
	if f == nil {
		return nil, unknown, nil
	}
	return check, fmt.Sprintf("From %s, written %s UTC.", p.to(f.name), f.header.CreatedTime.UTC().Format(time.DateTime)), err
}

// maxFirst bounds the reason in the first sentence, in bytes.
const maxFirst = 200

// verdict shows whether the model may go live, in one sentence, and then the requirements, the open ones first.
func (p *page) verdict(check *promote.Check, origin string) error {
	var open, met []promote.Row
	for _, r := range check.Blockers {
		if r.Verdict.OK() {
			met = append(met, r)
		} else {
			open = append(open, r)
		}
	}
	promoted, err := p.promoted(check.Digest)
	if err != nil {
		return err
	}
	of := fmt.Sprintf("%d of %s", len(open), text.Count(len(check.Blockers), "requirement"))
	if len(open) == 1 {
		of += " is open"
	} else {
		of += " are open"
	}
	was := ""
	if promoted != nil {
		was = fmt.Sprintf("%s was promoted to %s on %s", promoted.From, promoted.To, promoted.Time.UTC().Format(time.DateOnly))
		back, err := p.rolledBack(promoted)
		if err != nil {
			return err
		}
		if back != nil {
			was += ", and rolled back on " + back.StartTime.UTC().Format(time.DateOnly)
		}
	}
	switch {
	case promoted != nil && len(open) > 0:
		p.line("**%s.** Judged again, %s; first: %s.", was, of, firstOf(open))
	case promoted != nil:
		p.line("**%s.** Judged again, all %d requirements are met.", was, len(met))
	case len(open) == 0:
		p.line("**%s may go live**: all %d requirements are met.", check.From, len(met))
	case len(open) == 1 && open[0].Name == promote.Confirmation:
		p.line("**%s may go live as soon as a person confirms it**: the other %d requirements are met.", check.From, len(met))
	default:
		p.line("**%s may not go live**: %s; first: %s.", check.From, of, firstOf(open))
	}
	p.line("\nModel %s, %s to %s: %s. %s", check.Name, check.From, check.To, bold(check.Verdict), origin)
	p.requirements("Open requirements", open)
	p.requirements("Requirements that are met", met)
	return nil
}

// firstOf returns the first open requirement and its first reason, cut to a readable length.
func firstOf(open []promote.Row) string {
	reason, _, _ := strings.Cut(cmp.Or(open[0].Reason, open[0].Note, string(open[0].Verdict)), ";")
	return strings.TrimSuffix(text.Clean(open[0].Name+": "+reason, maxFirst), ".")
}

// promoted returns the record of the model's promotion; nil without one.
func (p *page) promoted(digest string) (*promote.Record, error) {
	f, r, err := named[promote.Record](p.folder, promote.PromotionName)
	if f == nil || err != nil || r.Digest != digest {
		return nil, err
	}
	return r, nil
}

// rolledBack returns the first rollback of the model after its promotion; nil without one.
func (p *page) rolledBack(promoted *promote.Record) (*rollback.Result, error) {
	for _, f := range p.match(rollback.Pattern) {
		r, err := as[rollback.Result](f)
		if err != nil {
			return nil, err
		}
		if r.Of(promoted.Digest) && !r.StartTime.Before(promoted.Time) {
			return r, nil
		}
	}
	return nil, nil //nolint:nilnil // nil is no rollback
}

func (p *page) requirements(title string, rows []promote.Row) {
	if len(rows) == 0 {
		return
	}
	p.line("\n## %s (%d)", title, len(rows))
	t := table.New("requirement", "target", "achieved", "n", "verdict", "reason")
	for _, r := range rows {
		t.Row(r.Name, r.Target(), r.Achieved(), r.N, bold(r.Verdict), cmp.Or(r.Reason, r.Note))
	}
	p.table(t)
}

// sourcesOrder lists the sources by how much their figures say about production, least first.
var sourcesOrder = []evidence.Source{evidence.Simulated, evidence.Replay, evidence.Live}

// sources shows how many documents are from each source.
func (p *page) sources() {
	counts := map[evidence.Source]int{}
	for _, d := range p.documents() {
		counts[d.header.Source]++
	}
	var parts []string
	for _, s := range sourcesOrder {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	p.line("- Sources of the documents: %s.", strings.Join(parts, ", "))
	if counts[evidence.Simulated] > 0 {
		p.line("- Simulated figures show that the system works. They say nothing about any market.")
	}
}

// bold returns a verdict as Markdown, in bold unless it is PASS.
func bold(v gate.Verdict) string {
	if v == gate.Pass {
		return string(v)
	}
	return "**" + string(v) + "**"
}
