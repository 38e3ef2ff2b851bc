package canary

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// maxPlan bounds the file of a plan.
const maxPlan = 8 << 20

// planSchema names the form of a plan.
const planSchema = "greenlight/canary-plan/v1"

// Plan is what a run will do, and what there was when that was decided. It is kept as JSON, for people to read.
type Plan struct {
	Schema     string    `json:"schema"`
	CreateTime time.Time `json:"create_time"`
	Target
	// Source says where the requests come from.
	Source evidence.Source `json:"source"`
	// Interval is the time between two looks.
	Interval gate.Duration `json:"interval"`
	Policy   gate.Policy   `json:"policy"`
	// Model is the one under trial, Baseline what decides.
	Model    evidence.Model `json:"model"`
	Baseline evidence.Model `json:"baseline"`
	// PSI is the overall index of the last 7 days; nil when there is none, for which PSIReason says why.
	PSI       *float64 `json:"psi"`
	PSIReason string   `json:"psi_reason,omitempty"`
	// PSIVerdict is what the index meant; empty without one, and in a plan of version 1.8 and before.
	PSIVerdict gate.Verdict `json:"psi_verdict,omitempty"`
	// Inputs are the files of offline evidence, with their digests.
	Inputs []evidence.Input `json:"inputs"`
}

// Target is where a canary is run.
type Target struct {
	// Executors and Engines are gRPC addresses.
	Executors []string `json:"executors"`
	Engines   []string `json:"engines"`
	// The Prometheus that the counts are read from; without a URL the executors are asked.
	fleet.PrometheusOptions
	// Evidence is the folder of the evidence.
	Evidence string `json:"evidence"`
	// Models is the registry folder, in which the model has its own evaluation; empty to use that of the evidence folder.
	Models string `json:"models,omitempty"`
}

// Phrase is what a person gives back to start the run.
func (p *Plan) Phrase(nonce string) string {
	abort := p.Policy.Abort
	return fmt.Sprintf("ONAY: Canary START %s%%/%s observe-only (%s ml-shadow) abort: p95>%sms,err>%s%%,match<%s%% psi=%s model=%.12s nonce=%s",
		plain(p.Policy.Phases[0]), minutes(p.Policy.PhaseDuration), p.Model.Version,
		plain(abort.P95MS), plain(100*abort.ErrorRate), plain(100*abort.MatchRate), index(p.PSI), p.Model.Digest, nonce)
}

// plain is a number without the noise of binary fractions.
func plain(v float64) string { return strconv.FormatFloat(v, 'g', 12, 64) }

// minutes is a duration for the phrase: "30dk" (dakika) for whole minutes, "30s" for others.
func minutes(d gate.Duration) string {
	if m := time.Duration(d).Minutes(); m >= 1 && m == math.Trunc(m) {
		return fmt.Sprintf("%gdk", m)
	}
	return d.String()
}

// write keeps the plan, and returns its digest.
func (p *Plan) write(path string) (digest string, err error) {
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return "", err
	}
	raw = append(raw, '\n')
	err = durable.WriteFile(path, 0o644, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	return digestOf(raw), err
}

// readPlan reads a plan that must have the digest.
func readPlan(path, digest string) (*Plan, error) {
	raw, err := durable.ReadFile(path, maxPlan)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if got := digestOf(raw); got != digest {
		return nil, fmt.Errorf("plan %s: its digest is %.12s, and %.12s was confirmed: %w", path, got, digest, errPlanChanged)
	}
	p := &Plan{}
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, fmt.Errorf("plan %s: %w", path, err)
	}
	if p.Schema != planSchema {
		return nil, fmt.Errorf("plan %s: schema %q: want %q", path, p.Schema, planSchema)
	}
	if p.URL != "" { // a plan of version 1.8 may have a password in it, which is not written again
		if err := p.SetURL(p.URL); err != nil {
			return nil, fmt.Errorf("plan %s: %w", path, err)
		}
	}
	return p, p.Policy.Validate()
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
