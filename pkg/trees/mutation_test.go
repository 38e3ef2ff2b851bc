package trees

import (
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Real models with one or two numbers replaced: each is refused, or scores every vector with a probability. A fuzzer
// rarely gets past the syntax; this test does.
func TestMutations(t *testing.T) {
	number := regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?`)
	values := []string{
		"0", "1", "-1", "2", "-2", "3", "7", "14", "15", "31", "99", "2147483647", "-2147483648", "4294967295",
		"1e300", "-1e300", "1e-40", "nan", "NaN", "inf", "null", "", "0.5", "x", "[]", "{}", "\"a\"", "1 2", "1,2",
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, path := range models(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text := readText(t, path)
			at := number.FindAllStringIndex(text, -1)
			features := len(readModel(t, path).names)
			read := 0
			for range 150 {
				changed := text
				for range 1 + r.IntN(2) {
					span := at[r.IntN(len(at))]
					if span[1] <= len(changed) {
						changed = changed[:span[0]] + values[r.IntN(len(values))] + changed[span[1]:]
					}
				}
				e, err := Import("m", strings.NewReader(changed))
				if err != nil {
					continue
				}
				read++
				for _, x := range gaussian(3, features) {
					if s := e.Score(x); !(s >= 0 && s <= 1) {
						t.Fatalf("score %v", s)
					}
				}
			}
			if read == 0 || read == 150 {
				t.Errorf("%d of 150 changed models were read: the test proves nothing", read)
			}
		})
	}
}
