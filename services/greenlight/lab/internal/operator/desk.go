package operator

import (
	"os"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Desk holds what a canary on this machine needs. All fields are required.
type Desk struct {
	// Rig holds the programs, the model, and the folder for stores, states and logs.
	*rig.Rig

	// Greenlight is the program.
	Greenlight string
	// Evidence is the folder with the offline evidence of the model.
	Evidence string
	// States are sent at Rate per second. Source is their origin.
	States []traffic.State
	Rate   float64
	Source evidence.Source
	// ShadowTimeout is how long a shadow may take.
	ShadowTimeout time.Duration
	// Policy is the policy of the canary.
	Policy gate.Policy
}

// Run starts a greenlight command. Its output goes to a log of the given name in the folder.
func (d *Desk) Run(name string, args ...string) (*Command, error) {
	return d.Spawn(d.Greenlight, name, args...)
}

// Spawn starts a program. Its output goes to a log of the given name in the folder.
func (d *Desk) Spawn(program, name string, args ...string) (*Command, error) {
	c, err := Run(program, filepath.Join(d.Dir, name+".log"), args...)
	if err == nil {
		d.OnClose(c.Kill)
	}
	return c, err
}

// PolicyFile is the file that WritePolicy writes.
func (d *Desk) PolicyFile() string { return filepath.Join(d.Dir, "policy.yaml") }

// WritePolicy writes the policy.
func (d *Desk) WritePolicy() error {
	raw, err := d.Policy.YAML()
	if err != nil {
		return err
	}
	return os.WriteFile(d.PolicyFile(), raw, 0o600)
}

// State is the state folder of the canary.
func (d *Desk) State() canary.State { return canary.State(filepath.Join(d.Dir, "canary")) }

// Record returns the run from its journal, whichever process runs it; nil if there is no journal yet.
func (d *Desk) Record() *canary.Record {
	_, r, err := d.State().Read("")
	if err != nil {
		return nil
	}
	return r
}
