package feature

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Schema is a named, ordered list of features: the shape of a model's vectors. It must not be changed.
type Schema struct {
	// Name identifies the schema in requests and models, for example "v1.8.1".
	Name string
	// Features are in the order of the vector.
	Features []Def

	// columns are the positions of Features in the catalogue.
	columns []int
}

// DefaultSchema is the newest schema, which a model takes unless its maker chooses another.
const DefaultSchema = "v1.8.1"

// schemas are the named schemas that a model can be trained on. To add one, add a line.
var schemas = []*Schema{
	mustSchema("v1.8", "bias", "mid", "spread_bp", "vol1m", "rsi14", "mid_logret_1m"),
	mustSchema(DefaultSchema, "bias", "mid_logret_1m_rel", "mid_logret_5m_rel", "spread_bp_rel", "vol1m_log_rel", "rsi14_z", "zscore_mid_24h"),
}

// BaselineInputs returns the inputs of the production heuristic, in its order.
func BaselineInputs() []string {
	return []string{"vol1m_log_rel", "spread_bp_rel", "rsi14_z", "zscore_mid_24h"}
}

// RawInputs returns the raw inputs whose drift is watched in addition to a model's own features. They show that the
// price moved even if the robust features did not.
func RawInputs() []string { return []string{"mid", "spread_bp", "vol1m", "rsi14"} }

// NewSchema makes a schema from features of the catalogue. It returns an error if there are none, or if a name is
// unknown or repeated.
func NewSchema(name string, features ...string) (*Schema, error) {
	if len(features) == 0 {
		return nil, fmt.Errorf("schema %q: no features", name)
	}
	s := &Schema{Name: name}
	var errs []error
	for _, f := range features {
		i, ok := byName[f]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("schema %q: unknown feature %q", name, f))
		case slices.Contains(s.columns, i):
			errs = append(errs, fmt.Errorf("schema %q: feature %q is listed twice", name, f))
		default:
			s.columns = append(s.columns, i)
			s.Features = append(s.Features, definitions[i].Def)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func mustSchema(name string, features ...string) *Schema {
	s, err := NewSchema(name, features...)
	if err != nil {
		panic("feature: " + err.Error())
	}
	return s
}

// Lookup returns the schema with that name among [Schemas].
func Lookup(name string) (*Schema, bool) {
	for _, s := range schemas {
		if s.Name == name {
			return s, true
		}
	}
	return nil, false
}

// Schemas returns the named schemas, oldest first.
func Schemas() []*Schema { return slices.Clone(schemas) }

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
	return slices.IndexFunc(s.Features, func(f Def) bool { return f.Name == name })
}

// Hash identifies the vector. It is the SHA-256, in lower-case hexadecimal, of one line "name<TAB>unit<LF>" per
// feature, in order. The schema's name and the descriptions are not part of it.
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
