package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// measurement holds the flags of a command that starts services.
type measurement struct {
	work flags.Work
	json string
}

// declare declares the flags; dir is the default of --work.
func (m *measurement) declare(fs *pflag.FlagSet, dir string) {
	fs.StringVar(&m.json, "json", "", "JSON file to write the result to")
	m.work.Declare(fs, dir)
}

// prepared is the folder of a run with its models. Services uses the first of them.
type prepared struct {
	process.Services

	dir    string
	models []*model.Artifact
	study  *experiment.Study
}

// prepare creates the folder of a run, trains models of the schemas on a short simulated market, and registers them.
func (m *measurement) prepare(ctx context.Context, schemas ...string) (p prepared, err error) {
	if p.dir, err = m.work.Folder(time.Now()); err != nil {
		return p, err
	}
	data, err := experiment.Simulate(market.SimulateOptions{Seed: flags.DefaultSeed, Days: 42})
	if err != nil {
		return p, err
	}
	versions := experiment.DefaultVersions()
	maps.DeleteFunc(versions, func(schema, _ string) bool { return !slices.Contains(schemas, schema) })
	if p.study, err = experiment.Run(ctx, data, experiment.Options{Versions: versions}); err != nil {
		return p, err
	}
	p.Programs, p.Models = m.work.Programs, filepath.Join(p.dir, "models")
	for _, schema := range schemas {
		candidate, err := p.study.Candidate(versions[schema])
		if err != nil {
			return p, err
		}
		a, err := p.study.Artifact(candidate, console.Revision())
		if err == nil {
			err = model.OpenRegistry(p.Models).Add(a)
		}
		if err != nil {
			return p, err
		}
		p.models = append(p.models, a)
	}
	p.Artifact = p.models[0]
	return p, nil
}

// inputs prepares a model whose schema has the inputs of the baseline, so that one vector serves both services, and the states
// to send. Their values do not affect the cost of a score.
func (m *measurement) inputs(ctx context.Context) (p prepared, states []traffic.State, err error) {
	if p, err = m.prepare(ctx, feature.DefaultSchema); err != nil {
		return p, nil, err
	}
	data := p.study.Data
	states, err = traffic.States(p.study.Frame, data.Symbol, p.study.HeldOut(), p.Artifact, data.Source())
	return p, traffic.Varied(states, 4096), err
}

// desk returns what a canary needs: dir is its folder, rate the default load.
func desk(c console.Console, r *flags.Rehearsal, dir string, rate float64) (operator.Desk, error) {
	p, err := r.Prepare(c)
	if err != nil {
		return operator.Desk{}, err
	}
	return operator.Desk{
		Rig: &rig.Rig{Services: p.Services, Dir: dir}, Greenlight: filepath.Join(p.Services.Programs, "greenlight"), Evidence: r.Evidence,
		States: p.States, Rate: cmp.Or(r.Rate, rate), Source: p.Trial.Data.Source(), ShadowTimeout: p.ShadowTimeout, Policy: p.Policy,
	}, nil
}

// result is the result of a command.
type result interface{ Table(out io.Writer) error }

// report prints a result, and writes it to the file path as JSON unless that is empty.
func report(c console.Console, path string, r result) error {
	err := r.Table(c.Out)
	if err == nil {
		err = writeJSON(path, r)
	}
	if err == nil && path != "" {
		c.Say("written to %s", path)
	}
	return err
}

// writeJSON writes the file path atomically, unless path is empty.
func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return durable.WriteFile(path, append(raw, '\n'), 0o644)
}

// newFolder creates a folder for this run in dir.
func newFolder(dir string) (string, error) {
	path := filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000Z"))
	return path, os.MkdirAll(path, 0o755)
}
