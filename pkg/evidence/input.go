package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Input is a file from which evidence was computed.
type Input struct {
	// Path is relative to the evidence folder for files in it, otherwise as the caller gave it; with slashes.
	Path string `json:"path"`
	// SHA256 is the digest of the content, 64 lower-case hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// InputOf reads the file at path and returns its digest.
func InputOf(path string) (Input, error) {
	file, err := durable.Open(path)
	if err != nil {
		return Input{}, fmt.Errorf("input: %w", err)
	}
	defer file.Close()
	sum, _, err := digest(file)
	if err != nil {
		return Input{}, fmt.Errorf("input %q: %w", path, err)
	}
	return Input{Path: filepath.ToSlash(path), SHA256: sum}, nil
}

// digest reads r to its end and returns the SHA-256 and the size.
func digest(r io.Reader) (sum string, size int64, err error) {
	h := sha256.New()
	size, err = io.Copy(h, r)
	if err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// Sum returns the SHA-256 of data, in hex.
func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// isDigest reports whether s has the form of a SHA-256. Only lower case is accepted, so that there is a single form.
func isDigest(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == s
}
