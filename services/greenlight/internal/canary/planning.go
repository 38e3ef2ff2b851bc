package canary

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// NewPlan returns a plan for the inspected services.
func NewPlan(in *preflight.Inspection, t Target, policy gate.Policy, interval time.Duration, source evidence.Source) (*Plan, error) {
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	model, baseline, err := in.Agreed()
	if err != nil {
		return nil, err
	}
	if in.OfflineErr != nil {
		return nil, in.OfflineErr
	}
	if in.Offline.Model.Digest != model.Digest {
		return nil, fmt.Errorf("%w: the offline evidence is for %s, but %s is served", errNotActive, in.Offline.Model, model)
	}
	if err := compares(in, policy); err != nil {
		return nil, err
	}
	p := &Plan{
		Schema: planSchema, CreateTime: time.Now().UTC().Truncate(time.Millisecond), Target: t, Source: source,
		Interval: gate.Duration(interval), Policy: policy, Model: model, Baseline: baseline, PSI: in.PSI, PSIVerdict: in.PSIVerdict, Inputs: in.Offline.Inputs,
	}
	if in.PSIErr != nil {
		p.PSIReason = fleet.OneLine(in.PSIErr)
	}
	return p, nil
}

// Check returns an error if the services are not as planned. Each kind of difference has its own error and hint.
func (p *Plan) Check(in *preflight.Inspection) error {
	if err := in.Err(); err != nil {
		return err
	}
	if f := p.Fleet; f != nil && len(in.Executors) < fleetgroup.Needed(f.MinFleet, len(p.Executors)) {
		return fmt.Errorf("%w: %d executors of group %s can be judged, and %d were planned: want at least %d", errFleetAway, len(in.Executors), f.Group, len(p.Executors),
			fleetgroup.Needed(f.MinFleet, len(p.Executors)))
	}
	for _, m := range in.Models() {
		if m != p.Model {
			return fmt.Errorf("%w: %s, not %s", errModelChanged, m, p.Model)
		}
	}
	for _, b := range in.Baselines() {
		if b != p.Baseline {
			return fmt.Errorf("%w: %s, not %s", errBaselineChanged, b, p.Baseline)
		}
	}
	return compares(in, p.Policy)
}

// compares returns an error if an executor does not compare as the policy requires.
func compares(in *preflight.Inspection, policy gate.Policy) error {
	for _, e := range in.Executors {
		if err := policy.Compares(fleet.Tolerance(e.Report), e.Report.GetDecisionThreshold()); err != nil {
			return fmt.Errorf("%w: executor %s: %s", errComparison, e.Addr, fleet.OneLine(err))
		}
	}
	return nil
}

// Free returns an error if an executor's rollout is held by anything but the run. An empty run is a new run.
func Free(in *preflight.Inspection, run string) error {
	var held []string
	for _, e := range in.Executors {
		if h := e.Rollout.GetRollout().GetHolder(); h != "" && h != run {
			held = append(held, fmt.Sprintf("executor %s: %s", e.Addr, fleet.DescribeRollout(e.Rollout.GetRollout())))
		}
	}
	if len(held) > 0 {
		return fmt.Errorf("%w: %s", ErrHeld, strings.Join(held, "; "))
	}
	return nil
}

// CheckAll does the same as [Plan.Check], and also compares the evidence, the drift and the phrase with the confirmed ones.
func (p *Plan) CheckAll(in *preflight.Inspection, phrase, nonce string) error {
	if err := p.Check(in); err != nil {
		return err
	}
	if in.OfflineErr != nil {
		return in.OfflineErr
	}
	if !slices.Equal(in.Offline.Inputs, p.Inputs) {
		return fmt.Errorf("%w: %s has changed", errEvidenceChanged, p.Evidence)
	}
	if p.drifted(in) {
		return fmt.Errorf("%w: PSI is now %s, not %s: its verdict must not change, and the index may move by at most %g or a tenth of it", ErrPSIChanged,
			found(in.PSI, in.PSIVerdict), found(p.PSI, p.PSIVerdict), psiRoom)
	}
	if !confirmation.Equal(phrase, p.Phrase(nonce)) {
		return fmt.Errorf("%w: %s", errPhraseChanged, p.Phrase(nonce))
	}
	return nil
}

// psiRoom is how far the index may move between plan and start: by psiRoom, or by a tenth of the index if that is more. Every
// scored request moves it.
const psiRoom = 0.05

// drifted reports whether the drift is not the confirmed one: its verdict differs, or the index has moved too far. It compares
// the two decimals that the phrase shows. INCONCLUSIVE indices are not compared, and a missing index counts as INCONCLUSIVE.
func (p *Plan) drifted(in *preflight.Inspection) bool {
	verdict := func(psi *float64, v gate.Verdict) gate.Verdict {
		if psi == nil {
			return gate.Inconclusive
		}
		return v
	}
	was, now := verdict(p.PSI, p.PSIVerdict), verdict(in.PSI, in.PSIVerdict)
	if was != "" && was != now {
		return true
	}
	if now == gate.Inconclusive {
		return false
	}
	hundredths := func(v float64) float64 { return math.Round(100 * v) }
	return math.Abs(hundredths(*in.PSI)-hundredths(*p.PSI)) > max(100*psiRoom, hundredths(*p.PSI)/10)
}

// found returns an index with its verdict.
func found(psi *float64, v gate.Verdict) string {
	if psi == nil || v == "" {
		return index(psi)
	}
	return fmt.Sprintf("%s (%s)", index(psi), v)
}

// index returns a PSI as the phrase shows it.
func index(psi *float64) string {
	if psi == nil {
		return "n/a"
	}
	return fmt.Sprintf("%.2f", *psi)
}

// State is the folder of the plans, the phrases and the runs:
//
//	plans/<nonce>.json             a plan
//	phrases/<nonce>.json, .used    its phrase, and a mark that it was used
//	runs/<run>/plan.json           the plan of a run
//	runs/<run>/journal.jsonl       what happened in it
type State string

func (s State) plan(nonce string) string { return filepath.Join(string(s), "plans", nonce+".json") }

func (s State) ledger() *confirmation.Ledger {
	return confirmation.NewLedger(filepath.Join(string(s), "phrases"))
}

// confirmed is what a phrase confirms.
type confirmed struct {
	PlanSHA256 string `json:"plan_sha256"`
}

// Issue stores the plan and returns its phrase, which is valid once and until it expires.
func (s State) Issue(p *Plan, validity time.Duration) (*confirmation.Ticket, error) {
	if err := durable.MkdirAll(filepath.Join(string(s), "plans"), 0o755); err != nil {
		return nil, err
	}
	return s.ledger().Issue(validity, func(nonce string, _ time.Time) (string, any, error) {
		digest, err := p.write(s.plan(nonce))
		return p.Phrase(nonce), confirmed{digest}, err
	})
}

// PlanPath returns the path of a phrase's plan.
func (s State) PlanPath(t *confirmation.Ticket) string { return s.plan(t.Nonce) }

// Confirmed returns the plan that the phrase confirms, if the phrase is valid now. It changes nothing.
func (s State) Confirmed(phrase string) (*Plan, *confirmation.Ticket, error) {
	t, err := s.ledger().Find(phrase)
	if err != nil {
		return nil, nil, err
	}
	var what confirmed
	if err := json.Unmarshal(t.Payload, &what); err != nil {
		return nil, nil, fmt.Errorf("ledger of phrases: %w", err)
	}
	p, err := readPlan(s.plan(t.Nonce), what.PlanSHA256)
	return p, t, err
}
