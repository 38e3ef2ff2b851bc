// Package dsse signs documents with ECDSA keys, using Dead Simple Signing Envelope v1.0
// (https://github.com/secure-systems-lab/dsse). The signature covers the payload's type and the payload, so that a signed
// document cannot pass for one of another kind.
package dsse

import (
	"crypto/ecdsa"
	"crypto/rand"
	_ "crypto/sha256" // for P-256
	_ "crypto/sha512" // for P-384 and P-521
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Envelope is a signed document, in JSON.
type Envelope struct {
	// PayloadType names the kind of the document, for example "application/vnd.in-toto+json".
	PayloadType string `json:"payloadType"`
	// Payload is the document; base64 in JSON.
	Payload []byte `json:"payload"`
	// Signatures sign the document. One by a trusted key is enough.
	Signatures []Signature `json:"signatures"`
}

// Signature is one signature of an envelope.
type Signature struct {
	// KeyID is a hint for people and tools; it is not trusted. Sign leaves it empty, since Sigstore's verifiers refuse any id
	// that is not in their format.
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

var (
	// ErrUntrusted is returned for an envelope that no trusted key has signed, or that was changed after signing.
	ErrUntrusted = errors.New("no trusted key has signed the document, or it was changed after signing")
	// ErrType is returned for an envelope with a document of another kind.
	ErrType = errors.New("wrong kind of document")
)

// preAuth is what is signed: the pre-authentication encoding of the specification.
func preAuth(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Sign returns the signed document.
func (s *Signer) Sign(payloadType string, payload []byte) (*Envelope, error) {
	digest := hashOf(&s.key.PublicKey, preAuth(payloadType, payload))
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, digest)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return &Envelope{PayloadType: payloadType, Payload: payload, Signatures: []Signature{{Sig: sig}}}, nil
}

// Open returns the document of the envelope and the id of the key that signed it. The error is [ErrType] or [ErrUntrusted].
func (k Keys) Open(e *Envelope, payloadType string) (payload []byte, id string, err error) {
	if e.PayloadType != payloadType {
		return nil, "", fmt.Errorf("%w: %.100q, want %q", ErrType, e.PayloadType, payloadType)
	}
	signed := preAuth(e.PayloadType, e.Payload)
	for _, key := range k {
		ec, ok := key.public.(*ecdsa.PublicKey)
		if !ok {
			continue
		}
		digest := hashOf(ec, signed)
		for _, s := range e.Signatures {
			if ecdsa.VerifyASN1(ec, digest, s.Sig) {
				return e.Payload, key.id, nil
			}
		}
	}
	return nil, "", ErrUntrusted
}

// Parse reads an envelope. Payload and signatures may use either base64 alphabet, as the specification requires.
func Parse(data []byte) (*Envelope, error) {
	var raw struct {
		PayloadType string `json:"payloadType"`
		Payload     string `json:"payload"`
		Signatures  []struct {
			KeyID string `json:"keyid"`
			Sig   string `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("not a DSSE envelope: %w", err)
	}
	if len(raw.Signatures) == 0 || len(raw.Signatures) > maxSignatures {
		return nil, fmt.Errorf("not a DSSE envelope: %d signatures, want 1 to %d", len(raw.Signatures), maxSignatures)
	}
	e := &Envelope{PayloadType: raw.PayloadType}
	var err error
	if e.Payload, err = decode(raw.Payload); err != nil {
		return nil, fmt.Errorf("not a DSSE envelope: payload: %w", err)
	}
	for _, s := range raw.Signatures {
		sig, err := decode(s.Sig)
		if err != nil {
			return nil, fmt.Errorf("not a DSSE envelope: signature: %w", err)
		}
		e.Signatures = append(e.Signatures, Signature{s.KeyID, sig})
	}
	return e, nil
}

// maxSignatures limits the signatures of an envelope: each costs one verification per key.
const maxSignatures = 16

func decode(s string) ([]byte, error) {
	if b, err := base64.StdEncoding.DecodeString(s); err == nil {
		return b, nil
	}
	return base64.URLEncoding.DecodeString(s)
}

// hashOf returns the digest that a key of that curve signs: SHA-256 for P-256, SHA-384 for P-384, SHA-512 for P-521.
func hashOf(key *ecdsa.PublicKey, data []byte) []byte {
	h := hashes[key.Curve].New()
	h.Write(data)
	return h.Sum(nil)
}
