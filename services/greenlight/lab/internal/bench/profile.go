package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
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
		g.Go(func() error { return fetchProfile(ctx, p, filepath.Join(f.opts.Profiles, name+".pprof")) })
	}
	return g.Wait()
}

func fetchProfile(ctx context.Context, p *process.Process, path string) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.Addr("http"), profileSeconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: rpc.HTTPTransport()}).Do(req)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, raw)
	}
	if err != nil {
		return fmt.Errorf("profile of %s: %w", url, err)
	}
	return os.WriteFile(path, raw, 0o644)
}
