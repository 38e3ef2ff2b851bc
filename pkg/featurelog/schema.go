package featurelog

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Schema describes the features of a row. Create it once and share it: rows of one Schema go into one file.
type Schema struct {
	Name string
	// Hash is the hash of the feature.Schema.
	Hash string
	// Features are the column names, in the order of the vector.
	Features []string

	layout *parquet.Schema
}

// NewSchema returns the log's schema for rows of s. It returns an error if a feature has the name of another column.
func NewSchema(s *feature.Schema) (*Schema, error) { return newSchema(s.Name, s.Hash(), s.Names()) }

func newSchema(name, hash string, features []string) (*Schema, error) {
	if name == "" {
		return nil, fmt.Errorf("feature log: a schema without a name")
	}
	root := &group{}
	for _, c := range columns {
		root.add(c.name, c.node)
	}
	for i, f := range features {
		if f == "" || columnIndex(f) >= 0 || slices.Contains(features[:i], f) || slices.Contains(reserved, strings.ToLower(f)) {
			return nil, fmt.Errorf("feature log: schema %q: feature %q has the name of another column", name, f)
		}
		root.add(f, parquet.Optional(parquet.Encoded(parquet.Leaf(parquet.DoubleType), &parquet.Plain)))
	}
	return &Schema{Name: name, Hash: hash, Features: features, layout: parquet.NewSchema("row", root)}, nil
}

// places is how many rows of the usual width a row counts as.
func (s *Schema) places() int { return 1 + len(s.Features)/64 }

// reserved are the columns that the folders define.
var reserved = []string{"date", "schema"}

// String returns the layout of the files, as Parquet writes it.
func (s *Schema) String() string { return s.layout.String() }

// group is a parquet.Group whose fields keep their order: request, scores, features.
type group struct {
	parquet.Group

	fields []parquet.Field
}

func (g *group) add(name string, n parquet.Node) { g.fields = append(g.fields, field{n, name}) }

// Fields implements parquet.Node.
func (g *group) Fields() []parquet.Field { return g.fields }

// String implements parquet.Node.
func (g *group) String() string {
	var b strings.Builder
	_ = parquet.PrintSchema(&b, "", g) // a builder never fails
	return b.String()
}

type field struct {
	parquet.Node

	name string
}

// Name implements parquet.Field.
func (f field) Name() string { return f.name }

// Value implements parquet.Field. It is for rows that are Go values; ours are not.
func (f field) Value(reflect.Value) reflect.Value { return reflect.Value{} }
