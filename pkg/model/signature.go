package model

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// SignatureFile is the Ed25519 signature (RFC 8032) of the bytes of manifest.json, in base64. The manifest has the
// digests of all other files, and the model's name and version, so a signed model can neither be changed nor pass for
// another. The file itself is not signed: signing changes no digest, and a model can be signed again.
const SignatureFile = "manifest.sig"

// maxKeys limits a file of keys, in bytes.
const maxKeys = 64 << 10

// Keys are the public keys whose signatures are accepted; no keys require no signature.
type Keys []ed25519.PublicKey

// ErrUnsigned is returned for a model without a signature.
var ErrUnsigned = errors.New("the model is not signed: greenlight model sign does it")

// ErrSignature is returned if a model's signature does not verify.
var ErrSignature = errors.New("the signature is by none of the required keys, or the manifest was changed after it was signed")

// verify verifies the signature in the folder against the manifest.
func (k Keys) verify(root *os.Root, manifest []byte) error {
	if len(k) == 0 {
		return nil
	}
	raw, err := readFile(root, SignatureFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", SignatureFile, ErrUnsigned)
	}
	if err != nil {
		return err
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(signature) != ed25519.SignatureSize {
		return fmt.Errorf("%s: not an Ed25519 signature in base64: %w", SignatureFile, ErrSignature)
	}
	for _, key := range k {
		if ed25519.Verify(key, manifest, signature) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", SignatureFile, ErrSignature)
}

// Sign verifies the model and signs its manifest. An existing signature is replaced.
func (r *Registry) Sign(e Entry, key ed25519.PrivateKey) error {
	a, err := r.Requiring(nil).Load(e.String())
	if err != nil {
		return err
	}
	root, err := r.open(e)
	if err != nil {
		return fmt.Errorf("model %s: %w", r.Dir(e), err)
	}
	defer func() { _ = root.Close() }()
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(key, a.manifest)) + "\n"
	if err := durable.WriteFileIn(root, SignatureFile, []byte(signature), 0o644); err != nil {
		return fmt.Errorf("sign %s: %w", e, err)
	}
	return nil
}

// LoadSignedBaseline reads the baseline.json of a model's folder, and verifies the whole model with its signature.
func LoadSignedBaseline(path string, keys Keys) (*Baseline, error) {
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

const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// NewSigningKey creates a key pair and writes it to two new files: the private key (PKCS #8, PEM) to path, readable
// only by its owner, and the public key (PKIX, PEM) to path with ".pub" appended.
func NewSigningKey(path string) error {
	for _, p := range []string{path, path + ".pub"} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: already exists, and keys are not overwritten: choose another name", p)
		}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path, block string
		perm        fs.FileMode
		der         func() ([]byte, error)
	}{
		{path, privateBlock, 0o600, func() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(private) }},
		{path + ".pub", publicBlock, 0o644, func() ([]byte, error) { return x509.MarshalPKIXPublicKey(public) }},
	} {
		der, err := f.der()
		if err != nil {
			return err
		}
		if err := durable.Write(f.path, f.perm, func(w io.Writer) error {
			return pem.Encode(w, &pem.Block{Type: f.block, Bytes: der})
		}); err != nil {
			return err
		}
	}
	return nil
}

// ReadSigningKey reads a private key as written by NewSigningKey or openssl genpkey.
func ReadSigningKey(path string) (ed25519.PrivateKey, error) {
	raw, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != privateBlock {
		return nil, fmt.Errorf("%s: want a PEM block %q, unencrypted", path, privateBlock)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: want an Ed25519 key", path)
	}
	return private, nil
}

// ReadKeys reads a PEM file of public keys: one, or several during a key change. An empty path means no keys.
func ReadKeys(path string) (Keys, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	var keys Keys
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != publicBlock {
			return nil, fmt.Errorf("%s: a PEM block %q: want %q alone", path, block.Type, publicBlock)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		public, ok := key.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("%s: want Ed25519 keys", path)
		}
		keys = append(keys, public)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no key in it", path)
	}
	return keys, nil
}

// readKeys reads a file up to the size limit for keys.
func readKeys(path string) ([]byte, error) { return durable.ReadFile(path, maxKeys) }
