package evidencedoc

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// Options of [Render].
type Options struct {
	// Link is the path of the folder as seen from the document.
	Link string
	// Judge computes what blocks the promotion of a model as of a time: see [promote.Judge]. With nil, the document shows
	// the check in the folder, if there is one.
	Judge func(model string, now time.Time) (*promote.Check, error)
}

// Render returns the folder as a Markdown document. The same folder always gives the same document, whose time is that
// of the newest file. If the folder does not verify, the error names the first problem.
func Render(dir string, o Options) ([]byte, error) {
	report, err := Verify(dir)
	if err != nil {
		return nil, err
	}
	if err := report.Err(); err != nil {
		return nil, err
	}
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	p := page{folder: f, link: o.Link, shown: map[string]bool{}}
	for _, section := range []func() error{
		func() error { p.opening(report); return nil }, p.scorecard, func() error { return p.blockers(o.Judge) },
		p.offline, p.quality, p.tests, p.drift, p.canaries, p.periods, p.retraining, p.others, p.listing, p.missing,
	} {
		if err := section(); err != nil {
			return nil, err
		}
	}
	return p.out.Bytes(), nil
}

// page is the document that is being written.
type page struct {
	*folder

	link   string
	out    bytes.Buffer
	scores *table.Table
	// shown are the drawings that a section has already shown.
	shown map[string]bool
}

func (p *page) line(format string, args ...any) { _, _ = fmt.Fprintf(&p.out, format+"\n", args...) }

// table writes an empty line and the table.
func (p *page) table(t *table.Table) {
	p.line("")
	_ = t.Markdown(&p.out) // a bytes.Buffer does not fail
}

// to returns a link to a file of the folder.
func (p *page) to(name string) string { return fmt.Sprintf("[%s](%s)", name, path.Join(p.link, name)) }

// plots shows the drawings that match the pattern and that no section has shown yet.
func (p *page) plots(pattern string) {
	for _, f := range p.match(pattern) {
		if p.shown[f.name] {
			continue
		}
		p.shown[f.name] = true
		p.line("\n![%s](%s)", strings.TrimSuffix(path.Base(f.name), ".svg"), path.Join(p.link, f.name))
	}
}

// newest returns when the newest document was written.
func (f *folder) newest() (t time.Time) {
	for _, d := range f.documents() {
		if d.header.CreatedTime.After(t) {
			t = d.header.CreatedTime
		}
	}
	return t
}

// model returns the model that the folder is about: that of the first file below that names one, or nil.
func (f *folder) model() *evidence.Model {
	candidates := []*file{f.named["offline_report.json"], f.named["psi_snapshot.json"], f.named["smoke_1k.json"], f.named["shadow_smoke_1k.json"]}
	for _, d := range append(candidates, f.match("daily/report_*.json")...) {
		if d != nil && d.header.Model != nil {
			return d.header.Model
		}
	}
	return nil
}

// sourcesOrder orders the sources by how much a figure says about production, least first.
var sourcesOrder = []evidence.Source{evidence.Simulated, evidence.Replay, evidence.Live}

func (p *page) opening(r evidence.Report) {
	about := "no model"
	if m := p.model(); m != nil {
		about = fmt.Sprintf("model %s, digest `%.12s`", m.Version, m.Digest)
	}
	p.line("# Evidence\n")
	p.line("About %s, as of %s UTC, the time of the newest file.\n", about, p.newest().UTC().Format(time.DateTime))
	p.line("- %d files verify: every digest, every chain link and every verdict. The chain has %d lines and the head `%s`.", r.Files, r.Lines, r.Head)
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
	for _, s := range r.Stale {
		p.line("- Note: %s.", s)
	}
}

// File is the default name of the document.
const File = "GREEN_EVIDENCE.md"

// Write renders the folder to the file out. See [Options] for judge.
func Write(out, folder string, judge func(model string, now time.Time) (*promote.Check, error)) error {
	link, err := relative(filepath.Dir(out), folder)
	if err != nil {
		return err
	}
	text, err := Render(folder, Options{Link: filepath.ToSlash(link), Judge: judge})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(out, text, 0o644)
}

// relative returns the path of a file or folder relative to a folder.
func relative(from, to string) (string, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	if to, err = filepath.Abs(to); err != nil {
		return "", err
	}
	return filepath.Rel(from, to)
}
