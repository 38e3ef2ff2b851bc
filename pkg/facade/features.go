package facade

import (
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// camelCase holds the older spelling of every feature name that has one: spreadBp of spread_bp, midLogret1m of
// mid_logret_1m.
var camelCase = func() map[string]string {
	m := map[string]string{}
	for _, def := range feature.Catalogue() {
		words := strings.Split(def.Name, "_")
		for i, w := range words[1:] {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
		if camel := strings.Join(words, ""); camel != def.Name {
			m[camel] = def.Name
		}
	}
	return m
}()

// CanonicalNames rewrites the camelCase keys that older callers send to the names of the features. A feature that is
// there in both spellings is left alone, so that the handler refuses the unknown one by name rather than one of two
// values silently winning.
func CanonicalNames(features map[string]float64) {
	for key, v := range features {
		name, older := camelCase[key]
		if !older {
			continue
		}
		if _, both := features[name]; both {
			continue
		}
		delete(features, key)
		features[name] = v
	}
}
