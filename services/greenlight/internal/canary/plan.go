package canary

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// maxPlan bounds the file of a plan, in bytes.
const maxPlan = 8 << 20

// planSchema is the schema of a plan.
const planSchema = "greenlight/canary-plan/v1"

// Plan is what a run will do, and the state that it was planned for. It is stored as JSON that people can read.
type Plan struct {
	Schema     string    `json:"schema"`
	CreateTime time.Time `json:"create_time"`
	Target
	// Source is where the requests come from.
	Source evidence.Source `json:"source"`
	// Interval is the time between two polls.
	Interval gate.Duration `json:"interval"`
	Policy   gate.Policy   `json:"policy"`
	// Model is the model under trial, Baseline makes the decisions.
	Model    evidence.Model `json:"model"`
	Baseline evidence.Model `json:"baseline"`
	// PSI is the overall index of the last 7 days; nil if there is none, and PSIReason is then the reason.
	PSI       *float64 `json:"psi"`
	PSIReason string   `json:"psi_reason,omitempty"`
	// PSIVerdict judges the index; empty without one, and in plans up to version 1.8.
	PSIVerdict gate.Verdict `json:"psi_verdict,omitempty"`
	// Quality is the plan of the verdict on live quality; nil if there is none, and QualityReason is then the reason. Plans up
	// to version 1.9 have neither.
	Quality       *experiment.QualityPlan `json:"quality_plan,omitempty"`
	QualityReason string                  `json:"quality_reason,omitempty"`
	// Inputs are the files of offline evidence, with their digests.
	Inputs []evidence.Input `json:"inputs"`
}

// Target names the services and folders of a canary.
type Target struct {
	// Executors and Engines are gRPC addresses.
	Executors []string `json:"executors"`
	Engines   []string `json:"engines"`
	// Fleet is the group of the executors, which are then named by their ids; nil if the executors are called directly.
	Fleet *Fleet `json:"fleet,omitempty"`
	// The Prometheus to read the counts from; without a URL they are read from the executors.
	fleet.PrometheusOptions
	// Evidence is the folder of the evidence.
	Evidence string `json:"evidence"`
	// Models is the registry folder, which may have the model's own evaluation. If it is empty, only the evidence folder is used.
	Models string `json:"models,omitempty"`
}

// Inspect reads the services and the offline evidence in the target's folders.
func (t Target) Inspect(ctx context.Context, services *fleet.Services) *preflight.Inspection {
	o := preflight.Options{Evidence: t.Evidence, Models: t.Models}
	if t.Fleet != nil {
		o.MinFleet = t.Fleet.MinFleet
	}
	return preflight.Inspect(ctx, services, o)
}

// Fleet is the group of a canary.
type Fleet struct {
	fleetgroup.Address

	// MinFleet is the fraction of the executors present at the start of a phase that the phase needs, in (0,1].
	MinFleet float64 `json:"min_fleet"`
}

// Phrase returns what an operator must repeat to start the run.
func (p *Plan) Phrase(nonce string) string {
	abort := p.Policy.Abort
	limits := fmt.Sprintf("p95>%sms,err>%s%%", plain(abort.P95MS), plain(100*abort.ErrorRate))
	if !p.Policy.Improves() {
		limits += fmt.Sprintf(",match<%s%%", plain(100*abort.MatchRate))
	}
	terms := p.Policy.Terms()
	if p.Quality != nil {
		terms += fmt.Sprintf("quality=%.12s ", p.Quality.PlanDigest)
	}
	if f := p.Fleet; f != nil {
		terms += fmt.Sprintf("fleet=%s(%d)>=%s%% ", f.Group, len(p.Executors), plain(100*f.MinFleet))
	}
	return fmt.Sprintf("ONAY: Canary START %s%%/%s observe-only (%s ml-shadow) abort: %s %spsi=%s model=%.12s nonce=%s",
		plain(p.Policy.Phases[0]), minutes(p.Policy.PhaseDuration), p.Model.Version, limits, terms, index(p.PSI), p.Model.Digest, nonce)
}

// plain formats a number without the rounding noise of binary fractions.
func plain(v float64) string { return strconv.FormatFloat(v, 'g', 12, 64) }

// minutes returns a duration for the phrase: "30dk" (dakika) for whole minutes, "30s" for others.
func minutes(d gate.Duration) string {
	if m := time.Duration(d).Minutes(); m >= 1 && m == math.Trunc(m) {
		return fmt.Sprintf("%gdk", m)
	}
	return d.String()
}

// write writes the plan to a file, and returns its digest.
func (p *Plan) write(path string) (digest string, err error) {
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return "", err
	}
	raw = append(raw, '\n')
	return evidence.Sum(raw), durable.WriteFile(path, raw, 0o644)
}

// readPlan reads a plan that must have the digest.
func readPlan(path, digest string) (*Plan, error) {
	raw, err := durable.ReadFile(path, maxPlan)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if got := evidence.Sum(raw); got != digest {
		return nil, fmt.Errorf("plan %s: its digest is %.12s, but %.12s was confirmed: %w", path, got, digest, errPlanChanged)
	}
	p := &Plan{}
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, fmt.Errorf("plan %s: %w", path, err)
	}
	if p.Schema != planSchema {
		return nil, fmt.Errorf("plan %s: schema %q: want %q", path, p.Schema, planSchema)
	}
	if p.URL != "" { // a plan of version 1.8 may contain a password, which is not written again
		if err := p.SetURL(p.URL); err != nil {
			return nil, fmt.Errorf("plan %s: %w", path, err)
		}
	}
	if f := p.Fleet; f != nil && !(f.MinFleet > 0 && f.MinFleet <= 1) {
		return nil, fmt.Errorf("plan %s: min_fleet is %v: want more than 0, at most 1", path, f.MinFleet)
	}
	if q := p.Quality; q != nil {
		if err := q.Validate(); err != nil {
			return nil, fmt.Errorf("plan %s: %w", path, err)
		}
		if q.PlanDigest != q.Digest() {
			return nil, fmt.Errorf("plan %s: the digest of the quality plan is %.12s, but its values give %.12s", path, q.PlanDigest, q.Digest())
		}
	}
	return p, p.Policy.Validate()
}
