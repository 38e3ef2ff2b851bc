package flags

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Rehearsal has the flags for the requests, the policy and the programs of a rehearsed canary.
type Rehearsal struct {
	Load
	Policy

	// Bin is the folder of the programs; empty means the folder of this program.
	Bin           string
	shadowTimeout time.Duration
}

// Declare declares the flags.
func (r *Rehearsal) Declare(fs *pflag.FlagSet) {
	r.Load.Declare(fs)
	r.Policy.Declare(fs)
	ShadowTimeout(fs, &r.shadowTimeout)
	fs.StringVar(&r.Bin, "bin", "", "folder of the programs ml-engine and executor, for --dry-run; by default the folder of greenlight")
}

// Prepared is what the flags of a rehearsal name.
type Prepared struct {
	Trial  *rehearsal.Trial
	States []traffic.State
	// Setup lacks the folder and the addresses.
	rehearsal.Setup
}

// Prepare reads what the flags name.
func (r *Rehearsal) Prepare(c console.Console) (*Prepared, error) {
	policy, err := r.ReadShort()
	if err != nil {
		return nil, err
	}
	bin, err := Programs(r.Bin)
	if err != nil {
		return nil, err
	}
	t, states, err := r.States(c, Released)
	if err != nil {
		return nil, err
	}
	return &Prepared{t, states, rehearsal.Setup{
		Services: process.Services{Programs: bin, Models: r.Models, Artifact: t.Artifact}, ShadowTimeout: r.shadowTimeout, Policy: policy,
	}}, nil
}
