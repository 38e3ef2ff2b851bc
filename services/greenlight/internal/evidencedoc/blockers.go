package evidencedoc

import (
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// blockers is what stands between the model and production.
func (p *page) blockers(judge func(string, time.Time) (*promote.Check, error)) error {
	p.line("\n## What blocks a promotion\n")
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
	p.line("%s of %s to %s: **%s**, %d of %d block. %s", check.Name, check.From, check.To, check.Verdict, blocked, len(check.Blockers), how)
	p.table("blocker", "target", "achieved", "n", "verdict", "why")
	for _, r := range check.Blockers {
		why := r.Reason
		if why == "" {
			why = r.Note
		}
		p.row(r.Name, target(r.Result), r.Achieved(), fmt.Sprint(r.N), bold(r.Verdict), why)
	}
	return nil
}

// check is what there is to show, and how it came about.
func (p *page) check(judge func(string, time.Time) (*promote.Check, error)) (*promote.Check, string, error) {
	const onServices = "Whether the services serve and shadow this model is asked by `greenlight promote --check --engine ... --executor ...`."
	why := "`greenlight promote --check` has not been run, and the model was not given"
	if model := p.model(); judge != nil && model != nil {
		check, err := judge(model.Version, p.newest())
		switch {
		case err != nil:
			why = "The model could not be judged here: " + err.Error()
		case check.Digest != model.Digest:
			why = fmt.Sprintf("The registry has another model %s, with digest %.12s", model.Version, check.Digest)
		default:
			return check, "Judged anew from the files, as of the newest. " + onServices, nil
		}
	}
	f := p.named[promote.CheckName]
	if f == nil {
		return nil, why + ": not known.", nil
	}
	check, err := as[promote.Check](f)
	return check, fmt.Sprintf("As %s has it, of %s UTC.", p.to(f.name), f.header.CreatedTime.UTC().Format(time.DateTime)), err
}
