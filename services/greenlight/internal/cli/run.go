package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// runFlags configure the main job.
type runFlags struct {
	trainFlags

	evidence string
	work     WorkFlags
	engine   serviceFlags
	executor serviceFlags
	policy   policyFlags
	// shadowTimeout is how long a shadow may take.
	shadowTimeout time.Duration
	// rehearsal is what the canary is judged by.
	rehearsal gate.Policy
}

func runCommand(c Console) *cobra.Command {
	var r runFlags
	cmd := &cobra.Command{
		Use: "run", Short: "The main job: from market data to a scorecard, with both services running",
		Long: `Run does all of it in one go: reads (or simulates) a market, trains and judges the models, starts ml-engine and
executor as processes, smoke-tests them, replays the held-out period through the executor with the model as its shadow,
looks at the drift, rehearses a canary (observe-only, with phases of seconds), stops them, and prints the scorecard.
Evidence goes to the evidence folder; models and logs of the run to a new folder below --work.

It exits 3 when a target is missed: that is a result. It exits 1 when a stage could not run.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.rehearsal, err = r.policy.rehearsalPolicy(); err != nil { // before anything takes its time
				return err
			}
			store, err := evidence.Open(r.evidence, evidence.Options{})
			if err != nil {
				return err
			}
			card, err := r.run(cmd.Context(), c, store)
			if err = errors.Join(err, store.Close()); err != nil {
				return err
			}
			return c.Verdict(card)
		},
	}
	fs := cmd.Flags()
	r.declare(fs)
	r.policy.declare(fs)
	declareShadowTimeout(fs, &r.shadowTimeout)
	DeclareEvidence(fs, &r.evidence)
	r.work.Declare(fs, "var/run")
	fs.StringVar(&r.engine.grpc, "engine-grpc", "127.0.0.1:4010", "gRPC address for ml-engine")
	fs.StringVar(&r.engine.http, "engine-http", "127.0.0.1:4011", "HTTP address for ml-engine")
	fs.StringVar(&r.executor.grpc, "executor-grpc", "127.0.0.1:4020", "gRPC address for executor")
	fs.StringVar(&r.executor.http, "executor-http", "127.0.0.1:4021", "HTTP address for executor")
	return cmd
}

// run is the main job, stage by stage.
func (r *runFlags) run(ctx context.Context, c Console, store *evidence.Store) (gate.Scorecard, error) {
	start := time.Now()
	dir, err := r.work.Folder(start)
	if err != nil {
		return gate.Scorecard{}, err
	}
	r.models = filepath.Join(dir, "models")
	t, err := r.train(ctx, c, store)
	if err != nil {
		return gate.Scorecard{}, err
	}
	offline, err := judgeOffline(c, store, r.evidence)
	if err != nil {
		return gate.Scorecard{}, err
	}
	heldOut, err := traffic.States(t.Frame, t.Data.Symbol, t.HeldOut(), t.artifact, t.Data.Source())
	if err != nil {
		return gate.Scorecard{}, err
	}
	if len(heldOut) == 0 {
		return gate.Scorecard{}, fmt.Errorf("the held-out period of %s has no minute with all inputs", t.Data.Name)
	}
	online, err := r.online(ctx, c, store, dir, t, heldOut)
	if err != nil {
		return gate.Scorecard{}, err
	}
	card := gate.Scorecard{Results: slices.Concat(experiment.Headline(offline), online)}
	header := loadHeader("greenlight/scorecard/v1", t.Data, t.artifact)
	if err := store.WriteJSON("scorecard.json", header, card); err != nil {
		return card, err
	}
	c.Say("evidence  %s (%s)", r.evidence, header.Source)
	c.Say("run       %s, %s", dir, time.Since(start).Round(100*time.Millisecond))
	c.Say("\n%s beside %s on %s", t.candidate.Version, t.artifact.Baseline.Version, t.Data.Name)
	if t.Data.Simulated {
		c.Say("SIMULATED data: these figures say that the system works, and nothing about any market.")
	}
	if t.candidate.BaselineMatch >= gate.DefaultPolicy().SLO.MatchRate {
		c.Say("The baseline is fitted to the same label: a match rate near 100 %% proves the wiring, not the model.")
	}
	return card, nil
}

// online starts the services, puts them through their paces, and stops them.
func (r *runFlags) online(ctx context.Context, c Console, store *evidence.Store, dir string, t *trained, heldOut []traffic.State) (results []gate.Result, err error) {
	err = withPair(ctx, pairOptions{
		bin: r.work.Programs, dir: dir, models: r.models, artifact: t.artifact, engine: r.engine, executor: r.executor, shadowTimeout: r.shadowTimeout,
	}, func(engine, executor *process.Process) (err error) {
		c.Say("up        ml-engine %s (pid %d), executor %s (pid %d)", engine.Addr("grpc"), engine.PID(), executor.Addr("grpc"), executor.PID())
		if err := snapshotMetrics(ctx, c, store, engine.Addr("http"), executor.Addr("http")); err != nil {
			return err
		}
		if err := awaitShadow(ctx, executor.Addr("grpc"), heldOut); err != nil {
			return err
		}
		results, err = r.stages(ctx, c, store, dir, t, heldOut, engine.Addr("grpc"), executor.Addr("grpc"))
		return err
	})
	return results, err
}

// stages are what the pair is put through, in the order of the main job.
func (r *runFlags) stages(ctx context.Context, c Console, store *evidence.Store, dir string, t *trained, heldOut []traffic.State, engine, executor string) ([]gate.Result, error) {
	s, err := smoke(ctx, c, store, endpoint{addr: engine}, t.Data, t.artifact, Varied(heldOut, 1000), traffic.Pace{Progress: c.Progress("smoke")})
	if err != nil {
		return nil, err
	}
	if _, err := shadowLoad(ctx, c, store, "shadow", "shadow_smoke_1k.json", endpoint{addr: executor}, t.Data, t.artifact, Varied(heldOut, 1000), traffic.Pace{Progress: c.Progress("shadow smoke")}); err != nil {
		return nil, err
	}
	replay, err := shadowLoad(ctx, c, store, "replay", "shadow_replay.json", endpoint{addr: executor}, t.Data, t.artifact, heldOut, traffic.Pace{Progress: c.Progress("replay")})
	if err != nil {
		return nil, err
	}
	if err := runDrift(ctx, c, store, engine, t); err != nil {
		return nil, err
	}
	d := dryRun{
		state: canary.State(filepath.Join(dir, "canary")), policy: r.rehearsal, data: t.Data, artifact: t.artifact, states: heldOut,
		pace:   traffic.Pace{Rate: rehearsalRate},
		target: canary.Target{Executors: []string{executor}, Engines: []string{engine}, Evidence: r.evidence},
		keep:   func(write func(*evidence.Store) error) error { return write(store) },
	}
	_, rehearsed, err := d.run(ctx, c)
	return slices.Concat(s.SLO.Results, replay.SLO.Results, rehearsed), err
}

// runDrift writes down the drift of all that the stages before have sent. Drift is monitored and judges nothing here: it
// is a fact about the market of the held-out period, and no promise of the pair.
func runDrift(ctx context.Context, c Console, store *evidence.Store, addr string, t *trained) error {
	e := engineFlags{addrs: []string{addr}, window: week, timeout: driftTimeout}
	return e.dial(func(replicas []driftfleet.Replica) error {
		report, err := e.read(ctx, replicas, true)
		if err != nil {
			return err
		}
		header := loadHeader(driftfleet.Schema, t.Data, t.artifact)
		if _, err := snapshotEvidence(report, header).write(store); err != nil {
			return err
		}
		c.Say("drift     %s; monitored, not part of the scorecard", report.Line())
		if story := report.Story(); story != "" {
			c.Say("          %s", story)
		}
		return nil
	})
}

// snapshotMetrics keeps what the services export before any load.
func snapshotMetrics(ctx context.Context, c Console, store *evidence.Store, addrs ...string) error {
	var text []byte
	for _, addr := range addrs {
		body, err := get(ctx, "http://"+addr+"/metrics")
		if err != nil {
			return err
		}
		text = append(append(text, "# "+addr+"\n"...), body...)
	}
	name := "metrics_baseline_" + time.Now().UTC().Format("20060102T150405Z") + ".txt"
	if err := store.WriteFile(name, text); err != nil {
		return err
	}
	c.Say("metrics   %s", name)
	return nil
}

// transport is for the programs that the command has started.
var transport = rpc.HTTPTransport()

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// WorkFlags say where a command that starts a pair works.
type WorkFlags struct {
	// Dir is the folder in which each run gets a folder, Programs that of the services' programs.
	Dir, Programs string
}

// Declare declares the flags; dir is the default of --work.
func (w *WorkFlags) Declare(fs *pflag.FlagSet, dir string) {
	fs.StringVar(&w.Dir, "work", dir, "folder in which each run gets a folder for its models, state and logs")
	fs.StringVar(&w.Programs, "bin", "", "folder of the programs ml-engine and executor; that of this program when it is not given")
}

// Folder finds the programs, and makes the folder of this run.
func (w *WorkFlags) Folder(now time.Time) (_ string, err error) {
	if w.Programs, err = Programs(w.Programs); err != nil {
		return "", err
	}
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		return "", err
	}
	dir := filepath.Join(w.Dir, now.UTC().Format("20060102T150405.000Z"))
	return dir, os.Mkdir(dir, 0o755)
}
