package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	statement "github.com/in-toto/attestation/go/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
)

// signed signs a model with the adapter and returns the bundle and the public key.
func signed(t *testing.T) (bundlePath, public string) {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "model")
	for name, text := range map[string]string{"manifest.json": "{}", "trees/ensemble.bin": "\x00\x01", "README": ""} {
		path := filepath.Join(model, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(dir, "key.pem")
	if err := dsse.NewKey(key); err != nil {
		t.Fatal(err)
	}
	bundlePath, public = filepath.Join(model, "model.sig"), key+".pub"
	if err := run([]string{"sign-model", "--method", "key", "--model-path", model, "--output-bundle", bundlePath, "--private-key", key}); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"verify-model", "--method", "key", "--model-path", model, "--bundle", bundlePath, "--public-key", public}); err != nil {
		t.Fatal(err)
	}
	return bundlePath, public
}

// verifier returns a verifier of sigstore-go that trusts the key.
func verifier(t *testing.T, public string) *verify.Verifier {
	t.Helper()
	raw, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	v, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	trusted := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
	})
	sv, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		t.Fatal(err)
	}
	return sv
}

// sigstore-go accepts the bundle of a model, for the digest that it names, and in-toto's library accepts its statement.
func TestBundle(t *testing.T) {
	path, public := signed(t)
	b, err := bundle.LoadJSONFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := b.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := content.RawEnvelope().DecodeB64Payload()
	if err != nil {
		t.Fatal(err)
	}
	s := &statement.Statement{}
	if err := protojson.Unmarshal(payload, s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Errorf("in-toto: %v", err)
	}
	digest, err := hex.DecodeString(s.GetSubject()[0].GetDigest()["sha256"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier(t, public).Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest), verify.WithKey())); err != nil {
		t.Errorf("sigstore-go: %v", err)
	}
	_, other := signed(t)
	if _, err := verifier(t, other).Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest), verify.WithKey())); err == nil {
		t.Error("sigstore-go accepts another key")
	}
	digest[0] ^= 1
	if _, err := verifier(t, public).Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest), verify.WithKey())); err == nil {
		t.Error("sigstore-go accepts another model")
	}
}
