package retrain

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

// NextCandidate is the version of the next release candidate of a schema: one more than the highest that the registry has
// under the name, "v1.8.1-rc1" when it has none. Numbers of candidates that were taken away in between are not used again.
func NextCandidate(entries []model.Entry, name, schema string) string {
	highest := 0
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Version, schema+"-rc")
		if e.Name != name || !ok {
			continue
		}
		// Only what this function writes counts: "rc+3", "rc03" and "rc3-x" are names that someone gave.
		if n, err := strconv.Atoi(digits); err == nil && strconv.Itoa(n) == digits {
			highest = max(highest, n)
		}
	}
	return fmt.Sprintf("%s-rc%d", schema, highest+1)
}
