package pair

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// token is the operators' token in a file. It is read at every call, so that a new one needs no restart of a command that
// runs for long.
type token struct{ file string }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	raw, err := os.ReadFile(t.file)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	secret := strings.TrimSpace(string(raw))
	if secret == "" {
		return nil, fmt.Errorf("token: %s is empty", t.file)
	}
	return map[string]string{"authorization": "Bearer " + secret}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: the services listen on loopback.
func (t token) RequireTransportSecurity() bool { return false }
