package oms

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
)

func newKey(t testing.TB) (*dsse.Signer, string) {
	t.Helper()
	key, path := keytest.New(t)
	return key, path + ".pub"
}

// lay writes a model to a new folder.
func lay(t testing.TB, files map[string]string) (string, *os.Root) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := durable.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return dir, root
}

// bySpecification verifies a bundle as the specification describes, without using this package, and returns the names that it
// lists.
func bySpecification(raw []byte, publicPEM []byte, dir string) ([]string, error) {
	var b map[string]any
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, err
	}
	at := func(v any, keys ...string) any {
		for _, k := range keys {
			m, _ := v.(map[string]any)
			v = m[k]
		}
		return v
	}
	if b["mediaType"] != "application/vnd.dev.sigstore.bundle.v0.3+json" || at(b, "dsseEnvelope", "payloadType") != "application/vnd.in-toto+json" {
		return nil, errors.New("types")
	}
	keyHash := sha256.Sum256(publicPEM)
	if at(b, "verificationMaterial", "publicKey", "hint") != hex.EncodeToString(keyHash[:]) {
		return nil, errors.New("hint")
	}
	text, _ := at(b, "dsseEnvelope", "payload").(string)
	payload, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	signatures, _ := at(b, "dsseEnvelope", "signatures").([]any)
	text, _ = at(signatures[0], "sig").(string)
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(publicPEM)
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, _ := parsed.(*ecdsa.PublicKey)
	pae := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(payload), payload))
	if !ecdsa.VerifyASN1(key, pae[:], sig) {
		return nil, errors.New("signature")
	}
	var s map[string]any
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, err
	}
	if s["_type"] != "https://in-toto.io/Statement/v1" || s["predicateType"] != "https://model_signing/signature/v1.0" ||
		at(s, "predicate", "serialization", "method") != "files" || at(s, "predicate", "serialization", "hash_type") != "sha256" ||
		fmt.Sprint(at(s, "predicate", "serialization", "allow_symlinks")) != "false" {
		return nil, errors.New("statement")
	}
	var names []string
	total := sha256.New()
	resources, _ := at(s, "predicate", "resources").([]any)
	for _, r := range resources {
		name, _ := at(r, "name").(string)
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		if at(r, "algorithm") != "sha256" || at(r, "digest") != hex.EncodeToString(sum[:]) {
			return nil, fmt.Errorf("%s", name)
		}
		total.Write(sum[:])
		names = append(names, name)
	}
	subjects, _ := s["subject"].([]any)
	if len(subjects) != 1 || at(subjects[0], "digest", "sha256") != hex.EncodeToString(total.Sum(nil)) || !slices.IsSorted(names) {
		return nil, errors.New("subject")
	}
	return names, nil
}

var files = map[string]string{
	"manifest.json": "{}", "trees/ensemble.bin": "\x00\x01", "trees.txt": "t", "leer": "", "ü/ñ": "x", ".hidden": "h",
	".gitignore": "bin", ".git/HEAD": "ref", "model.sig": "old", "notes/a": "n",
}

