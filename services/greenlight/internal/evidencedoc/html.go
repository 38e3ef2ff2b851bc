package evidencedoc

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"path"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// HTML returns the document as one HTML file without scripts, with its drawings inside. The page loads nothing. Evidence may
// contain texts from services, so raw HTML in the Markdown is not rendered, links cannot run code, and the page's policy
// forbids all sources.
func (d *Document) HTML() ([]byte, error) {
	md := goldmark.New(
		goldmark.WithParser(parser.NewParser(
			parser.WithBlockParsers(
				util.Prioritized(parser.NewListParser(), 300), util.Prioritized(parser.NewListItemParser(), 400),
				util.Prioritized(parser.NewATXHeadingParser(), 600), util.Prioritized(parser.NewParagraphParser(), 1000),
			),
			parser.WithInlineParsers(
				util.Prioritized(parser.NewCodeSpanParser(), 100), util.Prioritized(parser.NewLinkParser(), 200), util.Prioritized(parser.NewEmphasisParser(), 500),
			),
		)),
		goldmark.WithExtensions(extension.Table),
		goldmark.WithRendererOptions(html.WithXHTML(), renderer.WithNodeRenderers(util.Prioritized(d, 100))),
	)
	var body bytes.Buffer
	root := md.Parser().Parse(text.NewReader(d.Markdown))
	if err := errors.Join(ast.Walk(root, d.label), md.Renderer().Render(&body, d.Markdown, root)); err != nil {
		return nil, fmt.Errorf("HTML of the document: %w", err)
	}
	title, _, _ := strings.Cut(strings.TrimPrefix(string(d.Markdown), "# "), "\n")
	var out bytes.Buffer
	fmt.Fprintf(&out, head, template.HTMLEscapeString(title), body.Bytes())
	return out.Bytes(), nil
}

// label adds the heading of its column to each table cell. A narrow screen shows the heading before the cell.
func (d *Document) label(node ast.Node, entering bool) (ast.WalkStatus, error) {
	table, ok := node.(*extast.Table)
	if !ok || !entering {
		return ast.WalkContinue, nil
	}
	for row := table.FirstChild().NextSibling(); row != nil; row = row.NextSibling() {
		heading := table.FirstChild().FirstChild()
		for cell := row.FirstChild(); cell != nil && heading != nil; cell = cell.NextSibling() {
			if t, ok := heading.FirstChild().(*ast.Text); ok {
				cell.SetAttributeString("data-label", t.Value(d.Markdown))
			}
			heading = heading.NextSibling()
		}
	}
	return ast.WalkSkipChildren, nil
}

// RegisterFuncs implements [renderer.NodeRenderer] for drawings.
func (d *Document) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindImage, d.image)
}

// image writes a drawing of the folder as a data URL, where scripts do not run. For any other image it writes the destination
// as text.
func (d *Document) image(w util.BufWriter, _ []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	drawing, ok := node.(*ast.Image)
	if !ok || !entering {
		return ast.WalkContinue, nil
	}
	link := string(drawing.Destination)
	alt := template.HTMLEscapeString(strings.TrimSuffix(path.Base(link), ".svg"))
	var err error
	if svg, ok := d.drawings[link]; ok {
		_, err = fmt.Fprintf(w, `<img alt="%s" src="data:image/svg+xml;base64,%s" />`, alt, base64.StdEncoding.EncodeToString(svg))
	} else {
		_, err = w.WriteString(alt)
	}
	return ast.WalkSkipChildren, err
}

// head is the page around the title and the body. On a narrow screen the rows of a table are shown as blocks; in print, tables
// are shown in full.
const head = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'" />
<title>%s</title>
<style>
body { margin: 0 auto; max-width: 70rem; padding: 1rem; font: 1rem/1.5 sans-serif; color: #222; background: #fff; overflow-wrap: break-word; }
h1 { margin: 0; font-size: 1.4rem; } h1 + p { margin: .5rem 0 1rem; font-size: 1.25rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.2rem; border-bottom: 1px solid #ccc; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .875rem; }
th, td { padding: .25rem .6rem; border: 1px solid #ddd; text-align: left; vertical-align: top; overflow-wrap: normal; }
th { background: #f3f3f3; } td strong { color: #b00020; }
img { display: block; max-width: 100%%; height: auto; } a { color: #0057a3; } code { overflow-wrap: anywhere; }
@media screen and (max-width: 45rem) { table, tbody { display: block; } thead { display: none; } tr { display: block; padding: .4rem 0; border-bottom: 1px solid #ccc; }
  td { display: block; border: 0; padding: 0 0 0 7rem; text-indent: -7rem; overflow-wrap: anywhere; } td::before { content: attr(data-label); display: inline-block; width: 7rem; text-indent: 0; color: #666; font-weight: normal; } td:first-child { font-weight: bold; } td:empty { display: none; } }
@media print { body { max-width: none; padding: 0; font-size: 9pt; } table { display: table; width: 100%%; font-size: 6.5pt; } td, th { padding: .1rem .3rem; } tr, img { break-inside: avoid; } h2 { break-after: avoid; } }
</style>
</head>
<body>
%s</body>
</html>
`
