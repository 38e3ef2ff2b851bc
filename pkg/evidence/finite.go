package evidence

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// maxDepth limits the search in values that contain themselves.
const maxDepth = 32

// notFinite finds the first NaN or infinity in v and returns its path as in the file: "slo.results[2].value".
// encoding/json reports only that there is one.
func notFinite(v any) (key string, number float64, found bool) {
	return searchNumbers(reflect.ValueOf(v), "", 0)
}

func searchNumbers(v reflect.Value, at string, depth int) (string, float64, bool) {
	if depth > maxDepth {
		return "", 0, false
	}
	depth++
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		f := v.Float()
		return at, f, math.IsNaN(f) || math.IsInf(f, 0)
	case reflect.Pointer, reflect.Interface:
		return searchNumbers(v.Elem(), at, depth)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if key, f, found := searchNumbers(v.Index(i), fmt.Sprintf("%s[%d]", at, i), depth); found {
				return key, f, true
			}
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		for _, k := range keys {
			if key, f, found := searchNumbers(v.MapIndex(k), join(at, fmt.Sprint(k)), depth); found {
				return key, f, true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, ok := jsonName(v.Type().Field(i))
			if !ok {
				continue
			}
			if key, f, found := searchNumbers(v.Field(i), join(at, name), depth); found {
				return key, f, true
			}
		}
	default: // contains no numbers that JSON cannot hold
	}
	return "", 0, false
}

// jsonName returns the key of a field; "" for an embedded struct, whose keys are in the surrounding object.
func jsonName(f reflect.StructField) (name string, ok bool) {
	tag := f.Tag.Get("json")
	if tag == "-" || !f.IsExported() && !f.Anonymous {
		return "", false
	}
	name, _, _ = strings.Cut(tag, ",")
	if name == "" && !f.Anonymous {
		name = f.Name
	}
	return name, true
}

func join(at, name string) string {
	if at == "" || name == "" {
		return at + name
	}
	return at + "." + name
}
