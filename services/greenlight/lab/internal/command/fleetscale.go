package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/fleetscale"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
)

// maxScaleExecutors bounds a group: the operator's side accepts no more.
const maxScaleExecutors = 10_000

func fleetScaleCommand(c console.Console) *cobra.Command {
	o := fleetscale.Options{Lease: time.Duration(gate.DefaultPolicy().Lease)}
	var dir, out string
	cmd := &cobra.Command{
		Use: "scale", Short: "Measure what groups of 10, 100 and 1,000 executors cost",
		Long: `Scale runs three NATS servers in this process, all members of a group in a second one and its controller in a third one, on
this machine: members report every 2 s and read the record six times a lease; the controller renews, admits and reads all
reports. It measures messages and bytes of clients, CPU time and memory, and how long all executors take to reach a
share, 0 % after an abort, and 0 % after the controller was killed.

Above 1,000 executors, some share a connection. The size of --extrapolate is computed from the line through the last two
measured ones, and marked as such. Measure on a quiet machine.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if len(o.Sizes) == 0 || !slices.IsSorted(o.Sizes) || o.Sizes[0] < 1 || o.Sizes[len(o.Sizes)-1] > maxScaleExecutors {
				return console.Usagef("--sizes %v: want ascending numbers from 1 to %d", o.Sizes, maxScaleExecutors)
			}
			if o.Self, err = os.Executable(); err != nil {
				return err
			}
			if o.Dir, err = newFolder(dir); err != nil {
				return err
			}
			o.KeyFile, o.Progress = filepath.Join(o.Dir, operatorKey), c.Progress("groups")
			if o.Key, err = operator.NewKey(o.KeyFile); err != nil {
				return err
			}
			res, err := fleetscale.Measure(cmd.Context(), o)
			if err != nil {
				return err
			}
			res.Git = console.Revision()
			return report(c, out, res)
		},
	}
	fs := cmd.Flags()
	fs.IntSliceVar(&o.Sizes, "sizes", []int{10, 100, 1000}, "sizes of the groups to measure, in executors")
	fs.IntVar(&o.Extrapolate, "extrapolate", 10_000, "size of a group to extrapolate to; 0 for none")
	fs.DurationVar(&o.Lease, "lease", o.Lease, "lease of the records")
	fs.StringVar(&out, "json", "", "JSON file to write the result to")
	fs.StringVar(&dir, "work", "var/fleet", "parent of the folders that the runs create for their stores and logs")
	return cmd
}

// fleetPart is a process of a group that another command measures.
func fleetPart(use, short string, run func(*fleetscale.Part, context.Context) error) *cobra.Command {
	p := &fleetscale.Part{}
	var key, address string
	cmd := &cobra.Command{
		Use: use, Short: short, Hidden: true, Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if p.Key, err = dsse.ReadSigner(key); err != nil {
				return err
			}
			if err := durable.WriteFile(address, fmt.Appendln(nil, "pid=", os.Getpid()), 0o600); err != nil {
				return err
			}
			return run(p, cmd.Context())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&address, "address-file", "", "file to write once it is running")
	fs.StringVar(&p.URL, "fleet", "", "NATS servers")
	fs.StringVar(&key, "fleet-key", "", "file with the operator's key")
	fs.DurationVar(&p.Lease, "lease", 0, "lease of the records")
	fs.IntVar(&p.Executors, "executors", 0, "members")
	fs.StringVar(&p.Samples, "samples", "", "file to write the number of executors at a share to")
	return cmd
}
