package dsse

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

// The example of the specification (protocol.md): what is signed, and a signature made by other code.
func TestPublishedExample(t *testing.T) {
	number := func(s string) *big.Int {
		n, ok := new(big.Int).SetString(s, 10)
		if !ok {
			t.Fatal(s)
		}
		return n
	}
	point := append([]byte{4}, number("46950820868899156662930047687818585632848591499744589407958293238635476079160").FillBytes(make([]byte, 32))...)
	point = append(point, number("5640078356564379163099075877009565129882514886557779369047442380624545832820").FillBytes(make([]byte, 32))...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	signed := preAuth("http://example.com/HelloWorld", []byte("hello world"))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; string(signed) != want {
		t.Fatalf("signed %q, want %q", signed, want)
	}
	sig, err := base64.StdEncoding.DecodeString("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
	if err != nil || len(sig) != 64 {
		t.Fatalf("%d bytes, %v", len(sig), err)
	}
	// The example has r and s side by side; others have them in ASN.1.
	if !ecdsa.Verify(key, hashOf(key, signed), new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the signature of the example does not verify")
	}
}

func newSigner(t *testing.T) (*Signer, Keys) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := NewKey(path); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return s, keys
}

func TestEnvelope(t *testing.T) {
	signer, keys := newSigner(t)
	_, others := newSigner(t)
	e, err := signer.Sign("application/x", []byte("\x00document"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	open := func(data []byte, keys Keys, kind string) error {
		e, err := Parse(data)
		if err != nil {
			return err
		}
		payload, id, err := keys.Open(e, kind)
		if err == nil && (string(payload) != "\x00document" || id != signer.ID()) {
			t.Errorf("opened %q by %s", payload, id)
		}
		return err
	}
	changed := func(change func(*Envelope)) []byte {
		c := *e
		c.Payload = append([]byte(nil), e.Payload...)
		c.Signatures = []Signature{{e.Signatures[0].KeyID, append([]byte(nil), e.Signatures[0].Sig...)}}
		change(&c)
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, test := range map[string]struct {
		data []byte
		keys Keys
		kind string
		want error
	}{
		"as signed":            {data, keys, "application/x", nil},
		"one of two keys":      {data, append(others[:1:1], keys...), "application/x", nil},
		"key id changed":       {changed(func(e *Envelope) { e.Signatures[0].KeyID = "x" }), keys, "application/x", nil},
		"another key":          {data, others, "application/x", ErrUntrusted},
		"no key":               {data, nil, "application/x", ErrUntrusted},
		"another kind wanted":  {data, keys, "application/y", ErrType},
		"kind changed":         {changed(func(e *Envelope) { e.PayloadType = "application/y" }), keys, "application/y", ErrUntrusted},
		"payload changed":      {changed(func(e *Envelope) { e.Payload[0] = 1 }), keys, "application/x", ErrUntrusted},
		"signature changed":    {changed(func(e *Envelope) { e.Signatures[0].Sig[9] ^= 1 }), keys, "application/x", ErrUntrusted},
		"signature of nothing": {changed(func(e *Envelope) { e.Signatures[0].Sig = nil }), keys, "application/x", ErrUntrusted},
	} {
		if err := open(test.data, test.keys, test.kind); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	for _, bad := range []string{
		"", "{}", `{"payloadType":"x","payload":"!","signatures":[{"sig":""}]}`, `{"payloadType":"x","payload":"","signatures":[]}`,
		`{"payloadType":"x","payload":"","signatures":[` + strings.Repeat(`{"sig":""},`, 16) + `{"sig":""}]}`,
	} {
		if e, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%.60q: %+v", bad, e)
		}
	}
}

// Keys from openssl sign, and openssl verifies their signatures.
func TestOpenSSL(t *testing.T) {
	program := need.Program(t, "openssl", "openssl")
	for curve, hash := range map[string]string{"P-256": "sha256", "P-384": "sha384", "P-521": "sha512"} {
		dir := t.TempDir()
		run := func(args ...string) {
			t.Helper()
			cmd := exec.Command(program, args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("openssl %q: %v\n%s", args, err, out)
			}
		}
		run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:"+curve, "-out", "key.pem")
		run("pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
		run("pkey", "-in", "key.pem", "-traditional", "-out", "sec1.pem")
		for _, name := range []string{"key.pem", "sec1.pem"} {
			signer, err := ReadSigner(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			e, err := signer.Sign("application/x", []byte("document"))
			if err != nil {
				t.Fatal(err)
			}
			keys, err := ReadKeys(filepath.Join(dir, "key.pub"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := keys.Open(e, "application/x"); err != nil {
				t.Errorf("%s: %v", curve, err)
			}
			for file, data := range map[string][]byte{"signed": []byte("DSSEv1 13 application/x 8 document"), "sig": e.Signatures[0].Sig} {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			run("dgst", "-"+hash, "-verify", "key.pub", "-signature", "sig", "signed")
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, block string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, err := x509.MarshalPKIXPublicKey(public)
	edFile := file("ed.pub", publicBlock, edPublic, err)
	edPrivate, err := x509.MarshalPKCS8PrivateKey(private)
	edSecret := file("ed.pem", privateBlock, edPrivate, err)
	p224Public, err := x509.MarshalPKIXPublicKey(&p224.PublicKey)
	p224File := file("p224.pub", publicBlock, p224Public, err)

	keys, err := ReadKeys(edFile)
	if err != nil || len(keys.Ed25519()) != 1 {
		t.Errorf("an Ed25519 key: %v, %v", keys, err)
	}
	if _, err := ReadSigner(edSecret); !errors.Is(err, errCurve) {
		t.Errorf("an Ed25519 key may not sign: %v", err)
	}
	if _, err := ReadKeys(p224File); !errors.Is(err, errCurve) {
		t.Errorf("P-224: %v", err)
	}
	if keys, err := ReadKeys(""); keys != nil || err != nil {
		t.Errorf("no file: %v, %v", keys, err)
	}
	if err := NewKey(edFile); err == nil {
		t.Error("a key was overwritten")
	}
	for _, path := range []string{edSecret, filepath.Join(dir, "none")} {
		if _, err := ReadKeys(path); err == nil {
			t.Errorf("%s: read as public keys", path)
		}
	}
	bad := filepath.Join(dir, "bad")
	for name, text := range map[string]string{"empty": "", "text": "hello", "huge": strings.Repeat("x", 1<<17)} {
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(bad); err == nil {
			t.Errorf("%s as public keys", name)
		}
		if _, err := ReadSigner(bad); err == nil {
			t.Errorf("%s as a private key", name)
		}
	}
	info, err := os.Stat(func() string {
		path := filepath.Join(dir, "new.pem")
		if err := NewKey(path); err != nil {
			t.Fatal(err)
		}
		return path
	}())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", info.Mode(), err)
	}
}
