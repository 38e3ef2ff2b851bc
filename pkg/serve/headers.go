package serve

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// SecureHeaders sets the headers of a response for a browser: no caching, no content sniffing, no use by other sites. Each
// source is a directive of a content security policy; a document may load only what the sources allow. Without sources the
// response is not a document.
func SecureHeaders(h http.Header, sources ...string) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if len(sources) > 0 {
		h.Set("Content-Security-Policy", "default-src 'none'; "+strings.Join(sources, "; ")+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	}
}

// SourceHash returns the source of a content security policy that allows exactly this inline style or script.
func SourceHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
