package feature_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// The names, units and order of a schema are a contract with every model trained on it. If a hash changes, released
// models can no longer be scored.
func TestSchemas(t *testing.T) {
	tests := []struct {
		name  string
		names []string
		hash  string
	}{
		{"v1.8", []string{"bias", "mid", "spread_bp", "vol1m", "rsi14", "mid_logret_1m"}, "3baad7ce2ab9700e78fddf979a0b23e3f2f0255b0972ce1d3920a7702c742a85"},
		{"v1.8.1", []string{"bias", "mid_logret_1m_rel", "mid_logret_5m_rel", "spread_bp_rel", "vol1m_log_rel", "rsi14_z", "zscore_mid_24h"}, "39a1ed584d4a9b29240a2863848784fbd3f72c4b25450eb2a08efd1a82183e72"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, ok := feature.Lookup(tt.name)
			if !ok {
				t.Fatal("no such schema")
			}
			if got := s.Names(); !reflect.DeepEqual(got, tt.names) || s.Len() != len(tt.names) {
				t.Errorf("got %v, want %v", got, tt.names)
			}
			if got := s.Hash(); got != tt.hash {
				t.Errorf("hash: got %s, want %s", got, tt.hash)
			}
			for i, name := range tt.names {
				if got := s.Index(name); got != i {
					t.Errorf("index of %s: got %d, want %d", name, got, i)
				}
			}
			if got := s.Index("nonsense"); got != -1 {
				t.Errorf("index of nonsense: got %d, want -1", got)
			}
		})
	}
	if got := len(feature.Schemas()); got != len(tests) {
		t.Errorf("%d schemas, %d of them tested", got, len(tests))
	}
	if _, ok := feature.Lookup("v0"); ok {
		t.Error("there is a v0")
	}
}

func TestNewSchema(t *testing.T) {
	a, err := feature.NewSchema("a", "mid", "bias")
	if err != nil {
		t.Fatal(err)
	}
	b, err := feature.NewSchema("b", "bias", "mid")
	if err != nil {
		t.Fatal(err)
	}
	c, err := feature.NewSchema("c", "mid", "bias")
	if err != nil {
		t.Fatal(err)
	}
	if a.Hash() == b.Hash() {
		t.Error("the order of the features must be part of the hash")
	}
	if a.Hash() != c.Hash() {
		t.Error("the name of the schema must not be part of the hash")
	}
	tests := []struct {
		name     string
		features []string
		mention  string
	}{
		{"none", nil, "no features"},
		{"unknown", []string{"mid", "spreadBp"}, `unknown feature "spreadBp"`},
		{"twice", []string{"mid", "mid"}, `"mid" is listed twice`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := feature.NewSchema("x", tt.features...); err == nil || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want an error that mentions %q", err, tt.mention)
			}
		})
	}
}

func TestBaselineInputsAreOfV181(t *testing.T) {
	s, _ := feature.Lookup("v1.8.1")
	if len(feature.BaselineInputs()) != 4 {
		t.Errorf("got %d inputs, want 4", len(feature.BaselineInputs()))
	}
	for _, name := range feature.BaselineInputs() {
		if s.Index(name) < 0 {
			t.Errorf("%s is not a feature of v1.8.1", name)
		}
	}
}

func TestCatalogue(t *testing.T) {
	defs := feature.Catalogue()
	if len(defs) == 0 {
		t.Fatal("empty")
	}
	for _, d := range defs {
		if d.Name == "" || d.Unit == "" || d.Description == "" {
			t.Errorf("%+v is not complete", d)
		}
		if got, ok := feature.Find(d.Name); !ok || got != d {
			t.Errorf("find %s: got %+v", d.Name, got)
		}
	}
	if _, ok := feature.Find("nonsense"); ok {
		t.Error("found nonsense")
	}
}
