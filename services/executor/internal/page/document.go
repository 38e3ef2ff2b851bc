package page

import (
	_ "embed" // the parts of the document
	"html/template"
	"net/http"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

var (
	//go:embed page.html
	html string
	//go:embed page.css
	style string
	//go:embed page.js
	script string
)

// document is the page with its style and script inlined. It loads nothing but its event stream.
var document = strings.NewReplacer("/*style*/", style, "/*script*/", script).Replace(html)

// sources allow only this style, this script and connections to the page's own origin.
var sources = []string{"script-src '" + serve.SourceHash(script) + "'", "style-src '" + serve.SourceHash(style) + "'", "connect-src 'self'", "img-src data:"}

// serveDocument serves the page with the build in its footer.
func (p *Page) serveDocument(w http.ResponseWriter, _ *http.Request) {
	serve.SecureHeaders(w.Header(), sources...)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(strings.Replace(document, "<!--build-->", template.HTMLEscapeString(p.build), 1)))
}
