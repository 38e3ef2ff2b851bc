package answer

import (
	"errors"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Model returns an error unless the answer names a model: a version and a digest.
func Model(info *mlenginev1.GetModelInfoResponse) error {
	if info == nil {
		return errors.New("the answer is empty")
	}
	var c contradictions
	c.model("model", info.GetVersion(), info.GetDigest(), false)
	return c.err()
}
