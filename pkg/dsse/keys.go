package dsse

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// maxKeys limits a key file, in bytes.
const maxKeys = 64 << 10

const (
	privateBlock = "PRIVATE KEY"
	sec1Block    = "EC PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// hashes maps the supported curves to their hashes.
var hashes = map[elliptic.Curve]crypto.Hash{
	elliptic.P256(): crypto.SHA256, elliptic.P384(): crypto.SHA384, elliptic.P521(): crypto.SHA512,
}

// Signer is a private key.
type Signer struct {
	key *ecdsa.PrivateKey
	id  string
}

// ID returns the id of the key: the SHA-256 of its public key (PKIX, PEM), in hexadecimal.
func (s *Signer) ID() string { return s.id }

// Public returns the public key.
func (s *Signer) Public() Keys { return Keys{{&s.key.PublicKey, s.id}} }

// Key is a public key.
type Key struct {
	public crypto.PublicKey
	id     string
}

// ID returns the id of the key, see [Signer.ID].
func (k Key) ID() string { return k.id }

// Keys are public keys whose signatures are trusted.
type Keys []Key

// Ed25519 returns the Ed25519 keys, which sign no envelopes.
func (k Keys) Ed25519() []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for _, key := range k {
		if public, ok := key.public.(ed25519.PublicKey); ok {
			keys = append(keys, public)
		}
	}
	return keys
}

// NewKey makes a P-256 key pair and writes it to two new files: the private key (PKCS #8, PEM) to path, readable only by its
// owner, and the public key (PKIX, PEM) to path with ".pub" appended.
func NewKey(path string) error {
	for _, p := range []string{path, path + ".pub"} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: already exists, and keys are not overwritten: choose another name", p)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := publicPEM(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := durable.Write(path, 0o600, func(w io.Writer) error {
		return pem.Encode(w, &pem.Block{Type: privateBlock, Bytes: private})
	}); err != nil {
		return err
	}
	return durable.WriteFile(path+".pub", public, 0o644)
}

func publicPEM(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der}), nil
}

func idOf(key crypto.PublicKey) (string, error) {
	text, err := publicPEM(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// ReadSigner reads a private key in the formats that NewKey and openssl write.
func ReadSigner(path string) (*Signer, error) {
	raw, err := durable.ReadFile(path, maxKeys)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey begins with them
		block, _ = pem.Decode(rest)
	}
	var parsed any
	switch {
	case block == nil:
		return nil, fmt.Errorf("%s: no PEM block %q in it", path, privateBlock)
	case block.Type == privateBlock:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == sec1Block:
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%s: PEM block %.40q: want %q, unencrypted", path, block.Type, privateBlock)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || hashes[key.Curve] == 0 {
		return nil, fmt.Errorf("%s: %w", path, errCurve)
	}
	id, err := idOf(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Signer{key, id}, nil
}

var errCurve = errors.New("not an ECDSA key on P-256, P-384 or P-521: create one with greenlight model keygen")

// ReadKeys reads a PEM file of public keys: one, or several during a key change. An empty path means no keys.
func ReadKeys(path string) (Keys, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := durable.ReadFile(path, maxKeys)
	if err != nil {
		return nil, err
	}
	var keys Keys
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != publicBlock {
			return nil, fmt.Errorf("%s: PEM block %.40q: want only %q", path, block.Type, publicBlock)
		}
		key, err := parsePublic(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no key in it", path)
	}
	return keys, nil
}

func parsePublic(der []byte) (Key, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Key{}, err
	}
	switch key := parsed.(type) {
	case *ecdsa.PublicKey:
		if hashes[key.Curve] == 0 {
			return Key{}, errCurve
		}
	case ed25519.PublicKey:
	default:
		return Key{}, errCurve
	}
	id, err := idOf(parsed)
	return Key{parsed, id}, err
}
