package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// profileSeconds is how long a CPU profile is taken: some thousand samples.
const profileSeconds = 20

// profiles returns the flag that enables profiling in the services, or disables it.
func (f *fleet) profiles() string { return fmt.Sprintf("--profiles=%t", f.opts.Profiles != "") }

// profile writes CPU profiles of executor and ml-engine while decisions with a shadow saturate the machine, if Profiles is set.
func (f *fleet) profile(ctx context.Context) error {
	if f.opts.Profiles == "" {
		return nil
	}
	if err := os.MkdirAll(f.opts.Profiles, 0o755); err != nil {
		return err
	}
	on := f.sides[shadowOn]
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := on.closed(ctx, manyUnderWay, span{length: (profileSeconds + 1) * time.Second})
		return err
	})
	for name, p := range map[string]*process.Process{"executor": on.process, "ml-engine": f.engine} {
		g.Go(func() error {
			raw, err := rig.Get(ctx, p, fmt.Sprintf("/debug/pprof/profile?seconds=%d", profileSeconds))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(f.opts.Profiles, name+".pprof"), raw, 0o644)
		})
	}
	return g.Wait()
}
