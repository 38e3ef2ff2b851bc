package evidencedoc

import (
	"cmp"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// blockers lists what blocks the promotion of the model.
func (p *page) blockers(judge func(string, time.Time) (*promote.Check, error)) error {
	p.line("\n## Promotion blockers\n")
	check, how, err := p.check(judge)
	if err != nil || check == nil {
		p.line("%s", how)
		return err
	}
	blocked := 0
	for _, r := range check.Blockers {
		if !r.Verdict.OK() {
			blocked++
		}
	}
	p.line("Model %s, %s to %s: **%s**, %d of %d blockers are not PASS. %s", check.Name, check.From, check.To, check.Verdict, blocked, len(check.Blockers), how)
	t := table.New("blocker", "target", "achieved", "n", "verdict", "reason")
	for _, r := range check.Blockers {
		t.Row(r.Name, target(r.Result), r.Achieved(), r.N, bold(r.Verdict), cmp.Or(r.Reason, r.Note))
	}
	p.table(t)
	return nil
}

// check returns the promotion check to show, and a sentence on its origin. The check is nil when none is known.
func (p *page) check(judge func(string, time.Time) (*promote.Check, error)) (*promote.Check, string, error) {
	const onServices = "To check the running services too, use `greenlight promote --check --engine ... --executor ...`."
	unknown := "`greenlight promote --check` has not been run, and no model was given"
	if model := p.model(); judge != nil && model != nil {
		check, err := judge(model.Version, p.newest())
		switch {
		case err != nil:
			unknown = "the model could not be judged: " + err.Error()
		case check.Digest != model.Digest:
			unknown = fmt.Sprintf("the registry holds a different model %s, with digest %.12s", model.Version, check.Digest)
		default:
			return check, "Recomputed from the files, as of the newest one. " + onServices, nil
		}
	}
	f := p.named[promote.CheckName]
	if f == nil {
		return nil, "Not known: " + unknown + ".", nil
	}
	check, err := as[promote.Check](f)
	return check, fmt.Sprintf("From %s, written %s UTC.", p.to(f.name), f.header.CreatedTime.UTC().Format(time.DateTime)), err
}
