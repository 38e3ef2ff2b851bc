package canary

import (
	"encoding/json"
	"errors"
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
)

// NewPlan is a plan for the world as it is.
func NewPlan(in *Inspection, t Target, policy gate.Policy, interval time.Duration, source evidence.Source) (*Plan, error) {
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	model, baseline, err := in.agreed()
	if err != nil {
		return nil, err
	}
	if in.OfflineErr != nil {
		return nil, in.OfflineErr
	}
	if in.Offline.Model.Digest != model.Digest {
		return nil, refuse(errNotActive, "the offline evidence is of %s, and %s is served", named(in.Offline.Model), named(model))
	}
	p := &Plan{
		Schema: planSchema, CreateTime: time.Now().UTC().Truncate(time.Millisecond), Target: t, Source: source,
		Interval: gate.Duration(interval), Policy: policy, Model: model, Baseline: baseline, PSI: in.PSI, PSIVerdict: in.PSIVerdict, Inputs: in.Offline.Inputs,
	}
	if in.PSIErr != nil {
		p.PSIReason = oneLine(in.PSIErr)
	}
	return p, nil
}

// Check says what is not as it was planned. Each difference is an error of its own, with a hint.
func (p *Plan) Check(in *Inspection) error {
	if err := errors.Join(in.failures()...); err != nil {
		return err
	}
	for _, m := range in.Models() {
		if m != p.Model {
			return refuse(errModelChanged, "%s, not %s", named(m), named(p.Model))
		}
	}
	for _, b := range in.Baselines() {
		if b != p.Baseline {
			return refuse(errBaselineChanged, "%s, not %s", named(b), named(p.Baseline))
		}
	}
	return nil
}

// Free says which executors somebody holds who is not the run; an empty run is a new one.
func (in *Inspection) Free(run string) error {
	var held []string
	for _, e := range in.Executors {
		if h := e.Rollout.GetRollout().GetHolder(); h != "" && h != run {
			held = append(held, fmt.Sprintf("executor %s: %s", e.Addr, described(e.Rollout.GetRollout())))
		}
	}
	if len(held) > 0 {
		return refuse(errHeld, "%s", strings.Join(held, "; "))
	}
	return nil
}

// CheckAll is Check, and whether the evidence and the drift are those that were confirmed.
func (p *Plan) CheckAll(in *Inspection, phrase, nonce string) error {
	if err := p.Check(in); err != nil {
		return err
	}
	if in.OfflineErr != nil {
		return in.OfflineErr
	}
	if !slices.Equal(in.Offline.Inputs, p.Inputs) {
		return refuse(errEvidenceChanged, "%s has been written anew", p.Evidence)
	}
	if p.drifted(in) {
		return refuse(errPSIChanged, "PSI is %s now, not %s: its verdict must stay, and it may move by %g or a tenth",
			found(in.PSI, in.PSIVerdict), found(p.PSI, p.PSIVerdict), psiRoom)
	}
	if !confirmation.Equal(phrase, p.Phrase(nonce)) {
		return refuse(errPhraseChanged, "%s", p.Phrase(nonce))
	}
	return nil
}

// psiRoom is how far the index may move between plan and start; a tenth of it is allowed as well. It moves with every
// request that is scored.
const psiRoom = 0.05

// drifted reports whether the drift is not what was confirmed: its verdict is another, or the index, as the phrase has it,
// has moved too far. An index that is INCONCLUSIVE moves with every row, and says nothing; none at all is the same.
func (p *Plan) drifted(in *Inspection) bool {
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

// found is an index with its verdict.
func found(psi *float64, v gate.Verdict) string {
	if psi == nil || v == "" {
		return index(psi)
	}
	return fmt.Sprintf("%s (%s)", index(psi), v)
}

// index is a PSI as the phrase has it.
func index(psi *float64) string {
	if psi == nil {
		return "n/a"
	}
	return fmt.Sprintf("%.2f", *psi)
}

// State is the folder of the plans, the phrases and the runs:
//
//	plans/<nonce>.json             a plan
//	phrases/<nonce>.json, .used    its phrase, and that it was used
//	runs/<run>/plan.json           the plan of a run
//	runs/<run>/journal.jsonl       what happened in it
type State string

func (s State) plan(nonce string) string { return filepath.Join(string(s), "plans", nonce+".json") }

func (s State) ledger() *confirmation.Ledger {
	return confirmation.NewLedger(filepath.Join(string(s), "phrases"))
}

// confirmed is what a phrase stands for.
type confirmed struct {
	PlanSHA256 string `json:"plan_sha256"`
}

// Issue keeps the plan and returns its phrase, which works once and until it expires.
func (s State) Issue(p *Plan, validity time.Duration) (*confirmation.Ticket, error) {
	if err := durable.MkdirAll(filepath.Join(string(s), "plans"), 0o755); err != nil {
		return nil, err
	}
	return s.ledger().Issue(validity, func(nonce string, _ time.Time) (string, any, error) {
		digest, err := p.write(s.plan(nonce))
		return p.Phrase(nonce), confirmed{digest}, err
	})
}

// PlanPath is where the plan of a phrase is.
func (s State) PlanPath(t *confirmation.Ticket) string { return s.plan(t.Nonce) }

// Confirmed returns the plan that the phrase stands for, if the phrase would work now. Nothing is changed.
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
