package promote

import (
	"fmt"
	"regexp"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

// candidateForm is the version of a candidate: that of the release, and a number.
var candidateForm = regexp.MustCompile(`^(.+)-rc[0-9]+$`)

// ReleaseVersion returns the version of a candidate's release: as, or the version without -rcN if as is empty. It returns an
// error if the version has no -rcN, if as is the candidate's version, or if the result is not a version.
func ReleaseVersion(version, as string) (string, error) {
	if as == "" {
		m := candidateForm.FindStringSubmatch(version)
		if m == nil {
			return "", fmt.Errorf("version %q is not that of a candidate (v1.8.1-rc1): name the version of the release with --as", version)
		}
		as = m[1]
	}
	if as == version {
		return "", fmt.Errorf("version %q is that of the candidate: a release has another", as)
	}
	return as, model.CheckName("version", as)
}