func TestSign(t *testing.T) {
	key, public := newKey(t)
	dir, root := lay(t, files)
	raw, err := Sign(root, "name/v1", Options{Ignore: []string{FileName, "notes"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	names, err := bySpecification(raw, publicPEM, dir)
	if want := []string{".hidden", "leer", "manifest.json", "trees.txt", "trees/ensemble.bin", "ü/ñ"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("signed %q (%v), want %q", names, err, want)
	}
	signed, err := Verify(root, raw, Options{}, key.Public())
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(signed)), names) {
		t.Errorf("verified %v, %v", signed, err)
	}
}

func TestVerify(t *testing.T) {
	key, _ := newKey(t)
	other, _ := newKey(t)
	write := func(name, text string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	for name, test := range map[string]struct {
		change func(dir string) error
		opts   Options
		keys   dsse.Keys
		want   error
	}{
		"as signed":               {nil, Options{}, key.Public(), nil},
		"one of two keys":         {nil, Options{}, append(other.Public(), key.Public()...), nil},
		"another key":             {nil, Options{}, other.Public(), dsse.ErrUntrusted},
		"no key":                  {nil, Options{}, nil, dsse.ErrUntrusted},
		"a file changed":          {write("trees.txt", "u"), Options{}, key.Public(), ErrFiles},
		"a file changed, lenient": {write("trees.txt", "u"), Options{AllowUnsigned: true}, key.Public(), ErrFiles},
		"a file more":             {write("more", ""), Options{}, key.Public(), ErrFiles},
		"a file more, lenient":    {write("more", ""), Options{AllowUnsigned: true}, key.Public(), nil},
		"a file more, ignored":    {write("more", ""), Options{Ignore: []string{"more"}}, key.Public(), nil},
		"a file less":             {func(dir string) error { return os.Remove(filepath.Join(dir, "leer")) }, Options{}, key.Public(), ErrFiles},
		"a git file more":         {write(".gitattributes", ""), Options{}, key.Public(), nil},
	} {
		dir, root := lay(t, files)
		raw, err := Sign(root, "name/v1", Options{Ignore: []string{FileName}}, key)
		if err != nil {
			t.Fatal(err)
		}
		if test.change != nil {
			if err := test.change(dir); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Verify(root, raw, test.opts, test.keys); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// Symbolic links and empty models cannot be signed.
func TestSignRefuses(t *testing.T) {
	key, _ := newKey(t)
	dir, root := lay(t, map[string]string{"a": "a"})
	if err := os.Symlink("a", filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(root, "x", Options{}, key); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link: %v", err)
	}
	if _, err := Sign(root, "x", Options{Only: "b"}, key); err == nil {
		t.Error("a link as the model was signed")
	}
	if _, err := Sign(root, "x", Options{Ignore: []string{"a", "b"}}, key); err == nil {
		t.Error("no file was signed")
	}
	raw, err := Sign(root, "x", Options{Only: "a"}, key)
	if err != nil {
		t.Fatal(err)
	}
	if signed, err := Verify(root, raw, Options{Only: "a"}, key.Public()); err != nil || len(signed) != 1 {
		t.Errorf("one file: %v, %v", signed, err)
	}
}

// A signed bundle is refused if its statement does not conform to v1.0.
func TestVerifyRefusesStatements(t *testing.T) {
	key, _ := newKey(t)
	_, root := lay(t, map[string]string{"a": "a"})
	sum := sha256.Sum256([]byte("a"))
	file := resource{"a", hex.EncodeToString(sum[:]), hashType}
	all, err := rootDigest([]resource{file})
	if err != nil {
		t.Fatal(err)
	}
	good := predicate{serialization{methodFiles, hashType, false, nil}, []resource{file}}
	for name, test := range map[string]struct {
		change func(*predicate)
		kind   string
		digest string
		media  string
		ok     bool
	}{
		"right":               {nil, PredicateType, all, MediaType, true},
		"bundle of v0.1":      {nil, PredicateType, all, "application/vnd.dev.sigstore.bundle+json;version=0.1", true},
		"another media type":  {nil, PredicateType, all, "application/json", false},
		"another predicate":   {nil, "https://slsa.dev/provenance/v1", all, MediaType, false},
		"another root digest": {nil, PredicateType, strings.Repeat("0", 64), MediaType, false},
		"shards":              {func(p *predicate) { p.Serialization.Method = "shards" }, PredicateType, all, MediaType, false},
		"blake2b":             {func(p *predicate) { p.Serialization.HashType = "blake2b" }, PredicateType, all, MediaType, false},
		"a file of blake2b":   {func(p *predicate) { p.Resources[0].Algorithm = "blake2b" }, PredicateType, all, MediaType, false},
		"no files":            {func(p *predicate) { p.Resources = nil }, PredicateType, all, MediaType, false},
		"half a digest":       {func(p *predicate) { p.Resources[0].Digest = "00" }, PredicateType, all, MediaType, false},
	} {
		p := good
		p.Resources = slices.Clone(good.Resources)
		if test.change != nil {
			test.change(&p)
		}
		e, err := key.SignStatement("x", test.digest, test.kind, p)
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(bundle{test.media, verificationMaterial{&publicKey{key.ID()}, nil}, envelope})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(root, raw, Options{}, key.Public()); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	key, _ := newKey(f)
	_, root := lay(f, map[string]string{"a": "a"})
	raw, err := Sign(root, "x", Options{}, key)
	if err != nil {
		f.Fatal(err)
	}
	var signed bundle
	if err := json.Unmarshal(raw, &signed); err != nil {
		f.Fatal(err)
	}
	envelope, err := dsse.Parse(signed.Envelope)
	if err != nil {
		f.Fatal(err)
	}
	payload := envelope.Payload
	f.Add(raw)
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := Verify(root, data, Options{}, key.Public()); err != nil {
			return
		}
		// Only what the key has signed is accepted.
		var b bundle
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		e, err := dsse.Parse(b.Envelope)
		if err != nil || !bytes.Equal(e.Payload, payload) {
			t.Errorf("%q is accepted", data)
		}
	})
}
