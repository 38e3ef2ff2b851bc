package feature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Limits on a schema and its document.
const (
	// MaxFeatures is the largest number of features.
	MaxFeatures = 2000
	// MaxDocument is the largest size of a document, in bytes.
	MaxDocument = 4 << 20

	maxUnit, maxDescription = 32, 256 // bytes
)

// documentFormat is the format of a schema's document.
const documentFormat = "greenlight/schema/v1"

// document is a schema as a file.
type document struct {
	Format string `json:"format" yaml:"format,omitempty"`
	Name   string `json:"name"`
	// Score is the meaning of the score.
	Score string `json:"score,omitempty" yaml:"score,omitempty"`
	// Horizon is how far ahead the label looks, for example "15m".
	Horizon string `json:"horizon,omitempty" yaml:"horizon,omitempty"`
	// Hash is [Schema.Hash]. Without a hash the document is not checked.
	Hash     string `json:"hash" yaml:"hash,omitempty"`
	Features []Def  `json:"features"`
}

// ParseSchema reads the document of a schema, YAML or JSON. A built-in schema's name can only be given to that schema,
// and a name of the catalogue only to that feature.
func ParseSchema(raw []byte) (*Schema, error) {
	s, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if known, ok := Lookup(s.Name); ok {
		if known.Hash() != s.Hash() {
			return nil, fmt.Errorf("schema %s is built in, with other features: choose another name", s.Name)
		}
		return known, nil
	}
	return s, nil
}

func parse(raw []byte) (*Schema, error) {
	if len(raw) > MaxDocument {
		return nil, fmt.Errorf("the schema has %d bytes: at most %d", len(raw), MaxDocument)
	}
	var d document
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the schema is empty: want name and features")
		}
		return nil, fmt.Errorf("the schema is not valid: %w", err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the schema has more than one document")
	}
	if d.Format != "" && d.Format != documentFormat {
		return nil, fmt.Errorf("schema format %q: want %q", d.Format, documentFormat)
	}
	var horizon time.Duration
	if d.Horizon != "" {
		var err error
		if horizon, err = time.ParseDuration(d.Horizon); err != nil {
			return nil, fmt.Errorf("schema %q: horizon %q: want a duration, for example 15m", d.Name, d.Horizon)
		}
	}
	s, err := MakeSchema(d.Name, d.Score, horizon, d.Features)
	if err != nil {
		return nil, err
	}
	if d.Hash != "" && d.Hash != s.Hash() {
		return nil, fmt.Errorf("schema %s: its names, units and order have the hash %.12s, but the document says %.12s: correct the features, or remove the hash", s.Name, s.Hash(), d.Hash)
	}
	return s, nil
}

// MakeSchema returns a schema that satisfies the rules for documents. A feature of the catalogue may omit unit and
// description.
func MakeSchema(name, score string, horizon time.Duration, features []Def) (*Schema, error) {
	if !schemaForm.MatchString(name) {
		return nil, fmt.Errorf("schema name %q: want 1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit", cut(name))
	}
	if err := plain("score", score, maxDescription); err != nil {
		return nil, fmt.Errorf("schema %q: %w", name, err)
	}
	if horizon < 0 {
		return nil, fmt.Errorf("schema %q: horizon %v: want 0 (unknown) or more", name, horizon)
	}
	return newSchema(Schema{Name: name, Score: score, Horizon: horizon, Features: features})
}

// Document returns the schema as JSON, which [ParseSchema] reads.
func (s *Schema) Document() ([]byte, error) {
	raw, err := json.MarshalIndent(document{documentFormat, s.Name, s.Score, short(s.Horizon), s.Hash(), s.Features}, "", "  ")
	if err != nil {
		return nil, err // a domain that is not finite; no schema has one
	}
	return append(raw, '\n'), nil
}

// YAML returns the schema as a document to edit. It has no hash, which every edit would change.
func (s *Schema) YAML() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	err := e.Encode(document{Name: s.Name, Score: s.Score, Horizon: short(s.Horizon), Features: s.Features})
	return b.Bytes(), err
}

// short formats a duration, "" for 0.
func short(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return text.Duration(d)
}

var (
	// schemaForm is the form of a schema's name, which is part of paths.
	schemaForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	// featureForm is the form of a feature's name: printable ASCII without spaces, and without notInNames.
	featureForm = regexp.MustCompile(`^[[:graph:]]{1,64}$`)
)

// notInNames are the quotes, commas, "=" and backslashes that files and flags would need to escape.
const notInNames = "\"'`,=\\"

// reserved are names with their own meaning in metrics, drift profiles or the feature log.
var reserved = []string{
	"score", "overall", "overall_weighted", "label", "date", "schema",
	"request_id", "symbol", "event_time", "arrival_time", "schema_hash", "baseline_score", "baseline_version", "baseline_digest",
	"shadow_score", "outcome", "model_version", "model_digest", "shadow_latency_ms", "source", "input_mid", "input_spread_bp",
	"decided_by", "reason", "final_score", "rollout_revision",
}

// CheckName returns an error if the name is not valid for a feature.
func CheckName(name string) error {
	if !featureForm.MatchString(name) || strings.ContainsAny(name, notInNames) {
		return fmt.Errorf("feature %q: want 1 to 64 printable ASCII characters without spaces, quotes, commas, = and backslashes", cut(name))
	}
	if slices.Contains(reserved, strings.ToLower(name)) {
		return fmt.Errorf("feature %q: the name is reserved: rename the feature", name)
	}
	return nil
}

// complete checks a definition and fills in what the catalogue defines. A unit that is missing is "1".
func (f *Def) complete() error {
	if err := CheckName(f.Name); err != nil {
		return err
	}
	if known, ok := Find(f.Name); ok {
		if f.Unit != "" && f.Unit != known.Unit {
			return fmt.Errorf("feature %q is built in, with the unit %q, not %q: rename the feature, or correct the unit", f.Name, known.Unit, f.Unit)
		}
		f.Unit = known.Unit
		if f.Description == "" {
			f.Description = known.Description
		}
	}
	if f.Unit == "" {
		f.Unit = "1"
	}
	if err := errors.Join(plain("unit", f.Unit, maxUnit), plain("description", f.Description, maxDescription)); err != nil {
		return fmt.Errorf("feature %q: %w", f.Name, err)
	}
	if d := f.Domain; d != nil && !(d[0] < d[1] && d[1]-d[0] <= maxSpan) {
		return fmt.Errorf("feature %q: domain %v: want the lowest and the highest value, both finite", f.Name, *d)
	}
	return nil
}

// maxSpan is the largest distance between the ends of a domain.
const maxSpan = 1e300

// plain returns an error if a text is too long or is not printable.
func plain(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s of %d bytes: at most %d", what, len(s), limit)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%s %q: want printable text on one line", what, s)
	}
	return nil
}

// cut shortens a text for an error.
func cut(s string) string { return s[:min(len(s), 80)] }
