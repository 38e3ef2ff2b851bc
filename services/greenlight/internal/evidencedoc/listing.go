package evidencedoc

import (
	"fmt"
	"path"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/table"
)

// listing lists all files.
func (p *page) listing() error {
	p.line("\n## Files")
	t := table.New("file", "SHA-256", "source", "written (UTC)", "model")
	for _, f := range p.files {
		source, written, model := "-", "-", "-"
		if path.Ext(f.name) == ".json" {
			source, written = string(f.header.Source), f.header.CreatedTime.UTC().Format(time.DateTime)
			if f.header.Model != nil {
				model = fmt.Sprintf("%s `%.12s`", f.header.Model.Version, f.header.Model.Digest)
			}
		}
		t.Row(p.to(f.name), fmt.Sprintf("`%.12s`", evidence.Sum(f.raw)), source, written, model)
	}
	p.table(t)
	return nil
}

// kinds are the files of a complete folder, each with the command that writes it.
var kinds = []struct{ pattern, writer string }{
	{"offline_report.json", "greenlight train"},
	{"eval_result.json", "greenlight eval"},
	{"smoke_1k.json", "greenlight smoke"},
	{"shadow_smoke_1k.json", "greenlight shadow-smoke"},
	{"metrics_baseline_*.txt", "greenlight run"},
	{"psi_snapshot.json", "greenlight drift snapshot"},
	{"canary_preflight.json", "greenlight canary preflight"},
	{"canary_dryrun_observe.json", "greenlight canary start --dry-run"},
	{"canary_run_*.json", "greenlight canary start"},
	{"daily/report_*.json", "greenlight agent"},
	{"weekly/summary_*.json", "greenlight agent"},
	{"retrain_report.json", "greenlight retrain"},
	{"promotion_check.json", "greenlight promote --check"},
}

// missing lists the kinds of files that the folder does not have, so that no gap is overlooked.
func (p *page) missing() error {
	none := true
	for _, k := range kinds {
		if len(p.match(k.pattern)) > 0 {
			continue
		}
		if none {
			p.line("\n## Missing files\n")
			none = false
		}
		p.line("- `%s`, written by `%s`", k.pattern, k.writer)
	}
	return nil
}
