// Package oms signs the files of a model as OpenSSF Model Signing v1.0 describes (https://github.com/ossf/model-signing-spec),
// so that other tools can verify them: a Sigstore bundle with a DSSE envelope, whose in-toto statement has the SHA-256 of
// each file. It signs and verifies with ECDSA keys; certificates and keyless signing are not supported.
package oms

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// FileName is the usual name of the signature, in the folder of the model.
const FileName = "model.sig"

// MaxBundle limits a bundle, in bytes.
const MaxBundle = 8 << 20

const (
	// MediaType is the media type of a bundle.
	MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// PredicateType is the type of the predicate in the statement of a bundle.
	PredicateType = "https://model_signing/signature/v1.0"
	// mediaTypes is the common prefix of the media types of all bundle versions.
	mediaTypes  = "application/vnd.dev.sigstore.bundle"
	methodFiles = "files"
	hashType    = "sha256"
)

// gitPaths are never signed.
var gitPaths = []string{".git", ".gitattributes", ".github", ".gitignore"}

// ErrFiles is returned if the model's files differ from the signed ones.
var ErrFiles = errors.New("the model's files differ from the signed ones")

// Options say which files are signed.
type Options struct {
	// Only is the file of a single-file model. Empty means all files of the folder.
	Only string
	// Ignore are files and folders that are not signed, relative to the folder, with slashes.
	Ignore []string
	// AllowUnsigned accepts files that are not in the signature.
	AllowUnsigned bool
}

// bundle is a Sigstore bundle.
type bundle struct {
	MediaType            string               `json:"mediaType"`
	VerificationMaterial verificationMaterial `json:"verificationMaterial"`
	Envelope             json.RawMessage      `json:"dsseEnvelope"`
}

type verificationMaterial struct {
	PublicKey *publicKey `json:"publicKey,omitempty"`
	// Transparency log entries. Signatures with keys have none.
	Entries []struct{} `json:"tlogEntries"`
}

type publicKey struct {
	Hint string `json:"hint,omitempty"`
}

// predicate is the list of the signed files.
type predicate struct {
	Serialization serialization `json:"serialization"`
	Resources     []resource    `json:"resources"`
}

type serialization struct {
	Method        string   `json:"method"`
	HashType      string   `json:"hash_type"`
	AllowSymlinks bool     `json:"allow_symlinks"`
	IgnorePaths   []string `json:"ignore_paths,omitempty"`
}

type resource struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Algorithm string `json:"algorithm"`
}

// Sign returns the bundle for the model in the folder. name is the model's name.
func Sign(root *os.Root, name string, opts Options, key *dsse.Signer) ([]byte, error) {
	ignore := slices.Concat(gitPaths, opts.Ignore)
	resources, err := resourcesOf(root, opts.Only, ignore)
	if err != nil {
		return nil, err
	}
	if len(resources) == 0 {
		return nil, errors.New("the model has no files to sign")
	}
	sum, err := rootDigest(resources)
	if err != nil {
		return nil, err
	}
	slices.Sort(ignore)
	envelope, err := key.SignStatement(name, sum, PredicateType, predicate{
		serialization{methodFiles, hashType, false, slices.Compact(ignore)}, resources,
	})
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(envelope)
	if err != nil {
		return nil, err
	}
	out, err := json.Marshal(bundle{MediaType, verificationMaterial{&publicKey{key.ID()}, []struct{}{}}, raw})
	return append(out, '\n'), err
}

// Verify returns the SHA-256 of each signed file, in hexadecimal, by name. It returns [dsse.ErrUntrusted] unless one of the keys
// has signed the bundle, [ErrFiles] unless the model in the folder has the listed files, and another error for a malformed
// bundle.
func Verify(root *os.Root, raw []byte, opts Options, keys dsse.Keys) (map[string]string, error) {
	p, err := open(raw, keys)
	if err != nil {
		return nil, err
	}
	ignore := slices.Concat(gitPaths, opts.Ignore, p.Serialization.IgnorePaths)
	found, err := resourcesOf(root, opts.Only, ignore)
	if err != nil {
		return nil, err
	}
	has, signed := map[string]string{}, map[string]string{}
	for _, r := range found {
		has[r.Name] = r.Digest
	}
	if opts.Only != "" && len(p.Resources) == 1 && p.Resources[0].Name == "." { // written by tools before version 1.0.1
		p.Resources[0].Name = opts.Only
	}
	for _, r := range p.Resources {
		switch sum, ok := has[r.Name]; {
		case !ok:
			return nil, fmt.Errorf("%w: %s is missing", ErrFiles, r.Name)
		case sum != strings.ToLower(r.Digest):
			return nil, fmt.Errorf("%w: %s was changed", ErrFiles, r.Name)
		}
		signed[r.Name] = has[r.Name]
	}
	if opts.AllowUnsigned {
		return signed, nil
	}
	for _, r := range found {
		if _, ok := signed[r.Name]; !ok {
			return nil, fmt.Errorf("%w: %s is not in the signature", ErrFiles, r.Name)
		}
	}
	return signed, nil
}

