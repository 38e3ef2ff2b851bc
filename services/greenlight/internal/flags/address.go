package flags

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// target is the flag of a service's gRPC address. An address that cannot be dialled is wrong usage.
type target string

// String implements pflag.Value.
func (t *target) String() string { return string(*t) }

// Type implements pflag.Value.
func (*target) Type() string { return "string" }

// Set implements pflag.Value.
func (t *target) Set(s string) error {
	*t = target(s)
	return rpc.CheckTarget(s)
}

// TargetVar declares the flag of the gRPC address of a service.
func TargetVar(fs *pflag.FlagSet, p *string, name, value, usage string) {
	*p = value
	fs.Var((*target)(p), name, usage)
}

// targets is the flag of several addresses: by commas, or given more than once.
type targets struct {
	of  *[]string
	set bool // the defaults are gone
}

// String implements pflag.Value.
func (t *targets) String() string {
	if t.of == nil {
		return "[]"
	}
	return "[" + strings.Join(*t.of, ",") + "]"
}

// Type implements pflag.Value.
func (*targets) Type() string { return "strings" }

// Set implements pflag.Value.
func (t *targets) Set(s string) error {
	if !t.set {
		*t.of, t.set = nil, true
	}
	for addr := range strings.SplitSeq(s, ",") {
		addr = strings.TrimSpace(addr)
		if err := rpc.CheckTarget(addr); err != nil {
			return err
		}
		*t.of = append(*t.of, addr)
	}
	return nil
}

// TargetsVar declares the flag of several addresses.
func TargetsVar(fs *pflag.FlagSet, p *[]string, name string, value []string, usage string) {
	*p = value
	fs.Var(&targets{of: p}, name, usage)
}
