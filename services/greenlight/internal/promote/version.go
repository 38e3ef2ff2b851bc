package promote

import (
	"fmt"
	"regexp"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

// candidateForm is a version under trial: that of the release, and a number.
var candidateForm = regexp.MustCompile(`^(.+)-rc[0-9]+$`)

// ReleaseVersion is what the candidate is released as: as, if that is given, otherwise the version without -rcN. It fails
// when there is nothing to drop, nothing would change, or it is no version.
func ReleaseVersion(version, as string) (string, error) {
	if as == "" {
		m := candidateForm.FindStringSubmatch(version)
		if m == nil {
			return "", fmt.Errorf("version %q is not that of a candidate (v1.8.1-rc1): say what it is released as", version)
		}
		as = m[1]
	}
	if as == version {
		return "", fmt.Errorf("version %q is that of the candidate: a release has another", as)
	}
	return as, model.CheckName("version", as)
}
