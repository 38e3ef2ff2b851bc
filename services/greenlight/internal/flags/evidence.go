package flags

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// Evidence declares the flag of the evidence folder.
func Evidence(fs *pflag.FlagSet, folder *string) {
	fs.StringVar(folder, "evidence", evidence.DefaultDir, "folder of the evidence")
}

// headFlag is the head of an evidence chain that was written down before. An empty head is refused.
type headFlag struct{ head *string }

// Head declares the flag of the head of the evidence chain.
func Head(fs *pflag.FlagSet, head *string) {
	fs.Var(headFlag{head}, "head", "the expected head of the evidence chain, or at least its first 12 digits, as kept in another place")
}

// Set implements pflag.Value.
func (f headFlag) Set(s string) error {
	s = strings.ToLower(strings.TrimSpace(s))
	if err := evidence.CheckHead(s); err != nil {
		return err
	}
	*f.head = s
	return nil
}

// String implements pflag.Value.
func (f headFlag) String() string {
	if f.head == nil {
		return ""
	}
	return *f.head
}

// Type implements pflag.Value.
func (headFlag) Type() string { return "string" }