// open returns the list of files of a bundle that one of the keys has signed.
func open(raw []byte, keys dsse.Keys) (*predicate, error) {
	var b bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("not a Sigstore bundle: %w", err)
	}
	switch {
	case !strings.HasPrefix(b.MediaType, mediaTypes):
		return nil, fmt.Errorf("not a Sigstore bundle: media type %.100q", b.MediaType)
	case b.VerificationMaterial.PublicKey == nil:
		return nil, errors.New("the bundle is not signed with a key: certificates and keyless signatures are not supported")
	case len(b.Envelope) == 0:
		return nil, errors.New("not a Sigstore bundle with a DSSE envelope")
	}
	envelope, err := dsse.Parse(b.Envelope)
	if err != nil {
		return nil, err
	}
	s, err := keys.OpenStatement(envelope, PredicateType)
	if err != nil {
		return nil, err
	}
	p := &predicate{}
	if err := json.Unmarshal(s.Predicate, p); err != nil {
		return nil, fmt.Errorf("the list of the signed files: %w", err)
	}
	if p.Serialization.Method != methodFiles || p.Serialization.HashType != hashType {
		return nil, fmt.Errorf("the files are hashed as %.40q with %.40q: only %q with %q is supported", p.Serialization.Method, p.Serialization.HashType, methodFiles, hashType)
	}
	if len(p.Resources) == 0 {
		return nil, errors.New("the signature covers no files")
	}
	for _, r := range p.Resources {
		if r.Algorithm != hashType {
			return nil, fmt.Errorf("%.100q is hashed with %.40q: only %s is supported", r.Name, r.Algorithm, hashType)
		}
	}
	sum, err := rootDigest(p.Resources)
	if err != nil {
		return nil, err
	}
	if s.Subject[0].Name == "" || s.Subject[0].Digest[hashType] != sum {
		return nil, errors.New("the digest of the model does not match its list of files")
	}
	return p, nil
}

// rootDigest returns the digest of a model: the SHA-256 of the digests of its files, in their order.
func rootDigest(resources []resource) (string, error) {
	h := sha256.New()
	for _, r := range resources {
		sum, err := hex.DecodeString(r.Digest)
		if err != nil || len(sum) != sha256.Size {
			return "", fmt.Errorf("the digest of %.100q is not a SHA-256", r.Name)
		}
		h.Write(sum)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// resourcesOf returns the files of the folder, sorted by name, or only the file with the name only. A symbolic link is an error.
func resourcesOf(root *os.Root, only string, ignore []string) ([]resource, error) {
	var found []resource
	add := func(name string) error {
		sum, err := digestOf(root, name)
		found = append(found, resource{name, sum, hashType})
		return err
	}
	if only != "" {
		info, err := root.Lstat(only)
		if err == nil && !info.Mode().IsRegular() {
			err = notRegular(only)
		}
		if err == nil {
			err = add(only)
		}
		return found, err
	}
	left := durable.MaxEntries
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := durable.ReadDirIn(root, dir, left)
		if err != nil {
			return err
		}
		left -= len(entries)
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case slices.Contains(ignore, name):
			case e.IsDir():
				err = walk(name)
			case e.Type().IsRegular():
				err = add(name)
			default:
				err = notRegular(name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := walk(".")
	slices.SortFunc(found, func(a, b resource) int { return strings.Compare(a.Name, b.Name) })
	return found, err
}

func notRegular(name string) error {
	return fmt.Errorf("%s is not a regular file (perhaps a symbolic link) and cannot be signed", name)
}

func digestOf(root *os.Root, name string) (string, error) {
	f, err := durable.OpenIn(root, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
