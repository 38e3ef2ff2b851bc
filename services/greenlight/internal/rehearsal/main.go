package rehearsal

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Main is the part of greenlight run after the training. All fields are required.
type Main struct {
	Trial

	Study     *experiment.Study
	Candidate *experiment.Candidate
	// Offline is the verdict of the offline gate.
	Offline gate.Scorecard
	Setup   Setup
	// Folder is the evidence folder.
	Folder string
}

// Run runs the stages with both services, prints the result of each, and writes the scorecard and who was right.
func (m *Main) Run(ctx context.Context, c console.Console, store *evidence.Store) (card gate.Scorecard, compared *quality.Compared, err error) {
	heldOut, err := traffic.States(m.Study.Frame, m.Data.Symbol, m.Study.HeldOut(), m.Artifact, m.Data.Source())
	if err != nil {
		return card, nil, err
	}
	if len(heldOut) == 0 {
		return card, nil, fmt.Errorf("the held-out period of %s has no minute with all inputs", m.Data.Name)
	}
	var online []gate.Result
	if err := WithPair(ctx, m.Setup, func(pair *Pair) (err error) {
		online, err = m.stages(ctx, c, store, pair, heldOut)
		return err
	}); err != nil {
		return card, nil, err
	}
	card = gate.Scorecard{Results: slices.Concat(experiment.Headline(m.Offline), online)}
	if err := store.WriteJSON("scorecard.json", m.header(experiment.ScorecardSchema), card); err != nil {
		return card, nil, err
	}
	if compared, err = quality.Compare(m.Study, m.Candidate); err == nil {
		err = compared.Write(store, m.Git)
	}
	return card, compared, err
}

// stages runs the stages that need the services. Drift is monitored but not judged, because it is a fact about the market.
func (m *Main) stages(ctx context.Context, c console.Console, store *evidence.Store, pair *Pair, heldOut []traffic.State) ([]gate.Result, error) {
	engine, executor := pair.EngineProcess, pair.ExecutorProcess
	c.Say("up        ml-engine %s (pid %d), executor %s (pid %d)", engine.Addr("grpc"), engine.PID(), executor.Addr("grpc"), executor.PID())
	metrics, err := writeMetrics(ctx, store, engine.Addr("http"), executor.Addr("http"))
	if err != nil {
		return nil, err
	}
	c.Say("metrics   %s", metrics)
	if err := pair.Warm(ctx, heldOut[0]); err != nil {
		return nil, err
	}
	pace := func(stage string) traffic.Pace { return traffic.Pace{Progress: c.Progress(stage)} }
	varied := traffic.Varied(heldOut, 1000)
	s, err := m.Smoke(ctx, store, pair.Services.Engines[0].Scoring, varied, pace("smoke"))
	if err != nil {
		return nil, err
	}
	c.Say("smoke     %s", s)
	shadow, err := m.Shadow(ctx, store, ShadowFile, pair.Executor, varied, pace("shadow smoke"))
	if err != nil {
		return nil, err
	}
	c.Say("shadow    %s", shadow)
	replay, err := m.Shadow(ctx, store, ReplayFile, pair.Executor, heldOut, pace("replay"))
	if err != nil {
		return nil, err
	}
	c.Say("replay    %s", replay)
	drift, err := m.drift(ctx, store, pair.Services.Engines[0])
	if err != nil {
		return nil, err
	}
	c.Say("drift     %s; monitored, not part of the scorecard", drift.Line())
	if story := drift.Story(); story != "" {
		c.Say("          %s", story)
	}
	rehearsed, err := (&Canary{
		Trial: m.Trial, Pair: pair, State: canary.State(filepath.Join(m.Setup.Dir, "canary")), Folder: m.Folder, Policy: m.Setup.Policy,
		States: heldOut, Pace: traffic.Pace{Rate: Rate},
		Keep: func(write func(*evidence.Store) error) error { return write(store) },
	}).Rehearse(ctx, c)
	if err != nil {
		return nil, err
	}
	return slices.Concat(s.SLO.Results, replay.SLO.Results, rehearsed.Checks), nil
}
