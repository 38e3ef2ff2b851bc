package enginetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Artifact returns a small model of the schema, verified like one from a registry. The same schema and version give the same
// model; another version gives different scores.
func Artifact(t testing.TB, schema, version string) *model.Artifact {
	t.Helper()
	s, ok := feature.Lookup(schema)
	if !ok {
		t.Fatalf("enginetest: unknown schema %q", schema)
	}
	return ArtifactOf(t, s, version)
}

// ArtifactOf is like [Artifact], for any schema.
func ArtifactOf(t testing.TB, schema *feature.Schema, version string) *model.Artifact {
	t.Helper()
	a := draft(t, schema, version)
	registry := model.OpenRegistry(t.TempDir())
	if err := registry.Add(a); err != nil {
		t.Fatal(err)
	}
	loaded, err := registry.Load(version)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// Registry returns a registry folder with the models of [Artifact] for the versions, all with the same schema and the name
// "test".
func Registry(t testing.TB, schema string, versions ...string) (dir string) {
	t.Helper()
	s, ok := feature.Lookup(schema)
	if !ok {
		t.Fatalf("enginetest: unknown schema %q", schema)
	}
	return RegistryOf(t, s, versions...)
}

// RegistryOf is like [Registry], for any schema.
func RegistryOf(t testing.TB, schema *feature.Schema, versions ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, v := range versions {
		if err := model.OpenRegistry(dir).Add(draft(t, schema, v)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Own returns a custom schema with n features: own_0, own_1 and so on.
func Own(t testing.TB, name string, n int) *feature.Schema {
	t.Helper()
	var defs []feature.Def
	for i := range n {
		defs = append(defs, feature.Def{Name: fmt.Sprintf("own_%d", i)})
	}
	s, err := feature.MakeSchema(name, "", 15*time.Minute, defs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func draft(t testing.TB, s *feature.Schema, version string) *model.Artifact {
	t.Helper()
	seed := uint64(len(version))
	for _, c := range version {
		seed = seed*31 + uint64(c)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	formula := logistic(rng, s.Names())
	baseline, err := model.NewBaseline("heuristic-test", logistic(rand.New(rand.NewPCG(7, 7)), feature.BaselineInputs()))
	if err != nil {
		t.Fatal(err)
	}
	a := &model.Artifact{
		Manifest: model.Manifest{
			Name: "test", Version: version, Card: "made by enginetest: knows nothing of markets",
			Training: model.Training{
				Data: "none", Simulated: true, Rows: 1,
				Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 1, 29, 0, 0, 0, 0, time.UTC),
			},
		},
		Spec: model.Spec{
			Family: "logistic", Schema: s.Name, Label: model.Label{HorizonMinutes: 15, Threshold: 1.5}, Logistic: &formula,
		},
		Baseline: baseline, Schema: s,
	}
	for range 8 {
		x := Vector(rng, s)
		a.Golden.Vectors = append(a.Golden.Vectors, model.GoldenVector{X: x, Score: formula.Score(x)})
	}
	references.Lock()
	defer references.Unlock()
	key := drafted{s, version}
	if references.of[key] == nil {
		references.of[key] = reference(t, rng, s, formula)
	}
	a.Reference = references.of[key]
	return a
}

// references caches the drift profiles of the drafts, which take most of a draft's time. They are never changed.
var references = struct {
	sync.Mutex

	of map[drafted]*drift.Profile
}{of: map[drafted]*drift.Profile{}}

type drafted struct {
	schema  *feature.Schema
	version string
}

// reference returns the drift profile of 10 days of random vectors from [Vector], with raw inputs.
func reference(t testing.TB, rng *rand.Rand, schema *feature.Schema, formula model.Logistic) *drift.Profile {
	t.Helper()
	const days, perDay = 10, 100
	names, weights := model.Watched(&formula, schema)
	values := map[string][]float64{}
	score := drift.Column{Name: "score", Role: drift.Score}
	var inputs []drift.Column
	for _, name := range feature.RawInputs() {
		if schema.Index(name) < 0 {
			inputs = append(inputs, drift.Column{Name: name, Role: drift.RawInput})
		}
	}
	var of []int
	for i := range days * perDay {
		x := Vector(rng, schema)
		for j, name := range schema.Names() {
			values[name] = append(values[name], x[j])
		}
		score.Values = append(score.Values, formula.Score(x))
		for j := range inputs {
			inputs[j].Values = append(inputs[j].Values, 100+rng.NormFloat64())
		}
		of = append(of, 20_000+i/perDay)
	}
	var columns []drift.Column
	for _, name := range names {
		columns = append(columns, drift.Column{Name: name, Weight: weights[name], Values: values[name]})
	}
	p, err := drift.NewProfile(slices.Concat(columns, []drift.Column{score}, inputs), of)
	if err != nil {
		t.Fatal(err)
	}
	p.Ranges = drift.NewRanges(schema.Names(), func(name string) []float64 { return values[name] })
	return p
}

// logistic returns a formula with a weight for each input except bias.
func logistic(rng *rand.Rand, inputs []string) model.Logistic {
	m := model.Logistic{Features: inputs, Intercept: -0.8, Clip: 8}
	for _, name := range inputs {
		w := rng.NormFloat64() / 2
		if name == feature.Bias {
			w = 0
		}
		m.Mean, m.SD, m.Weight = append(m.Mean, 0), append(m.SD, 1), append(m.Weight, w)
	}
	return m
}

// Vector returns a random market state of the schema: standard normal, with a bias of 1.
func Vector(rng *rand.Rand, schema *feature.Schema) []float64 {
	x := make([]float64, schema.Len())
	for i, f := range schema.Features {
		x[i] = rng.NormFloat64()
		if f.Name == feature.Bias {
			x[i] = 1
		}
	}
	return x
}
