package model

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Baseline is the production heuristic: a logistic formula over a few features, released with the model as
// baseline.json.
type Baseline struct {
	Format string `json:"format"`
	// Version names the heuristic, for example "heuristic-v1".
	Version  string   `json:"version"`
	Logistic Logistic `json:"logistic"`
	// Own lists, in order, the inputs that only callers can send. The others are features of the catalogue.
	Own []string `json:"own_features,omitempty"`

	digest string
}

// NewBaseline wraps the fitted formula. own are its inputs that are not features of the catalogue.
func NewBaseline(version string, formula Logistic, own ...string) (*Baseline, error) {
	b := &Baseline{Format: baselineFormat, Version: version, Logistic: formula, Own: own}
	if err := b.bind(); err != nil {
		return nil, err
	}
	raw, err := encode(b)
	if err != nil {
		return nil, err
	}
	b.digest = digest(raw)
	return b, nil
}

// CallerDigest returns the digest of a baseline whose scores the callers send. version is "<name>@<version>". Such a baseline
// has no file, so the digest is the SHA-256 of the text "caller=<name>@<version>".
func CallerDigest(version string) (string, error) {
	name, of, ok := strings.Cut(version, "@")
	if !ok {
		return "", fmt.Errorf("%q: want <name>@<version>, for example desk@7", version)
	}
	if err := errors.Join(CheckName("name", name), CheckName("version", of)); err != nil {
		return "", err
	}
	return digest([]byte("caller=" + version)), nil
}

// LoadBaseline reads and checks a baseline.json.
func LoadBaseline(path string) (*Baseline, error) {
	b, err := readBaseline(path)
	if err != nil {
		return nil, fmt.Errorf("baseline %s: %w", path, err)
	}
	return b, nil
}

func readBaseline(path string) (*Baseline, error) {
	root, err := durable.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	name := filepath.Base(path)
	raw, err := readFile(root, name)
	if err != nil {
		return nil, err
	}
	b := &Baseline{digest: digest(raw)}
	if err := decode(name, raw, b); err != nil {
		return nil, err
	}
	if err := b.bind(); err != nil {
		return nil, err
	}
	return b, nil
}

// Digest returns the SHA-256 of the baseline's file, 64 lower-case hexadecimal digits.
func (b *Baseline) Digest() string { return b.digest }

// Inputs returns the features that Score takes, in order.
func (b *Baseline) Inputs() []string { return b.Logistic.Features }

// Score returns the probability in [0,1] for one value per input.
func (b *Baseline) Score(x []float64) float64 { return b.Logistic.Score(x) }

// Scores implements [Scorer].
func (b *Baseline) Scores(scores, x []float64) { b.Logistic.Scores(scores, x) }

func (b *Baseline) bind() error {
	if b.Format != baselineFormat {
		return fmt.Errorf("%s: format %q: want %q", BaselineFile, b.Format, baselineFormat)
	}
	if err := CheckName("version", b.Version); err != nil {
		return fmt.Errorf("%s: %w", BaselineFile, err)
	}
	if err := b.Logistic.Validate(); err != nil {
		return fmt.Errorf("%s: %w", BaselineFile, err)
	}
	for _, name := range b.Logistic.Features {
		if _, ok := feature.Find(name); !ok && !slices.Contains(b.Own, name) {
			return fmt.Errorf("%s: unknown feature %q", BaselineFile, name)
		}
	}
	for _, name := range b.Own {
		if err := feature.CheckName(name); err != nil {
			return fmt.Errorf("%s: %w", BaselineFile, err)
		}
		if _, ok := feature.Find(name); ok || !slices.Contains(b.Logistic.Features, name) {
			return fmt.Errorf("%s: own feature %q: want an input that is not built in", BaselineFile, name)
		}
	}
	return nil
}
