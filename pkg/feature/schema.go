package feature

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Schema is a named, ordered list of features: the shape of a model's vectors. It must not be changed.
type Schema struct {
	// Name identifies the schema in requests and models, for example "v1.8.1".
	Name string
	// Features are in the order of the vector.
	Features []Def
	// Score is the meaning of a model's score, in words; empty if unknown.
	Score string
	// Horizon is how far ahead the label looks; 0 if unknown.
	Horizon time.Duration

	// columns are the positions of Features in the catalogue, -1 for those that only callers can send.
	columns []int
	// own is how many features only callers can send.
	own int
	// bias is the position of [Bias], or -1.
	bias int
	// index maps features to positions; nil for a short schema, where a linear search is faster.
	index map[string]int
}

// DefaultSchema is the newest built-in schema, which a model takes unless its maker chooses another.
const DefaultSchema = "v1.8.1"

//go:embed schemas
var documents embed.FS

// schemas are the built-in schemas. All their features are in the catalogue. To add one, add its document and a line.
var schemas = []*Schema{builtin("v1.8"), builtin(DefaultSchema)}

func builtin(name string) *Schema {
	raw, err := documents.ReadFile("schemas/" + name + ".yaml")
	if err != nil {
		panic("feature: " + err.Error())
	}
	s, err := parse(raw)
	if err != nil {
		panic("feature: " + err.Error())
	}
	return s
}

// BaselineInputs returns the inputs of the production heuristic, in its order.
func BaselineInputs() []string {
	return []string{"vol1m_log_rel", "spread_bp_rel", "rsi14_z", "zscore_mid_24h"}
}

// RawInputs returns the raw inputs whose drift is watched in addition to a model's own features. They show that the
// price moved even if the robust features did not.
func RawInputs() []string { return []string{"mid", "spread_bp", "vol1m", "rsi14"} }

// NewSchema returns a schema of features from the catalogue. It returns an error if there are none, or if a name is
// unknown or repeated.
func NewSchema(name string, features ...string) (*Schema, error) {
	var errs []error
	for _, f := range features {
		if _, ok := byName[f]; !ok {
			errs = append(errs, fmt.Errorf("schema %q: unknown feature %q", name, f))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return Named(name, features...)
}

// Named makes a schema from feature names. A name that is not in the catalogue is a feature that only callers can send.
func Named(name string, features ...string) (*Schema, error) {
	defs := make([]Def, len(features))
	for i, f := range features {
		defs[i] = Def{Name: f}
	}
	return newSchema(Schema{Name: name, Features: defs})
}

// newSchema completes a schema. A feature of the catalogue gets its unit and description from there.
func newSchema(s Schema) (*Schema, error) {
	if len(s.Features) == 0 {
		return nil, fmt.Errorf("schema %q: no features", s.Name)
	}
	if len(s.Features) > MaxFeatures {
		return nil, fmt.Errorf("schema %q: %d features: at most %d", s.Name, len(s.Features), MaxFeatures)
	}
	s.bias = -1
	s.index = make(map[string]int, len(s.Features))
	s.columns = make([]int, len(s.Features))
	s.Features = slices.Clone(s.Features)
	var errs []error
	for i := range s.Features {
		f := &s.Features[i]
		if _, twice := s.index[f.Name]; twice {
			errs = append(errs, fmt.Errorf("schema %q: feature %q is listed twice", s.Name, f.Name))
		}
		s.index[f.Name] = i
		if f.Name == Bias {
			s.bias = i
		}
		var known bool
		if s.columns[i], known = byName[f.Name]; !known {
			s.columns[i] = -1
			s.own++
		}
		if err := f.complete(); err != nil {
			errs = append(errs, fmt.Errorf("schema %q: %w", s.Name, err))
		}
	}
	if len(s.Features) <= shortSchema {
		s.index = nil
	}
	return &s, errors.Join(errs...)
}

// WithHorizon returns the schema with another horizon. It returns an error for a built-in schema with a different one.
func (s *Schema) WithHorizon(d time.Duration) (*Schema, error) {
	if s.Horizon == d {
		return s, nil
	}
	if s.Builtin() {
		return nil, fmt.Errorf("schema %s is built in, with a horizon of %v: use a schema with another name for %v", s.Name, s.Horizon, d)
	}
	other := *s
	other.Horizon = d
	return &other, nil
}

// shortSchema is the largest number of features that are searched one by one.
const shortSchema = 16

// Lookup returns the built-in schema of that name: one of [Schemas].
func Lookup(name string) (*Schema, bool) {
	for _, s := range schemas {
		if s.Name == name {
			return s, true
		}
	}
	return nil, false
}

// Schemas returns the built-in schemas, oldest first.
func Schemas() []*Schema { return slices.Clone(schemas) }

// Builtin reports whether the schema is one of [Schemas].
func (s *Schema) Builtin() bool { return slices.Contains(schemas, s) }

// Computable reports whether a [Builder] computes all features. If not, callers must send some of them.
func (s *Schema) Computable() bool { return s.own == 0 }

// Len returns the number of features.
func (s *Schema) Len() int { return len(s.Features) }

// Names returns the feature names in order.
func (s *Schema) Names() []string {
	names := make([]string, len(s.Features))
	for i, f := range s.Features {
		names[i] = f.Name
	}
	return names
}

// Index returns the position of the named feature in the vector, or -1 if it is not in the schema.
func (s *Schema) Index(name string) int {
	if s.index != nil {
		if i, ok := s.index[name]; ok {
			return i
		}
		return -1
	}
	for i := range s.Features {
		if s.Features[i].Name == name {
			return i
		}
	}
	return -1
}

// BiasIndex returns the position of [Bias] in the vector, or -1 if it is not in the schema.
func (s *Schema) BiasIndex() int { return s.bias }

// Hash identifies the vector. It is the SHA-256, in lower-case hexadecimal, of one line "name<TAB>unit<LF>" per
// feature, in order. The schema's name, descriptions, domains, score and horizon are not part of it.
func (s *Schema) Hash() string {
	h := sha256.New()
	for _, f := range s.Features {
		io.WriteString(h, f.Name+"\t"+f.Unit+"\n") // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// String returns the name and the features, for logs.
func (s *Schema) String() string { return s.Name + "(" + strings.Join(s.Names(), ", ") + ")" }

// Bias is the feature that is always 1. A state given by name may omit it.
const Bias = "bias"
