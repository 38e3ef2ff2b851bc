package trees

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// quoteNaN turns XGBoost's JSON into valid JSON: it contains bare NaN and Infinity, with NaN in every categorical
// split. They become strings of the same length, which floats reads, so that offsets in errors stay correct. Existing
// strings do not change.
func quoteNaN(raw []byte) []byte {
	out := raw
	replace := func(at int, with string) {
		if &out[0] == &raw[0] {
			out = bytes.Clone(raw)
		}
		copy(out[at:], with)
	}
	inString := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == 'N' && bytes.HasPrefix(raw[i:], []byte("NaN")):
			replace(i, `"N"`)
			i += 2
		case c == 'I' && bytes.HasPrefix(raw[i:], []byte("Infinity")):
			if i > 0 && raw[i-1] == '-' {
				replace(i-1, `"-Infini"`)
			} else {
				replace(i, `"Infini"`)
			}
			i += 7
		}
	}
	return out
}

// floats are float32 numbers, including those from quoteNaN.
type floats []float32

// UnmarshalJSON reads an array of numbers, each rounded once from its decimal digits to a float32.
func (f *floats) UnmarshalJSON(raw []byte) error {
	inner, ok := bytes.CutPrefix(bytes.TrimSpace(raw), []byte("["))
	inner, ok2 := bytes.CutSuffix(inner, []byte("]"))
	if !ok || !ok2 {
		return fmt.Errorf("%.40q: want an array of numbers", raw)
	}
	if len(bytes.TrimSpace(inner)) == 0 {
		return nil
	}
	*f = make(floats, 0, bytes.Count(inner, []byte(","))+1)
	for word := range bytes.SplitSeq(inner, []byte(",")) {
		var v float64
		var err error
		switch text := string(bytes.TrimSpace(word)); text {
		case `"N"`:
			v = math.NaN()
		case `"Infini"`:
			v = math.Inf(1)
		case `"-Infini"`:
			v = math.Inf(-1)
		default:
			if v, err = strconv.ParseFloat(text, 32); err != nil {
				return fmt.Errorf("number %d is %.40q", len(*f), text)
			}
		}
		*f = append(*f, float32(v))
	}
	return nil
}

// flags are 0 and 1, or false and true as written by the first versions.
type flags []bool

// UnmarshalJSON reads either form.
func (f *flags) UnmarshalJSON(raw []byte) error {
	if bytes.ContainsAny(raw, "tf") {
		return json.Unmarshal(raw, (*[]bool)(f))
	}
	var bits []int
	if err := json.Unmarshal(raw, &bits); err != nil {
		return err
	}
	for i, b := range bits {
		if b != 0 && b != 1 {
			return fmt.Errorf("default_left %d is %d: want 0 or 1", i, b)
		}
		*f = append(*f, b == 1)
	}
	return nil
}
