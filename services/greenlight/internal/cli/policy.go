package cli

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// maxPolicy bounds the file of a policy.
const maxPolicy = 1 << 20

// readPolicy is the policy of the file, or the built-in one without a name.
func readPolicy(path string) (gate.Policy, error) {
	if path == "" {
		return gate.DefaultPolicy(), nil
	}
	raw, err := durable.ReadFile(path, maxPolicy)
	if err != nil {
		return gate.Policy{}, usageError{fmt.Errorf("--policy: %w", err)}
	}
	policy, err := gate.ParsePolicy(raw)
	if err != nil {
		return gate.Policy{}, usageError{fmt.Errorf("--policy %s: %w", path, err)}
	}
	return policy, nil
}
