package evidencedoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Render is the folder as a document in Markdown. link is the path of the folder as seen from the document. It refuses a
// folder that does not hold, with the first thing that does not.
func Render(folder, link string) ([]byte, error) {
	report, err := evidence.Verify(folder)
	if err != nil {
		return nil, err
	}
	if err := report.Err(); err != nil {
		return nil, err
	}
	problems, err := Recheck(folder)
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w: %s", evidence.ErrBroken, problems[0])
	}
	names, err := documents(folder)
	if err != nil {
		return nil, err
	}
	var scorecard, sections bytes.Buffer
	for _, name := range names {
		if err := section(&scorecard, &sections, folder, link, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Evidence\n\nComputed from %d files that verify; head of the chain `%s`.\n\n## Scorecard\n\n"+
		"| file | source | written (UTC) | model | verdict |\n|---|---|---|---|---|\n", report.Files, report.Head)
	out.Write(scorecard.Bytes())
	out.Write(sections.Bytes())
	if err := figures(&out, folder, link); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// section writes the line and the table of one file.
func section(scorecard, sections *bytes.Buffer, folder, link, name string) error {
	raw, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	var h struct {
		evidence.Header
		// Verdict and Decision are what the file says of itself, where it does: drift and a canary are judged by more than
		// their figures.
		Verdict  string `json:"verdict"`
		Decision string `json:"decision"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return err
	}
	var card gate.Scorecard
	if err := walk(raw, func(r gate.Result) { card.Results = append(card.Results, r) }); err != nil {
		return err
	}
	version, verdict := "-", "-"
	if h.Model != nil {
		version = h.Model.Version
	}
	switch {
	case h.Decision != "":
		verdict = h.Decision
	case h.Verdict != "":
		verdict = h.Verdict
	case len(card.Results) > 0:
		verdict = string(card.Verdict())
	}
	fmt.Fprintf(scorecard, "| [%s](%s) | %s | %s | %s | %s |\n", name, path.Join(link, name), h.Source, h.CreatedTime.Format(time.DateTime), version, verdict)
	if len(card.Results) == 0 {
		return nil
	}
	fmt.Fprintf(sections, "\n## %s\n\n", name)
	return card.Markdown(sections)
}

// figures writes the plots of the folder.
func figures(out *bytes.Buffer, folder, link string) error {
	plots, err := filepath.Glob(filepath.Join(folder, "*.svg"))
	if err != nil || len(plots) == 0 {
		return err
	}
	slices.Sort(plots)
	out.WriteString("\n## Plots\n\n")
	for _, p := range plots {
		name := filepath.Base(p)
		fmt.Fprintf(out, "![%s](%s)\n\n", name, path.Join(link, name))
	}
	return nil
}
