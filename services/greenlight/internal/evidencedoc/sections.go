package evidencedoc

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/agent"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/retrain"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// card writes a table of judged figures.
func (p *page) card(c gate.Scorecard) error {
	p.line("")
	return c.Markdown(&p.out)
}

// offline shows the out-of-time evaluation of the model.
func (p *page) offline() error {
	f, r, err := named[experiment.OfflineReport](p.folder, "offline_report.json")
	if f == nil || err != nil {
		return err
	}
	p.line("\n## Out-of-time evaluation\n")
	if r.Report == nil {
		p.line("%s has no figures.", p.to(f.name))
		return nil
	}
	p.line("%s on %s: %d rows in %d folds, base rate %.3f, lift %.2f. %s", r.Version, r.Dataset.Name, r.N, r.Split.Folds, r.BaseRate, r.Lift, p.to(f.name))
	p.table(r.Models())
	p.plots("offline/*.svg")
	return nil
}

// tests shows the test runs, which send their own requests.
func (p *page) tests() error {
	for _, test := range []struct{ name, title string }{
		{"smoke_1k.json", "Smoke test of ml-engine"},
		{"shadow_smoke_1k.json", "Smoke test of executor and its shadow"},
		{"shadow_replay.json", "Market replay through executor"},
	} {
		f, r, err := named[struct {
			Total     int             `json:"total"`
			DurationS float64         `json:"duration_s"`
			Latency   traffic.Latency `json:"latency_ms"`
			SLO       gate.Scorecard  `json:"slo"`
		}](p.folder, test.name)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		p.line("\n## %s\n", test.title)
		p.line("%d requests in %.1f s; client latency p50 %s, p95 %s, p99 %s. %s", r.Total, r.DurationS,
			gate.Millis.Format(r.Latency.P50), gate.Millis.Format(r.Latency.P95), gate.Millis.Format(r.Latency.P99), p.to(f.name))
		if err := p.card(r.SLO); err != nil {
			return err
		}
	}
	return nil
}

// drift shows the newest drift snapshot.
func (p *page) drift() error {
	f, r, err := named[driftfleet.Report](p.folder, "psi_snapshot.json")
	if f == nil || err != nil {
		return err
	}
	p.line("\n## Drift\n")
	p.line("%s. %s", r.Line(), p.to(f.name))
	t := table.New("feature", "role", "PSI", "status", "null 99 %", "n", "verdict", "reason")
	for _, one := range r.Features {
		noise, verdict, reason := "-", bold(one.Verdict), one.Reason
		if one.Noise != nil {
			noise = fmt.Sprintf("%.3f", one.Q99)
		}
		if one.Role != drift.ModelFeature {
			verdict, reason = "watched", ""
		}
		t.Row(one.Feature, one.Role, fmt.Sprintf("%.3f", one.PSI), one.Status, noise, one.Samples, verdict, reason)
	}
	p.table(t)
	p.plots("psi_*.svg")
	return nil
}

// quality shows the verdicts on realised outcomes, newest first.
func (p *page) quality() error {
	for i, f := range slices.Backward(p.match("quality_*.json")) {
		r, err := as[quality.Report](f)
		if err != nil {
			return err
		}
		if i+1 == len(p.match("quality_*.json")) {
			p.line("\n## Who was right\n")
		} else {
			p.line("")
		}
		p.line("%s against %s, %s. %s", r.Model, r.Baseline, f.header.Source, p.to(f.name))
		t := table.New("quality", "")
		for _, pair := range r.Pairs() {
			t.Row(pair[0], pair[1])
		}
		p.table(t)
		p.plots(strings.TrimSuffix(f.name, ".json") + ".svg")
	}
	return nil
}

// canaries shows the preflight and all runs, newest first.
func (p *page) canaries() error {
	f, r, err := named[preflight.Report](p.folder, preflight.File)
	if err != nil {
		return err
	}
	if f != nil {
		p.line("\n## Canary preflight\n")
		p.line("%s", p.to(f.name))
		if err := p.card(gate.Scorecard{Results: r.Checks}); err != nil {
			return err
		}
	}
	runs, err := p.runs()
	if err != nil {
		return err
	}
	for _, r := range runs {
		model := "an unnamed model"
		if r.header.Model != nil {
			model = r.header.Model.Version
		}
		// The Markdown of the run moves one heading level down, and its source and file are added to the facts.
		facts, phases, _ := bytes.Cut(canaryview.Markdown(r.Record, model), []byte("\n\n| "))
		p.line("\n#%s\n- source: %s; %s\n\n| %s", facts, r.header.Source, p.to(r.name), bytes.TrimRight(phases, "\n"))
		p.plots(strings.TrimSuffix(r.name, ".json") + ".svg")
	}
	return nil
}

// periods shows the weekly and daily reports, and suggestions to retrain.
func (p *page) periods() error {
	days, weeks := p.match("daily/report_*.json"), p.match("weekly/summary_*.json")
	if len(days)+len(weeks) == 0 {
		return nil
	}
	p.line("\n## Daily and weekly reports")
	t := table.New("period", "source", "requests", "match rate", "error rate", "p95", "PSI", "coverage", "verdict")
	for _, f := range append(weeks, days...) {
		s, err := as[report.Summary](f)
		if err != nil {
			return err
		}
		cells := []any{fmt.Sprintf("[%s](%s)", s.Name, path.Join(p.link, f.name)), f.header.Source, s.Requests}
		for _, figure := range s.Figures {
			cell := figure.Achieved()
			if figure.Value != nil {
				cell = figure.Unit.Format(*figure.Value)
			}
			if !figure.Verdict.OK() {
				cell += " " + bold(figure.Verdict)
			}
			cells = append(cells, cell)
		}
		t.Row(append(cells, bold(s.Verdict))...)
	}
	p.table(t)
	for _, f := range p.match("retrain_suggestion_*.json") {
		s, err := as[agent.Suggestion](f)
		if err != nil {
			return err
		}
		p.line("\nRetraining suggested: PSI was above %v in %d hourly samples since %s UTC, with a maximum of %.3f. %s",
			s.Threshold, s.Hours, s.Since.UTC().Format(time.DateTime), s.PSIMax, p.to(f.name))
	}
	return nil
}

func (p *page) retraining() error {
	f, r, err := named[retrain.Report](p.folder, "retrain_report.json")
	if f == nil || err != nil {
		return err
	}
	p.line("\n## Retraining\n")
	p.line("%s: %s. %s", r.Version, r.Result, p.to(f.name))
	if err := p.card(gate.Scorecard{Results: r.Checks}); err != nil {
		return err
	}
	for _, name := range r.Figures {
		p.plots(name)
	}
	return nil
}

// others shows the drawings that no section has shown.
func (p *page) others() error {
	var left []*file
	for _, f := range p.files {
		if _, shown := p.drawings[path.Join(p.link, f.name)]; !shown && path.Ext(f.name) == ".svg" {
			left = append(left, f)
		}
	}
	if len(left) > 0 {
		p.line("\n## Other drawings")
	}
	for _, f := range left {
		p.plots(f.name)
	}
	return nil
}
