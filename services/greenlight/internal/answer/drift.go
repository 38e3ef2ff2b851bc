package answer

import (
	"errors"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Drift returns an error if an ml-engine's answer about so many hours contradicts itself. The counts of its bins are
// compared with each other where they are added up.
func Drift(a *mlenginev1.GetDriftResponse, hours int) error {
	if a == nil {
		return errors.New("the answer is empty")
	}
	var c contradictions
	if id := a.GetInstanceId(); id != "" { // an ml-engine before 1.9 has none
		c.instance(id)
	}
	c.model("model", a.GetModelVersion(), a.GetModelDigest(), false)
	c.add(Digest(a.GetReferenceDigest()), "reference_digest is %s: want 64 lower-case hexadecimal digits", shown(a.GetReferenceDigest()))
	end := a.GetWindowEndTime()
	if !end.IsValid() || end.GetSeconds() <= 0 || end.GetSeconds()%3600 != 0 {
		c.add(false, "window_end_time is not a whole hour")
		return c.err()
	}
	last := end.GetSeconds()/3600 - 1
	for _, f := range a.GetFeatures() {
		for _, h := range f.GetHours() {
			if h > last || h <= last-int64(hours) {
				c.add(false, "feature %s has counts of an hour outside of the window", shown(f.GetFeature()))
				break
			}
		}
		if f.GetBins() == nil {
			continue
		}
		var rows uint64
		for _, b := range f.GetBins() {
			rows += min(b.GetCount(), maxCount)
		}
		c.add(rows == f.GetRows(), "feature %s has %d rows, and its bins have %d", shown(f.GetFeature()), f.GetRows(), rows)
		c.add(f.GetRows() <= a.GetRows(), "feature %s has %d rows of %d", shown(f.GetFeature()), f.GetRows(), a.GetRows())
	}
	return c.err()
}
