package oci_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/file"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/oms"
)

func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for in, want := range map[string]oci.Reference{
		"oci://r.desk/models":                    {Registry: "r.desk", Repository: "models"},
		"oci://127.0.0.1:5000/desk/models:v1":    {Registry: "127.0.0.1:5000", Repository: "desk/models", Version: "v1"},
		"oci://localhost:5000/models@" + digest:  {Registry: "localhost:5000", Repository: "models", Version: digest},
		"oci://[::1]:5000/desk/models:v1.8.1-rc": {Registry: "[::1]:5000", Repository: "desk/models", Version: "v1.8.1-rc"},
	} {
		got, err := oci.Parse(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("%s: got %+v (%v), want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "models", "r.desk/models:v1", "oci://", "oci://r.desk", "oci:///models", "oci://r.desk/", "oci://r.desk/Models", "oci://r.desk/../x",
		"oci://r.desk/m:", "oci://r.desk/m:v1@" + digest, "oci://r.desk/m:a/b", "oci://r.desk/m@sha256:abc", "oci://user:secret@r.desk/m", "oci://r.desk/m:" + strings.Repeat("v", 129), "https://r.desk/m",
	} {
		if got, err := oci.Parse(in); err == nil {
			t.Errorf("%q: got %+v", in, got)
		}
	}
}

// A signed model arrives in another folder with the same bytes, by tag and by digest. A second push and a second pull
// change nothing.
func TestPushAndPull(t *testing.T) {
	for name, referrers := range map[string]bool{"with an API of referrers": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, nil, registry.WithReferrersSupport(referrers))
			from, keys := signed(t, version)
			a, files, err := from.Files(version)
			if err != nil {
				t.Fatal(err)
			}
			var steps []int
			opts := oci.PushOptions{Tag: version, Progress: func(done, total int) { steps = append(steps, done, total) }}
			pushed, err := r.Push(t.Context(), a, files, opts)
			if err != nil || !pushed.Changed || !pushed.Signed {
				t.Fatalf("push: got %+v, %v", pushed, err)
			}
			if n := len(files) + 1; steps[0] != 0 || steps[len(steps)-2] != n || steps[len(steps)-1] != n {
				t.Errorf("progress: got %v, want 0 to %d", steps, n)
			}
			again, err := r.Push(t.Context(), a, files, opts)
			if err != nil || again.Changed || again.Digest != pushed.Digest {
				t.Errorf("push again: got %+v, %v", again, err)
			}
			if digest, err := r.Resolve(t.Context(), version); err != nil || digest != pushed.Digest {
				t.Errorf("resolve: got %s (%v), want %s", digest, err, pushed.Digest)
			}
			if _, err := r.Resolve(t.Context(), "v9"); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("resolve v9: got %v", err)
			}
			tags, err := r.Tags(t.Context())
			if tags = slices.DeleteFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, "sha256-") }); err != nil || !slices.Equal(tags, []string{version}) {
				t.Errorf("tags: got %v, %v", tags, err)
			}
			for _, ref := range []string{version, pushed.Digest} {
				dir := t.TempDir()
				into := model.OpenRegistry(dir).Requiring(keys)
				pulled, err := r.Pull(t.Context(), ref, into, silent)
				if err != nil || !pulled.Changed || pulled.Digest != pushed.Digest || pulled.Size != pushed.Size || pulled.Model.Digest() != a.Digest() {
					t.Fatalf("pull %s: got %+v, %v", ref, pulled, err)
				}
				got := contents(t, dir)
				for name, raw := range files {
					if string(got["test/"+version+"/"+name]) != string(raw) {
						t.Errorf("pull %s: %s differs", ref, name)
					}
				}
				if len(got) != len(files) {
					t.Errorf("pull %s: got %v, want %d files", ref, slices.Sorted(maps.Keys(got)), len(files))
				}
				if again, err := r.Pull(t.Context(), ref, into, func(int, int) { t.Error("a file was pulled again") }); err != nil || again.Changed || again.Model == nil {
					t.Errorf("pull %s again: got %+v, %v", ref, again, err)
				}
			}
		})
	}
}

