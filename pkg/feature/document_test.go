package feature_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

const desk = `name: desk
score: probability of a fill
horizon: 90s
features:
  - name: mid
  - {name: imb5, unit: "1", description: imbalance of five levels, domain: [-1, 1]}
  - name: funding_bp
    unit: bp
`

func TestParseSchema(t *testing.T) {
	s, err := feature.ParseSchema([]byte(desk))
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "desk" || s.Score != "probability of a fill" || s.Horizon != 90*time.Second || s.Computable() || s.Builtin() {
		t.Errorf("got %+v", s)
	}
	if f := s.Features; f[0].Unit != "price" || f[0].Description == "" || *f[1].Domain != [2]float64{-1, 1} || f[2].Unit != "bp" {
		t.Errorf("got %+v", f)
	}
	// Both forms of the document define the same schema.
	raw, err := s.Document()
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range [][]byte{raw, text} {
		again, err := feature.ParseSchema(d)
		if err != nil || fmt.Sprint(again.Names(), again.Hash(), again.Horizon, again.Score) != fmt.Sprint(s.Names(), s.Hash(), s.Horizon, s.Score) {
			t.Errorf("got %+v, %v from %s", again, err, d)
		}
	}
}

func TestParseSchemaRefuses(t *testing.T) {
	var many strings.Builder
	many.WriteString("name: x\nfeatures:\n")
	for i := range feature.MaxFeatures + 1 {
		fmt.Fprintf(&many, "  - name: f%d\n", i)
	}
	for name, tt := range map[string]struct{ document, want string }{
		"empty":          {"", "empty"},
		"no features":    {"name: x\n", "no features"},
		"unknown key":    {"name: x\nfeatuers: []\n", "featuers"},
		"two documents":  {desk + "---\n" + desk, "more than one"},
		"built-in name":  {strings.Replace(desk, "name: desk", "name: v1.8.1", 1), "built in"},
		"path":           {strings.Replace(desk, "name: desk", "name: ../x", 1), "schema name"},
		"other unit":     {"name: x\nfeatures: [{name: mid, unit: bp}]\n", `"mid" is built in, with the unit "price"`},
		"twice":          {"name: x\nfeatures: [{name: a}, {name: a}]\n", "listed twice"},
		"space":          {"name: x\nfeatures: [{name: a b}]\n", "printable ASCII"},
		"reserved":       {"name: x\nfeatures: [{name: Score}]\n", "reserved"},
		"domain":         {"name: x\nfeatures: [{name: a, domain: [1, 1]}]\n", "domain"},
		"open domain":    {"name: x\nfeatures: [{name: a, domain: [0, .inf]}]\n", "domain"},
		"one end":        {"name: x\nfeatures: [{name: a, domain: [0]}]\n", "not valid"},
		"horizon":        {"name: x\nhorizon: 15\nfeatures: [{name: a}]\n", "want a duration"},
		"wrong hash":     {"name: x\nhash: abc\nfeatures: [{name: a}]\n", "the document says abc"},
		"other format":   {"format: y\nname: x\nfeatures: [{name: a}]\n", "format"},
		"control":        {"name: x\nfeatures: [{name: a, description: \"a\\tb\"}]\n", "on one line"},
		"many":           {many.String(), "at most 2000"},
		"large document": {strings.Repeat("#", feature.MaxDocument+1), "bytes"},
	} {
		if _, err := feature.ParseSchema([]byte(tt.document)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error that mentions %q", name, err, tt.want)
		}
	}
}

func TestKnown(t *testing.T) {
	k := feature.NewKnown()
	s, err := feature.ParseSchema([]byte(desk))
	if err != nil {
		t.Fatal(err)
	}
	same, err := feature.ParseSchema([]byte(desk))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Add(s); got != s || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := k.Add(same); got != s || err != nil {
		t.Errorf("the same again: got %v, %v, want the first", got, err)
	}
	other, err := feature.ParseSchema([]byte(strings.Replace(desk, "imb5", "imb9", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Add(other); err == nil {
		t.Error("a name got another meaning")
	}
	for name, want := range map[string]bool{"imb5": true, "imb9": false, "rsi14": true} {
		if got := k.Defines(name); got != want {
			t.Errorf("defines %s: got %v, want %v", name, got, want)
		}
	}
	var full error
	for i := 0; full == nil && i < 1000; i++ {
		next, err := feature.Named(fmt.Sprintf("desk-%d", i), "own")
		if err != nil {
			t.Fatal(err)
		}
		_, full = k.Add(next)
	}
	if full == nil || len(k.All()) > 100 {
		t.Errorf("%d schemas were learned, without an end", len(k.All()))
	}
}
