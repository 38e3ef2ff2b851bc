package model_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

// keys creates a key pair and returns both halves.
func keys(t *testing.T) (private string, public dsse.Keys) {
	t.Helper()
	_, private = keytest.New(t)
	public, err := dsse.ReadKeys(private + ".pub")
	if err != nil || len(public) != 1 {
		t.Fatalf("got %d keys, %v", len(public), err)
	}
	return private, public
}

func sign(t *testing.T, dir, private, version string) {
	t.Helper()
	key, err := dsse.ReadSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := model.OpenRegistry(dir).Sign(model.Entry{Name: "test", Version: version}, key); err != nil {
		t.Fatal(err)
	}
}

// A registry that requires signatures loads only what is signed with one of its keys. Signing changes no file.
func TestSignature(t *testing.T) {
	dir := enginetest.Registry(t, "v1.8.1", "a", "b")
	private, public := keys(t)
	_, other := keys(t)
	folder := filepath.Join(dir, "test", "a")
	before := files(t, folder)
	if _, err := model.OpenRegistry(dir).Requiring(public).Load("a"); !errors.Is(err, model.ErrUnsigned) {
		t.Errorf("unsigned: got %v", err)
	}
	sign(t, dir, private, "a")
	after := files(t, folder)
	signature := after[model.SignatureFile]
	delete(after, model.SignatureFile)
	if len(after) != len(before) {
		t.Errorf("files: got %d, want %d and the signature", len(after), len(before))
	}
	for name, raw := range before {
		if !bytes.Equal(raw, after[name]) {
			t.Errorf("signing has changed %s", name)
		}
	}
	load := func(keys dsse.Keys, ref string) error {
		_, err := model.OpenRegistry(dir).Requiring(keys).Load(ref)
		return err
	}
	if err := load(public, "a"); err != nil {
		t.Errorf("signed: %v", err)
	}
	if err := load(append(other, public...), "a"); err != nil {
		t.Errorf("one of two keys: %v", err)
	}
	if err := load(nil, "a"); err != nil {
		t.Errorf("no signature required: %v", err)
	}
	if err := load(other, "a"); !errors.Is(err, dsse.ErrUntrusted) {
		t.Errorf("another key: got %v", err)
	}
	if m, err := model.OpenRegistry(dir).Requiring(other).Manifest(model.Entry{Name: "test", Version: "a"}); err == nil {
		t.Errorf("the manifest alone, another key: got %v", m)
	}
	sign(t, dir, private, "a") // a second time
	if err := load(public, "a"); err != nil {
		t.Errorf("signed again: %v", err)
	}
	put(t, filepath.Join(folder, "notes.txt"), []byte("of no interest to a service"))
	if err := load(public, "a"); err != nil {
		t.Errorf("with a file that no service reads: %v", err)
	}

	// The signature of one model is invalid for another, and changing one bit invalidates it.
	manifest := filepath.Join(folder, model.ManifestFile)
	for name, spoil := range map[string]func(){
		"the signature of another model": func() { put(t, filepath.Join(dir, "test", "b", model.SignatureFile), signature) },
		"a changed card": func() {
			put(t, manifest, bytes.Replace(before[model.ManifestFile], []byte(`"card": "`), []byte(`"card": "!`), 1))
		},
		"a blank more":       func() { put(t, manifest, append(before[model.ManifestFile], ' ')) },
		"no signature in it": func() { put(t, filepath.Join(folder, model.SignatureFile), nil) },
		"half a signature":   func() { put(t, filepath.Join(folder, model.SignatureFile), signature[:44]) },
		"other text":         func() { put(t, filepath.Join(folder, model.SignatureFile), []byte("trust me\n")) },
		"a folder in its place": func() {
			if err := errors.Join(os.Remove(filepath.Join(folder, model.SignatureFile)), os.Mkdir(filepath.Join(folder, model.SignatureFile), 0o755)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		spoil()
		ref := "a"
		if strings.Contains(name, "another model") {
			ref = "b"
		}
		if err := load(public, ref); err == nil {
			t.Errorf("%s: got nil", name)
		}
		if err := os.RemoveAll(filepath.Join(folder, model.SignatureFile)); err != nil {
			t.Fatal(err)
		}
		put(t, manifest, before[model.ManifestFile])
		put(t, filepath.Join(folder, model.SignatureFile), signature)
		if err := load(public, "a"); err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
	}
}

// A model that does not verify is not signed, and a release must be signed again.
func TestSignVerifiesFirst(t *testing.T) {
	dir := enginetest.Registry(t, "v1.8.1", "a")
	private, public := keys(t)
	sign(t, dir, private, "a")
	r := model.OpenRegistry(dir)
	if err := r.Release(model.Entry{Name: "test", Version: "a"}, "a-final", model.Release{Record: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Requiring(public).Load("a-final"); !errors.Is(err, model.ErrUnsigned) {
		t.Errorf("a release of a signed model: got %v", err)
	}
	put(t, filepath.Join(dir, "test", "a-final", model.GoldenFile), []byte("{}"))
	key, err := dsse.ReadSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sign(model.Entry{Name: "test", Version: "a-final"}, key); err == nil {
		t.Error("a damaged model was signed")
	}
}

func TestSignedBaseline(t *testing.T) {
	dir := enginetest.Registry(t, "v1.8.1", "a")
	private, public := keys(t)
	path := filepath.Join(dir, "test", "a", model.BaselineFile)
	if _, err := model.LoadSignedBaseline(path, public); !errors.Is(err, model.ErrUnsigned) {
		t.Errorf("unsigned: got %v", err)
	}
	sign(t, dir, private, "a")
	want, err := model.LoadBaseline(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := model.LoadSignedBaseline(path, public); err != nil || got.Digest() != want.Digest() || got.Score([]float64{1, 2, 3, 4}) != want.Score([]float64{1, 2, 3, 4}) {
		t.Errorf("signed: got %v, %v", got, err)
	}
	alone := filepath.Join(t.TempDir(), "mine.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, alone, raw)
	if _, err := model.LoadSignedBaseline(alone, public); err == nil {
		t.Error("a file of another name: got nil")
	}
	put(t, path, append(raw, ' '))
	if _, err := model.LoadSignedBaseline(path, public); err == nil {
		t.Error("changed: got nil")
	}
}

// Ed25519 signatures of earlier versions are still accepted, and marked. openssl makes the key and the signature.
func TestOldSignature(t *testing.T) {
	need.Program(t, "openssl", "openssl")
	dir := enginetest.Registry(t, "v1.8.1", "a")
	folder, at := filepath.Join(dir, "test", "a"), t.TempDir()
	openssl := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = at
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v: %s", args, err, out)
		}
	}
	openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem")
	openssl("pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
	openssl("pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", filepath.Join(folder, model.ManifestFile), "-out", "sig")
	sig, err := os.ReadFile(filepath.Join(at, "sig"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(folder, "manifest.sig"), []byte(base64.StdEncoding.EncodeToString(sig)+"\n"))
	old, err := dsse.ReadKeys(filepath.Join(at, "key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	private, public := keys(t)
	r, e := model.OpenRegistry(dir), model.Entry{Name: "test", Version: "a"}
	if _, err := r.Requiring(old).Load("a"); err != nil || !r.OldSignature(e) {
		t.Errorf("a signature of a former version: %v, marked %v", err, r.OldSignature(e))
	}
	if _, err := r.Requiring(public).Load("a"); !errors.Is(err, dsse.ErrUntrusted) {
		t.Errorf("another key: %v", err)
	}
	if _, err := dsse.ReadSigner(filepath.Join(at, "key.pem")); err == nil {
		t.Error("an Ed25519 key can still sign")
	}
	sign(t, dir, private, "a")
	if _, err := r.Requiring(public).Load("a"); err != nil || r.OldSignature(e) {
		t.Errorf("signed as now: %v, marked %v", err, r.OldSignature(e))
	}
	if _, err := r.Requiring(old).Load("a"); !errors.Is(err, dsse.ErrUntrusted) {
		t.Errorf("signed as now, and the old key required: %v", err)
	}
}

// files returns the files of a folder.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, e := range entries {
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func put(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
