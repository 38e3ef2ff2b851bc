package page

import (
	"crypto/sha256"
	_ "embed" // the parts of the document
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"
)

var (
	//go:embed page.html
	html string
	//go:embed page.css
	style string
	//go:embed page.js
	script string
)

// document is the page with its style and script inlined. It loads nothing else but its event stream.
var document = strings.NewReplacer("/*style*/", style, "/*script*/", script).Replace(html)

// policy allows exactly this style, this script and connections to the page's own origin, and nothing else.
var policy = "default-src 'none'; script-src '" + digest(script) + "'; style-src '" + digest(style) +
	"'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// serveDocument serves the page with the build in its footer.
func (p *Page) serveDocument(w http.ResponseWriter, _ *http.Request) {
	secure(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy)
	_, _ = w.Write([]byte(strings.Replace(document, "<!--build-->", template.HTMLEscapeString(p.build), 1)))
}

// secure sets the headers of every response: no caching, no content sniffing, no use by other sites.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
