package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Witness keeps the heads of a chain in a second place, out of reach of those who can write to the folder.
type Witness interface {
	// Put stores the head of a chain of seq lines.
	Put(seq uint64, hash string) error
	// Head returns the newest head, or an error if there is none.
	Head() (string, error)
}

var (
	// ErrWitness is returned when the witness did not get a head. The evidence itself is written.
	ErrWitness = errors.New("the witness did not get the head of the chain")
	// ErrNoHead is returned by a witness that has no head yet.
	ErrNoHead = errors.New("the witness has no head yet")
)

// OpenWitness returns the witness at a place: "file:" and a path, or the URL of an HTTP server. It returns nil for an
// empty place.
func OpenWitness(place string) (Witness, error) {
	if place == "" {
		return nil, nil //nolint:nilnil // no witness is configured
	}
	if path, ok := strings.CutPrefix(place, "file:"); ok && path != "" {
		return fileWitness(path), nil
	}
	if u, err := url.Parse(place); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return httpWitness(place), nil
	}
	return nil, fmt.Errorf("%q: want file:path, or an http or https URL", place)
}

// witnessed is a head.
type witnessed struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// MaxWitnessed limits a head in JSON, in bytes.
const MaxWitnessed = 1 << 10

// EncodeHead returns the head of a chain of seq lines in JSON.
func EncodeHead(seq uint64, hash string) ([]byte, error) { return json.Marshal(witnessed{seq, hash}) }

// ParseHead returns the head in the JSON of EncodeHead.
func ParseHead(data []byte) (string, error) {
	var w witnessed
	if err := json.Unmarshal(data, &w); err != nil {
		return "", fmt.Errorf("the witness has no head in JSON: %w", err)
	}
	return w.Hash, CheckHead(w.Hash)
}

// fileWitness appends the heads to a file, one JSON object per line.
type fileWitness string

// Put implements Witness.
func (f fileWitness) Put(seq uint64, hash string) error {
	if last, err := f.Head(); err == nil && last == hash {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(string(f)), 0o755); err != nil {
		return err
	}
	lines, err := durable.OpenLines(string(f), MaxWitnessed)
	if err != nil {
		return err
	}
	line, err := EncodeHead(seq, hash)
	if err == nil {
		err = lines.Append(append(line, '\n'))
	}
	return errors.Join(err, lines.Close())
}

// Head implements Witness.
func (f fileWitness) Head() (string, error) {
	data, err := durable.ReadFile(string(f), maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	end := bytes.LastIndexByte(data, '\n') // what follows was cut short by a kill
	if end < 0 {
		return "", ErrNoHead
	}
	return ParseHead(data[bytes.LastIndexByte(data[:end], '\n')+1 : end])
}

// httpWitness posts the heads to a URL, and gets the newest from there.
type httpWitness string

// witnessTimeout is how long a request to a witness may take.
const witnessTimeout = 10 * time.Second

// Put implements Witness.
func (h httpWitness) Put(seq uint64, hash string) error {
	body, err := EncodeHead(seq, hash)
	if err != nil {
		return err
	}
	_, err = h.do(http.MethodPost, bytes.NewReader(body))
	return err
}

// Head implements Witness.
func (h httpWitness) Head() (string, error) {
	data, err := h.do(http.MethodGet, nil)
	if err != nil {
		return "", err
	}
	return ParseHead(data)
}

func (h httpWitness) do(method string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), witnessTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, string(h), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxWitnessed))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, fmt.Errorf("%s %s: %s", method, h, resp.Status)
	}
	return data, nil
}
