package fleetgroup

import (
	"bytes"
	_ "embed" // the parts of the page
	"html/template"
	"net/http"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

var (
	//go:embed page.html
	document string
	//go:embed page.css
	style string

	page = template.Must(template.New("page").Parse(document))
)

// maxRows bounds the rows of the page.
const maxRows = 1000

// ServeHTTP serves the page of the group: the totals, and a row for each executor. It changes nothing.
func (g *Group) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	l := g.Listing(now)
	view := struct {
		Group, Summary, Time string
		Style                template.CSS
		Rows                 []Row
		More                 int
	}{g.Group(), l.Summary(), now.UTC().Format(time.RFC3339), template.CSS(style), l.Executors[:min(maxRows, len(l.Executors))], max(0, len(l.Executors)-maxRows)} //nolint:gosec // the style is embedded, not input
	var out bytes.Buffer
	if err := page.Execute(&out, view); err != nil {
		http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	serve.SecureHeaders(w.Header(), "style-src '"+serve.SourceHash(style)+"'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}
