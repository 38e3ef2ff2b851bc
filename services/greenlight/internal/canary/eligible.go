package canary

import "github.com/greenlight-ml/greenlight/pkg/evidence"

// Eligible judges anew whether a run whose requests come from the source counts for a promotion, and says why it does not.
func (r Record) Eligible(source evidence.Source) (eligible bool, reason string) {
	r.judge(source)
	return r.PromoteEligible, r.PromoteReason
}
