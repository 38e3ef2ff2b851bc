package evidencedoc

import (
	"bytes"
	"errors"
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
	// Judge computes what blocks the promotion of a model at a given time: see [promote.Judge]. If it is nil, the document shows
	// the check in the folder, if any.
	Judge func(model string, now time.Time) (*promote.Check, error)
}

// Document is an evidence folder as a document for people.
type Document struct {
	Markdown []byte
	// drawings has the drawings that the document shows, by link.
	drawings map[string][]byte
}

// Render returns the folder as a document. The same folder always gives the same document; its time is the time of the newest
// file. If the folder does not verify, the error names the first problem.
func Render(dir string, o Options) (*Document, error) {
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
	p := page{folder: f, link: o.Link, drawings: map[string][]byte{}}
	for _, section := range []func() error{
		func() error { return p.opening(o.Judge, report) }, p.scorecard,
		p.offline, p.quality, p.tests, p.drift, p.canaries, p.periods, p.retraining, p.others, p.listing, p.missing,
	} {
		if err := section(); err != nil {
			return nil, err
		}
	}
	return &Document{p.out.Bytes(), p.drawings}, nil
}

// page is a document while it is written.
type page struct {
	*folder

	link   string
	out    bytes.Buffer
	scores []score
	// drawings has the drawings that a section has already shown, by link.
	drawings map[string][]byte
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
		link := path.Join(p.link, f.name)
		if _, shown := p.drawings[link]; shown {
			continue
		}
		p.drawings[link] = f.raw
		p.line("\n![%s](%s)", strings.TrimSuffix(path.Base(f.name), ".svg"), link)
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

// model returns the model that the folder is about: the model in the first of the files below that names one, or nil.
func (f *folder) model() *evidence.Model {
	candidates := []*file{f.named["offline_report.json"], f.named["psi_snapshot.json"], f.named["smoke_1k.json"], f.named["shadow_smoke_1k.json"]}
	for _, d := range append(candidates, f.match("daily/report_*.json")...) {
		if d != nil && d.header.Model != nil {
			return d.header.Model
		}
	}
	return nil
}

// File is the default name of the document.
const File = "GREEN_EVIDENCE.md"

// PageOf returns the name of the HTML file of a document.
func PageOf(out string) string { return strings.TrimSuffix(out, filepath.Ext(out)) + ".html" }

// Write renders the folder to the file out, and to [PageOf] it. See [Options] for judge.
func Write(out, folder string, judge func(model string, now time.Time) (*promote.Check, error)) error {
	link, err := relative(filepath.Dir(out), folder)
	if err != nil {
		return err
	}
	d, err := Render(folder, Options{Link: filepath.ToSlash(link), Judge: judge})
	if err != nil {
		return err
	}
	page, err := d.HTML()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return errors.Join(durable.WriteFile(out, d.Markdown, 0o644), durable.WriteFile(PageOf(out), page, 0o644))
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
