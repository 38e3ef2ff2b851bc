package enginetest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Artifact returns a small model of the schema, verified as one from a registry is. The same schema and version give the
// same model; another version gives other scores.
func Artifact(t testing.TB, schema, version string) *model.Artifact {
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

// Registry returns a registry folder with the models of [Artifact] of the versions, all of the schema and of the name
// "test".
func Registry(t testing.TB, schema string, versions ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, v := range versions {
		if err := model.OpenRegistry(dir).Add(draft(t, schema, v)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func draft(t testing.TB, schema, version string) *model.Artifact {
	t.Helper()
	s, ok := feature.Lookup(schema)
	if !ok {
		t.Fatalf("enginetest: unknown schema %q", schema)
	}
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
			Family: "logistic", Schema: schema, Label: model.Label{HorizonMinutes: 15, Threshold: 1.5}, Logistic: &formula,
		},
		Baseline: baseline,
	}
	for range 8 {
		x := Vector(rng, s)
		a.Golden.Vectors = append(a.Golden.Vectors, model.GoldenVector{X: x, Score: formula.Score(x)})
	}
	return a
}

// logistic is a formula of the inputs with weights that let each of them matter; bias has none.
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

// Vector is a random market state of the schema: standard normal, with a bias of 1.
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