// Other tools find a type, named files and the signature, in the manifest and as a referrer.
func TestArtifact(t *testing.T) {
	r := serve(t, nil, registry.WithReferrersSupport(true))
	from, _ := signed(t, version)
	digest := push(t, r, from, version)
	get := func(path string, into any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Reference.Registry+"/v2/desk/models/"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
	}
	var m ocispec.Manifest
	get("manifests/"+version, &m)
	if m.SchemaVersion != 2 || m.MediaType != "application/vnd.oci.image.manifest.v1+json" || m.ArtifactType != "application/vnd.greenlight.model.v1" ||
		m.Config.MediaType != "application/vnd.oci.empty.v1+json" || m.Annotations["org.opencontainers.image.title"] != "test/"+version {
		t.Errorf("got the manifest %+v", m)
	}
	types := map[string]string{}
	for _, l := range m.Layers {
		types[l.Annotations["org.opencontainers.image.title"]] = l.MediaType
	}
	want := map[string]string{"model.sig": "application/vnd.dev.sigstore.bundle.v0.3+json"}
	for _, name := range []string{"model.json", "baseline.json", "golden.json", "reference.json", "manifest.json"} {
		want[name] = "application/json"
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	var referrers ocispec.Index
	get("referrers/"+digest, &referrers)
	if len(referrers.Manifests) != 1 {
		t.Fatalf("got the referrers %+v", referrers.Manifests)
	}
	var signature ocispec.Manifest
	get("manifests/"+referrers.Manifests[0].Digest.String(), &signature)
	if len(signature.Layers) != 1 || signature.ArtifactType != oms.MediaType || signature.Subject == nil || signature.Subject.Digest.String() != digest ||
		signature.Annotations["dev.sigstore.bundle.predicateType"] != "https://model_signing/signature/v1.0" {
		t.Errorf("got the signature %+v", signature)
	}
}

// The oras library finds the signature, and pulls a folder that verifies, with the referrers API and with the tags that replace
// it.
func TestOras(t *testing.T) {
	for name, referrers := range map[string]bool{"with an API of referrers": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, nil, registry.WithReferrersSupport(referrers))
			from, keys := signed(t, version)
			push(t, r, from, version)
			repository := client(t, r)
			dir := t.TempDir()
			into, err := file.New(filepath.Join(dir, "test", version))
			if err != nil {
				t.Fatal(err)
			}
			artifact, err := oras.Copy(t.Context(), repository, version, into, version, oras.DefaultCopyOptions)
			if err != nil {
				t.Fatal(err)
			}
			if err := into.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := model.OpenRegistry(dir).Requiring(keys).Load("test/" + version); err != nil {
				t.Error(err)
			}
			var found []ocispec.Descriptor
			if err := repository.Referrers(t.Context(), artifact, "", func(page []ocispec.Descriptor) error {
				found = append(found, page...)
				return nil
			}); err != nil || len(found) != 1 {
				t.Errorf("referrers: got %v, %v", found, err)
			}
		})
	}
}

// A model that a pull would refuse is not pushed, and no request is sent.
func TestPushOfWhatAPullRefuses(t *testing.T) {
	r := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request") })
	})
	from, _ := signed(t, version)
	a, files, err := from.Files(version)
	if err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 64<<20)
	for _, name := range []string{model.ModelFile, model.EnsembleFile, model.GoldenFile, model.ReferenceFile} {
		files[name] = large
	}
	_, err = r.Push(t.Context(), a, files, oci.PushOptions{Tag: version, Progress: silent})
	if err == nil || !strings.Contains(err.Error(), "a pull would refuse the model: the artifact has 268") || !strings.Contains(err.Error(), "bytes: want at most 268435456") {
		t.Errorf("got %v", err)
	}
}

// A tag that names another artifact stays, unless forced. So does a folder with another model of the same name and version.
func TestTaken(t *testing.T) {
	r := serve(t, nil)
	from, _ := signed(t, version)
	other, _ := signed(t, "v2")
	first := push(t, r, from, version)
	a, files, err := other.Files("v2")
	if err != nil {
		t.Fatal(err)
	}
	opts := oci.PushOptions{Tag: version, Progress: silent}
	if _, err := r.Push(t.Context(), a, files, opts); !errors.Is(err, oci.ErrTaken) || !strings.Contains(err.Error(), first) {
		t.Errorf("got %v, want %v", err, oci.ErrTaken)
	}
	if digest, err := r.Resolve(t.Context(), version); err != nil || digest != first {
		t.Errorf("the tag names %s (%v), want %s", digest, err, first)
	}
	opts.Force = true
	forced, err := r.Push(t.Context(), a, files, opts)
	if err != nil || !forced.Changed {
		t.Fatalf("force: got %+v, %v", forced, err)
	}
	if digest, err := r.Resolve(t.Context(), version); err != nil || digest != forced.Digest {
		t.Errorf("the tag names %s (%v), want %s", digest, err, forced.Digest)
	}
	// The first artifact is still there, by digest.
	dir := t.TempDir()
	if _, err := r.Pull(t.Context(), first, model.OpenRegistry(dir), silent); err != nil {
		t.Error(err)
	}

	// The same name and version with other files.
	changed, _ := signed(t, version)
	b, err := changed.Load(version)
	if err != nil {
		t.Fatal(err)
	}
	b.Manifest.Card = "another"
	elsewhere := t.TempDir()
	if err := model.OpenRegistry(elsewhere).Add(b); err != nil {
		t.Fatal(err)
	}
	before := contents(t, elsewhere)
	if _, err := r.Pull(t.Context(), first, model.OpenRegistry(elsewhere), silent); !errors.Is(err, model.ErrExists) {
		t.Errorf("got %v, want %v", err, model.ErrExists)
	}
	if diff := cmp.Diff(before, contents(t, elsewhere)); diff != "" {
		t.Errorf("the folder has changed:\n%s", diff)
	}
}

