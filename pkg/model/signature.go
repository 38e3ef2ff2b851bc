package model

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/oms"
)

const (
	// SignatureFile is the signature of a model's files, see package oms. It is not signed itself: signing changes no digest,
	// and a model can be signed again.
	SignatureFile = oms.FileName
	// oldSignatureFile is the Ed25519 signature (RFC 8032) of the bytes of manifest.json, in base64, as earlier versions
	// wrote it. It follows no standard. This release still verifies it; the next will not.
	oldSignatureFile = "manifest.sig"
)

// ErrUnsigned is returned for a model without a signature.
var ErrUnsigned = errors.New("the model is not signed: sign it with greenlight model sign")

// verify returns an error unless one of the keys has signed the manifest in the folder. The manifest has the name, the
// version and the digests of the other files, so a signed model can be neither changed nor renamed. Without keys, verify
// accepts any model.
func verify(root *os.Root, manifest []byte, keys dsse.Keys) error {
	if len(keys) == 0 {
		return nil
	}
	raw, err := readFile(root, SignatureFile)
	if errors.Is(err, fs.ErrNotExist) {
		return verifyOld(root, manifest, keys)
	}
	if err != nil {
		return err
	}
	signed, err := oms.Verify(root, raw, oms.Options{Ignore: signatures, AllowUnsigned: true}, keys)
	if err != nil {
		return fmt.Errorf("%s: %w", SignatureFile, err)
	}
	if signed[ManifestFile] != digest(manifest) {
		return fmt.Errorf("%s: %w: %s is not in it", SignatureFile, oms.ErrFiles, ManifestFile)
	}
	return nil
}

// signatures are the files that a signature does not cover.
var signatures = []string{SignatureFile, oldSignatureFile}

// verifyOld verifies a signature in the old format.
func verifyOld(root *os.Root, manifest []byte, keys dsse.Keys) error {
	raw, err := readFile(root, oldSignatureFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", SignatureFile, ErrUnsigned)
	}
	if err != nil {
		return err
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(signature) != ed25519.SignatureSize {
		return fmt.Errorf("%s: not an Ed25519 signature in base64: %w", oldSignatureFile, dsse.ErrUntrusted)
	}
	for _, key := range keys.Ed25519() {
		if ed25519.Verify(key, manifest, signature) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", oldSignatureFile, dsse.ErrUntrusted)
}

// OldSignature reports whether the model has only a signature in the old format, which the next release will not accept.
func (r *Registry) OldSignature(e Entry) bool {
	_, err := os.Lstat(filepath.Join(r.Dir(e), SignatureFile))
	_, old := os.Lstat(filepath.Join(r.Dir(e), oldSignatureFile))
	return errors.Is(err, fs.ErrNotExist) && old == nil
}

// Sign verifies the model and signs its files. An existing signature is replaced.
func (r *Registry) Sign(e Entry, key *dsse.Signer) error {
	if _, err := r.Requiring(nil).Load(e.String()); err != nil {
		return err
	}
	root, err := r.open(e)
	if err != nil {
		return fmt.Errorf("model %s: %w", r.Dir(e), err)
	}
	defer func() { _ = root.Close() }()
	raw, err := oms.Sign(root, e.String(), oms.Options{Ignore: signatures}, key)
	if err == nil {
		err = durable.WriteFileIn(root, SignatureFile, raw, 0o644)
	}
	if err != nil {
		return fmt.Errorf("sign %s: %w", e, err)
	}
	return nil
}

// LoadSignedBaseline reads the baseline.json of a model's folder, and verifies the whole model with its signature.
func LoadSignedBaseline(path string, keys dsse.Keys) (*Baseline, error) {
	if filepath.Base(path) != BaselineFile {
		return nil, fmt.Errorf("baseline %s: only the %s in the folder of a signed model is covered by a signature", path, BaselineFile)
	}
	dir := filepath.Dir(path)
	root, err := durable.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("baseline %s: %w", path, err)
	}
	defer func() { _ = root.Close() }()
	a, err := loadFrom(root, dir, keys)
	if err != nil {
		return nil, fmt.Errorf("baseline %s: %w", path, err)
	}
	return a.Baseline, nil
}
