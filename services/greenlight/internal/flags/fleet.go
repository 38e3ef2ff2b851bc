package flags

import (
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// Fleet has the flags that name a group of executors.
type Fleet struct {
	fleetgroup.Address

	changed func(name string) bool
}

// Declare declares the flags.
func (f *Fleet) Declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.URL, "fleet", "", "NATS servers of a group of executors, instead of --executor: nats://HOST:PORT or tls://HOST:PORT, separated by commas")
	fs.StringVar(&f.Group, "fleet-group", "", "name of the group")
	fs.StringVar(&f.Creds, "fleet-creds", "", "file with the operator's credentials for the NATS servers")
	fs.StringVar(&f.CA, "fleet-ca", "", "file with the CA certificates to trust for the NATS servers; by default those of the system")
	f.changed = fs.Changed
}

// Given reports whether there is a group.
func (f *Fleet) Given() bool { return f.URL != "" }

// Check returns an error if the flags contradict each other.
func (f *Fleet) Check() error {
	switch {
	case f.changed == nil:
	case f.URL == "" && f.Group+f.Creds+f.CA != "":
		return console.Usagef("--fleet-group, --fleet-creds and --fleet-ca need --fleet")
	case f.URL != "" && f.changed("executor"):
		return console.Usagef("give either --executor or --fleet")
	case f.URL != "":
		if err := group.CheckName(f.Group); err != nil {
			return console.Usagef("--fleet-group %w", err)
		}
	}
	return nil
}

// Require returns an error unless there is a group.
func (f *Fleet) Require() error {
	if !f.Given() {
		return console.Usagef("give --fleet and --fleet-group")
	}
	return f.Check()
}
