package evidencedoc

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// element is an element of a page: its name and attributes.
type element struct {
	name string
	at   map[string]string
}

// parsePage returns the elements of a page and the texts of its table cells. A page must be well-formed XML, without
// entities of HTML.
func parsePage(t *testing.T, page []byte) (elements []element, cells []string) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	var cell *strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements, cells
		} else if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			one := element{e.Name.Local, map[string]string{}}
			for _, a := range e.Attr {
				one.at[a.Name.Local] = a.Value
			}
			elements = append(elements, one)
			if one.name == "td" || one.name == "th" {
				cell = &strings.Builder{}
			}
		case xml.CharData:
			if cell != nil {
				cell.Write(e)
			}
		case xml.EndElement:
			if e.Name.Local == "td" || e.Name.Local == "th" {
				cells, cell = append(cells, cell.String()), nil
			}
		}
	}
}

// inert fails if a page could run code or load anything.
func inert(t *testing.T, elements []element) {
	t.Helper()
	known := strings.Fields("html head meta title style body h1 h2 p ul li strong em code a img table thead tbody tr th td")
	for _, e := range elements {
		if !slices.Contains(known, e.name) {
			t.Errorf("the page has the element %s", e.name)
		}
		for name, value := range e.at {
			relative := name == "href" && !strings.Contains(value, ":")
			image := name == "src" && strings.HasPrefix(value, "data:image/svg+xml;base64,")
			if strings.HasPrefix(name, "on") || (name == "href" || name == "src") && !relative && !image {
				t.Errorf("the page has %s=%.80q", name, value)
			}
		}
	}
}

// testHTML compares the page with the document: the same cells in every table, and every drawing inside, byte for byte.
func testHTML(t *testing.T, w *whole) {
	out := filepath.Join(t.TempDir(), "doc", File)
	if err := Write(out, w.dir, w.judge); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(filepath.Dir(out), "GREEN_EVIDENCE.html"))
	if err != nil {
		t.Fatal(err)
	}
	elements, cells := parsePage(t, page)
	inert(t, elements)
	if keep := os.Getenv("GREENLIGHT_PLOTS"); keep != "" { // a folder to keep the page for viewing
		if err := os.WriteFile(filepath.Join(keep, "GREEN_EVIDENCE.html"), page, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	var want []string
	for line := range strings.Lines(string(md)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
		for cell := range strings.SplitSeq(line, "|") {
			cell = strings.TrimSpace(strings.NewReplacer("**", "", "`", "", "\x00", "|").Replace(cell))
			if name, _, ok := strings.Cut(cell, "]("); ok {
				cell = strings.TrimPrefix(name, "[")
			}
			want = append(want, cell)
		}
	}
	if len(want) < 500 || !slices.Equal(cells, want) {
		t.Errorf("the page has %d cells and the document %d, or others", len(cells), len(want))
		for i := range min(len(cells), len(want)) {
			if cells[i] != want[i] {
				t.Fatalf("cell %d is %q, want %q", i, cells[i], want[i])
			}
		}
	}
	var shown [][]byte
	for _, e := range elements {
		if e.name == "img" {
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(e.at["src"], "data:image/svg+xml;base64,"))
			if err != nil {
				t.Fatal(err)
			}
			shown = append(shown, raw)
		}
	}
	for _, name := range w.all() {
		if filepath.Ext(name) == ".svg" && !slices.ContainsFunc(shown, func(raw []byte) bool { return bytes.Equal(raw, w.read(name)) }) {
			t.Errorf("%s is not in the page", name)
		}
	}
}

// Texts from services appear as text in the page, whatever they contain.
func TestHostileTexts(t *testing.T) {
	const script = "<script>alert(1)</script>"
	d := Document{Markdown: []byte("# Evidence " + script + "\n\n**x**: " + script + " [a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html,x) <img src=x onerror=alert(1)>\n\n" +
		script + "\n\n<div onclick=\"x\">\n\n![d](http://example.com/x.svg) <http://example.com> ![e](ml/f.svg)\n\n| a |\n|---|\n| <b onmouseover=alert(1)> &lt;\u202e |\n")}
	d.drawings = map[string][]byte{"ml/f.svg": []byte("<svg>" + script + "</svg>")}
	page, err := d.HTML()
	if err != nil {
		t.Fatal(err)
	}
	elements, cells := parsePage(t, page)
	for i := range elements { // a link without a destination goes nowhere
		if elements[i].at["href"] == "" {
			delete(elements[i].at, "href")
		}
	}
	inert(t, elements)
	if got := elements[slices.IndexFunc(elements, func(e element) bool { return e.name == "td" })].at["data-label"]; got != "a" {
		t.Errorf("the cell has the heading %q, want a", got)
	}
	if len(cells) != 2 || !strings.HasPrefix(cells[1], "<b onmouseover=alert(1)> ") {
		t.Errorf("the cells are %q", cells)
	}
	if n := bytes.Count(page, []byte("&lt;script&gt;alert(1)&lt;/script&gt;")); n != 4 {
		t.Errorf("the text is %d times in the page, want 4 (the title twice):\n%s", n, page)
	}
}
