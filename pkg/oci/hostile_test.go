package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/oms"
)

// forge stores an artifact made of the files of a model, after change, and returns its digest.
func forge(t *testing.T, r *oci.Repository, files map[string][]byte, change func(*ocispec.Manifest)) string {
	t.Helper()
	repository := client(t, r)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: oci.ArtifactType,
		Config: ocispec.DescriptorEmptyJSON, Annotations: map[string]string{ocispec.AnnotationTitle: "test/" + version},
	}
	for name, raw := range files {
		l := content.NewDescriptorFromBytes("application/octet-stream", raw)
		l.Annotations = map[string]string{ocispec.AnnotationTitle: name}
		m.Layers = append(m.Layers, l)
		if err := repository.Blobs().Push(t.Context(), l, bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&m)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := content.NewDescriptorFromBytes(m.MediaType, raw)
	if err := repository.Manifests().Push(t.Context(), d, bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

// An artifact that is not exactly a signed model leaves nothing in the folder.
func TestForged(t *testing.T) {
	r := serve(t, nil)
	from, keys := signed(t, version)
	_, files, err := from.Files(version)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := signed(t, "v2") // signed with another key
	_, theirs, err := other.Files("v2")
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, raw []byte) map[string][]byte {
		changed := map[string][]byte{}
		for n, b := range files {
			changed[n] = b
		}
		if raw == nil {
			delete(changed, name)
		} else {
			changed[name] = raw
		}
		return changed
	}
	layer := func(m *ocispec.Manifest, name string) *ocispec.Descriptor {
		for i := range m.Layers {
			if m.Layers[i].Annotations[ocispec.AnnotationTitle] == name {
				return &m.Layers[i]
			}
		}
		t.Fatalf("no layer %s", name)
		return nil
	}
	for name, tt := range map[string]struct {
		files  map[string][]byte
		change func(*ocispec.Manifest)
		is     error
		text   string
	}{
		"bytes of a file":            {files: with(model.ModelFile, bytes.Replace(files[model.ModelFile], []byte("0."), []byte("1."), 1)), is: oms.ErrFiles},
		"signature of another":       {files: with(model.SignatureFile, theirs[model.SignatureFile]), is: dsse.ErrUntrusted},
		"all of another":             {files: theirs, is: dsse.ErrUntrusted},
		"no signature":               {files: with(model.SignatureFile, nil), is: model.ErrUnsigned},
		"no file of the manifest":    {files: with(model.GoldenFile, nil), is: oms.ErrFiles},
		"no manifest":                {files: with(model.ManifestFile, nil), text: "no layer manifest.json"},
		"a file more":                {files: with("README.md", []byte("x")), text: `layer "README.md", which is not a file of a model`},
		"above the folder":           {files: with("../x", []byte("x")), text: `layer "../x"`},
		"an absolute path":           {files: with("/etc/x", []byte("x")), text: `layer "/etc/x"`},
		"a path that ends in a name": {files: with("../"+model.ModelFile, []byte("x")), text: `layer "../model.json"`},
		"no name":                    {files: files, change: func(m *ocispec.Manifest) { m.Layers[0].Annotations = nil }, text: `layer ""`},
		"a name twice":               {files: files, change: func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }, text: "two layers"},
		"no layers":                  {files: files, change: func(m *ocispec.Manifest) { m.Layers = nil }, text: "0 layers"},
		"10,000 layers": {files: files, change: func(m *ocispec.Manifest) {
			for i := range 10_000 {
				l := m.Layers[0]
				l.Annotations = map[string]string{ocispec.AnnotationTitle: fmt.Sprint(i)}
				m.Layers = append(m.Layers, l)
			}
		}, text: "bytes: want at most"},
		"100 layers": {files: files, change: func(m *ocispec.Manifest) {
			for range 100 {
				m.Layers = append(m.Layers, ocispec.Descriptor{Digest: m.Layers[0].Digest})
			}
		}, text: "layers: a model has 1 to 11 files"},
		"another artifact":      {files: files, change: func(m *ocispec.Manifest) { m.ArtifactType = "application/vnd.cncf.helm.config.v1+json" }, text: "want a model"},
		"too large":             {files: files, change: func(m *ocispec.Manifest) { layer(m, model.ModelFile).Size = 65 << 20 }, text: "want at most 67108864"},
		"too large a small one": {files: files, change: func(m *ocispec.Manifest) { layer(m, model.ManifestFile).Size = 2 << 20 }, text: "want at most 1048576"},
		"a negative size":       {files: files, change: func(m *ocispec.Manifest) { layer(m, model.ModelFile).Size = -1 }, text: "-1 bytes"},
		"another size":          {files: files, change: func(m *ocispec.Manifest) { layer(m, model.ModelFile).Size++ }, text: "Content-Length"},
		"a digest of nothing":   {files: files, change: func(m *ocispec.Manifest) { layer(m, model.ModelFile).Digest = digest.FromString("nothing") }, text: "model.json: "},
		"another digest":        {files: files, change: func(m *ocispec.Manifest) { layer(m, model.ModelFile).Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }, text: "want a SHA-256"},
		"no digest":             {files: files, change: func(m *ocispec.Manifest) { layer(m, model.ModelFile).Digest = "" }, text: "want a SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			at := forge(t, r, tt.files, tt.change)
			dir := t.TempDir()
			_, err := r.Pull(t.Context(), at, model.OpenRegistry(dir).Requiring(keys), silent)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v %s", err, tt.is, tt.text)
			}
			wantNothing(t, dir)
		})
	}
	// The forger itself works: an unchanged artifact is accepted.
	if _, err := r.Pull(t.Context(), forge(t, r, files, nil), model.OpenRegistry(t.TempDir()).Requiring(keys), silent); err != nil {
		t.Errorf("the model as it is: %v", err)
	}
}

