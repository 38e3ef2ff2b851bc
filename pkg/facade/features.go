package facade

import (
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// camelCase maps the older spelling of feature names to the current one: spreadBp to spread_bp, midLogret1m to
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

// CanonicalNames rewrites camelCase keys from older callers to the feature names. A feature in both spellings is left alone,
// so that the handler refuses the unknown name, and neither value wins silently.
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