// A model that was pulled unsigned gets its signature once it is signed and pushed again. A signature that verifies stays.
func TestSignedLater(t *testing.T) {
	r := serve(t, nil)
	from, _ := signed(t, version)
	if err := os.Remove(filepath.Join(from.Dir(model.Entry{Name: "test", Version: version}), model.SignatureFile)); err != nil {
		t.Fatal(err)
	}
	unsigned := push(t, r, from, version)
	dir := t.TempDir()
	if m, err := r.Pull(t.Context(), unsigned, model.OpenRegistry(dir), silent); err != nil || m.Signed {
		t.Fatalf("got %+v, %v", m, err)
	}
	pushSigned := func() (dsse.Keys, string) {
		keys := sign(t, from, version)
		a, files, err := from.Files(version)
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Push(t.Context(), a, files, oci.PushOptions{Tag: version, Force: true, Progress: silent})
		if err != nil {
			t.Fatal(err)
		}
		return keys, m.Digest
	}
	keys, first := pushSigned()
	into := model.OpenRegistry(dir).Requiring(keys)
	if _, err := r.Pull(t.Context(), unsigned, into, silent); !errors.Is(err, model.ErrUnsigned) {
		t.Errorf("unsigned: got %v", err)
	}
	if m, err := r.Pull(t.Context(), first, into, silent); err != nil || m.Changed {
		t.Fatalf("signed: got %+v, %v", m, err)
	}
	if _, err := into.Load(version); err != nil {
		t.Error(err)
	}
	others, second := pushSigned()
	if _, err := r.Pull(t.Context(), second, into, silent); !errors.Is(err, dsse.ErrUntrusted) {
		t.Errorf("signed by others: got %v", err)
	}
	if _, err := r.Pull(t.Context(), second, model.OpenRegistry(dir), silent); err != nil { // requires nothing
		t.Error(err)
	}
	if _, err := into.Load(version); err != nil {
		t.Errorf("a signature that verifies was replaced: %v", err)
	}
	replacing := model.OpenRegistry(dir).Requiring(others)
	if _, err := r.Pull(t.Context(), second, replacing, silent); err != nil {
		t.Error(err)
	}
	if _, err := replacing.Load(version); err != nil {
		t.Error(err)
	}
}

// Credentials come from docker's config.json, and are sent only to their registry.
func TestCredentials(t *testing.T) {
	for name, tt := range map[string]struct {
		auths string
		ok    bool
	}{
		"right":             {`{"auths":{"REGISTRY":{"auth":"ZGVzazpzM2NyZXQ="}}}`, true}, // desk:s3cret
		"wrong":             {`{"auths":{"REGISTRY":{"auth":"ZGVzazpvdGhlcg=="}}}`, false},
		"another registry":  {`{"auths":{"r.desk":{"auth":"ZGVzazpzM2NyZXQ="}}}`, false},
		"no configuration":  {"", false},
		"not configuration": {"{", false},
	} {
		t.Run(name, func(t *testing.T) {
			next := registry.New(registry.Logger(discard))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if user, password, ok := req.BasicAuth(); !ok || user != "desk" || password != "s3cret" {
					w.Header().Set("WWW-Authenticate", `Basic realm="desk"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				next.ServeHTTP(w, req)
			}))
			defer server.Close()
			addr := server.Listener.Addr().String()
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			if tt.auths != "" {
				if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.ReplaceAll(tt.auths, "REGISTRY", addr)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r, err := oci.Open(oci.Reference{Registry: addr, Repository: "desk/models"}, oci.Options{})
			if err == nil {
				defer r.Close()
				if _, err = r.Resolve(t.Context(), "v1"); errors.Is(err, oci.ErrNotFound) {
					err = nil
				}
			}
			if (err == nil) != tt.ok {
				t.Errorf("got %v, want ok %t", err, tt.ok)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}