// Content that does not match the requested digest is refused.
func TestOtherBytes(t *testing.T) {
	flip := func(raw []byte) []byte {
		raw[len(raw)/2] ^= 1
		return raw
	}
	cut := func(raw []byte) []byte { return raw[:len(raw)/2] }
	more := func(raw []byte) []byte { return append(raw, "more"...) }
	for name, change := range map[string]func([]byte) []byte{"changed": flip, "truncated": cut, "longer": more, "empty": func([]byte) []byte { return nil }} {
		for _, part := range []string{"/blobs/", "/manifests/"} {
			t.Run(name+part, func(t *testing.T) {
				r := serve(t, replaced(part, change))
				from, keys := signed(t, version)
				a, files, err := from.Files(version)
				if err != nil {
					t.Fatal(err)
				}
				at, err := r.Push(t.Context(), a, files, oci.PushOptions{Tag: version, Progress: silent})
				if err != nil && !strings.HasPrefix(part, "/manifests") {
					t.Fatal(err)
				}
				for _, ref := range []string{version, at.Digest} {
					dir := t.TempDir()
					if _, err := r.Pull(t.Context(), ref, model.OpenRegistry(dir).Requiring(keys), silent); err == nil {
						t.Errorf("%s was pulled", ref)
					}
					wantNothing(t, dir)
				}
			})
		}
	}
}

// Whatever a registry answers, a query ends with an error, and nothing is sent elsewhere without TLS.
func TestHostile(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request left the registry") }))
	defer elsewhere.Close()
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		text    string
	}{
		"redirects in a circle": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, "redirected 5 times"},
		"redirects elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}, "only https is allowed"},
		"asks for a token elsewhere": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+elsewhere.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, "only https is allowed"},
		"is no registry": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, ""},
		"writes to the terminal": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "DENIED", "message": "\x1b[2Jfine" + strings.Repeat("x", 4000)}}})
		}, "\uFFFD[2Jfine"},
		"has huge headers": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}, ""},
		"has an endless answer": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			for line := bytes.Repeat([]byte(" "), 1<<16); r.Method == http.MethodGet && r.Context().Err() == nil; {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}, ""},
		"has a huge manifest": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Content-Length", "1099511627776")
			w.WriteHeader(http.StatusOK)
		}, ""},
		"has endless pages of tags": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `</v2/desk/models/tags/list?last=x>; rel="next"`)
			_, _ = w.Write([]byte(`{"tags":[]}`))
		}, ""},
		"has too many tags": {func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"tags": make([]string, oci.MaxTags+1)})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			r := open(t, server.Listener.Addr().String())
			dir := t.TempDir()
			_, pulling := r.Pull(t.Context(), "v1", model.OpenRegistry(dir), silent)
			wantNothing(t, dir)
			_, listing := r.Tags(t.Context())
			for what, err := range map[string]error{"pull": pulling, "tags": listing} {
				if err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1000 {
					t.Errorf("%s: got %q, want %s", what, err, tt.text)
				}
			}
		})
	}
}

// A registry that hangs, before an answer or in the middle of a file, does not block a caller that cancels.
func TestHangs(t *testing.T) {
	from, keys := signed(t, version)
	reached := make(chan struct{}, 100)
	var hang atomic.Value // func(http.ResponseWriter, *http.Request) bool
	r := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if f, ok := hang.Load().(func(http.ResponseWriter, *http.Request) bool); !ok || !f(w, req) {
				next.ServeHTTP(w, req)
				return
			}
			reached <- struct{}{}
			<-req.Context().Done()
		})
	})
	at := push(t, r, from, version)
	for name, f := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"at once": func(http.ResponseWriter, *http.Request) bool { return true },
		"in a file": func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			hang.Store(f)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			dir := t.TempDir()
			if _, err := r.Pull(ctx, at, model.OpenRegistry(dir).Requiring(keys), silent); err == nil {
				t.Error("got nil")
			}
			wantNothing(t, dir)
			cancel()
		})
	}
}
