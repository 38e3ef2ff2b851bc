// Package gatekeeper lets a promoted model decide behind a gate while its [Keeper] runs.
//
// A [Plan] says which model may decide what share of the requests, and within which bounds. [NewPlan] derives it from the
// model's promotion, and [Plan.Write] adds it to the evidence. A person confirms it with a phrase that names its numbers.
//
// A [Keeper] then sets the gate of every executor under a lease, and renews the lease three times within its length. If the
// keeper dies, hangs or loses an executor, the lease lapses, and the baseline decides everything there. The gate of an
// executor that only lapsed or restarted is opened again. If a latch demotes one executor (a kill, an alarm, a spent budget),
// or anybody else changes its rollout, the keeper stops the gate on all others. Only a person can start it again.
//
// The gate of a group is one signed record, which executors obey as they join.
//
// Every event is on disk before it is shown. A [Record] is computed from the events, so killing the keeper loses at most the
// counts of the last minute.
package gatekeeper

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/journal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// PlanSchema is the schema of a plan in the evidence.
const PlanSchema = "greenlight/gate_plan/v1"

// maxPlan bounds the file of a plan, with ample room for a thousand symbols of 64 bytes.
const maxPlan = 1 << 20

// Terms are the bounds of a gate.
type Terms struct {
	// Percent is the share of the requests that the model may decide, (0,100]. ObservePercent is the share that gets a shadow,
	// also after the gate has stopped, [Percent,100].
	Percent        float64 `json:"percent"`
	ObservePercent float64 `json:"observe_percent"`
	// Symbols are those that the model may decide. AllSymbols allows every symbol, and requests without one.
	Symbols    []string `json:"symbols,omitempty"`
	AllSymbols bool     `json:"all_symbols"`
	// MinScore and MaxScore are the lowest and the highest score that may decide, in [0,1].
	MinScore float64 `json:"min_score"`
	MaxScore float64 `json:"max_score"`
	// WaitBudget is how long a request waits for the model.
	WaitBudget gate.Duration `json:"wait_budget"`
	// ChangedPercent is the share of an hour's requests that the model may change by more than 0.05, (0,100].
	ChangedPercent float64 `json:"changed_percent"`
	// Lease is how long the gate stays open without a renewal, 1 s to 1 h.
	Lease gate.Duration `json:"lease"`
}

// The defaults and limits of [Terms]. The contract's Gate has the same.
const (
	DefaultPercent        = 5
	DefaultWaitBudget     = 5 * time.Millisecond
	DefaultChangedPercent = 10
	DefaultLease          = 30 * time.Second

	minLease, maxLease = time.Second, time.Hour
	maxSymbols         = 1000
	maxSymbol          = 64
)

// Validate returns an error for the first value that is out of range.
func (t Terms) Validate() error {
	switch longest := shadow.DefaultOptions().Timeout; {
	case !(t.Percent > 0 && t.Percent <= 100):
		return fmt.Errorf("percent %v: want more than 0, at most 100", t.Percent)
	case !(t.ObservePercent >= t.Percent && t.ObservePercent <= 100):
		return fmt.Errorf("observe percent %v: want %v (the percent of the model) to 100", t.ObservePercent, t.Percent)
	case t.AllSymbols == (len(t.Symbols) > 0):
		return errors.New("give either symbols or all symbols")
	case len(t.Symbols) > maxSymbols:
		return fmt.Errorf("%d symbols: want at most %d, or all symbols", len(t.Symbols), maxSymbols)
	case slices.ContainsFunc(t.Symbols, func(s string) bool { return s == "" || len(s) > maxSymbol }):
		return fmt.Errorf("a symbol is empty, or longer than %d bytes", maxSymbol)
	case !(t.MinScore >= 0 && t.MinScore <= t.MaxScore && t.MaxScore <= 1):
		return fmt.Errorf("scores from %v to %v: want a range in [0,1]", t.MinScore, t.MaxScore)
	case t.WaitBudget <= 0 || time.Duration(t.WaitBudget) > longest:
		return fmt.Errorf("wait budget %s: want more than 0, at most the %s of a shadow", t.WaitBudget, longest)
	case !(t.ChangedPercent > 0 && t.ChangedPercent <= 100):
		return fmt.Errorf("changed percent %v: want more than 0, at most 100", t.ChangedPercent)
	case time.Duration(t.Lease) < minLease || time.Duration(t.Lease) > maxLease:
		return fmt.Errorf("lease %s: want %s to %s", t.Lease, minLease, maxLease)
	}
	return nil
}

// Plan is what a model may decide, and the evidence that allows it.
type Plan struct {
	Terms

	// Entry is the model in the registry, "name/version". Model is its version and digest.
	Entry string         `json:"entry"`
	Model evidence.Model `json:"decides"`
	// Promotion is promotion.json, PromotionTime when the model was promoted.
	Promotion     evidence.Input `json:"promotion"`
	PromotionTime time.Time      `json:"promotion_time"`
	// Quality is the plan that the model was promoted under, QualityDigest its digest. Its disagreement cap is D, the most by
	// which the model can change one decision.
	Quality       outcome.Plan `json:"quality_plan"`
	QualityDigest string       `json:"quality_plan_digest"`
	// Source is where the requests come from.
	Source evidence.Source `json:"requests"`

	inputs []evidence.Input
}

// Question holds the inputs of a plan.
type Question struct {
	// Models is the registry folder, Model the entry: "name/version", or just the version if it is unique.
	Models, Model string
	// Evidence is the folder of the evidence. Verify verifies it: evidencedoc.Verify.
	Evidence string
	Verify   func(folder string) (evidence.Report, error)
	Terms    Terms
	Source   evidence.Source
}

// ErrNoRanges means that the training ranges of a model are unknown.
var ErrNoRanges = errors.New("its reference profile has no 0.05 and 99.95 % quantiles")

// NewPlan returns the plan for a promoted model. It returns an error if the evidence does not verify, if the model does not
// verify or is not promoted, or if its profile lacks the quantiles that bound its training data.
func NewPlan(q Question) (*Plan, error) {
	slices.Sort(q.Terms.Symbols)
	q.Terms.Symbols = slices.Compact(q.Terms.Symbols)
	if err := q.Terms.Validate(); err != nil {
		return nil, err
	}
	artifact, err := model.OpenRegistry(q.Models).Load(q.Model)
	if err != nil {
		return nil, err
	}
	m := artifact.Manifest
	if artifact.Ranges() == nil {
		return nil, fmt.Errorf("%s/%s cannot decide behind a gate: %w", m.Name, m.Version, ErrNoRanges)
	}
	grant, err := granted(q.Evidence, m.Digest, q.Verify)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Terms: q.Terms, Entry: m.Name + "/" + m.Version, Model: evidence.Model{Version: m.Version, Digest: m.Digest},
		Promotion: grant.Inputs[0], PromotionTime: grant.Time, Quality: grant.Plan, QualityDigest: grant.Plan.Digest(),
		Source: q.Source, inputs: grant.Inputs,
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	if err := p.fits(); err != nil {
		return nil, err
	}
	return p, nil
}

// ErrTooManySymbols means that the symbols of a plan are too long for one call.
var ErrTooManySymbols = errors.New("the symbols are too long for one call")

// fits returns an error if an executor would refuse the gate call for its size.
func (p *Plan) fits() error {
	req := p.request(journal.NewRun(runPrefix), setReason, wire.Plan(p.Quality))
	req.ExpectedRevision = math.MaxUint64 // the longest
	if n := proto.Size(req); n > rpc.SmallMessage {
		return fmt.Errorf("%w: with %d symbols the call has %d bytes, but an executor takes at most %d", ErrTooManySymbols, len(p.Symbols), n, rpc.SmallMessage)
	}
	return nil
}

// granted returns the promotion of the model with the digest, from a folder that verifies.
func granted(folder, digest string, verify func(string) (evidence.Report, error)) (*promote.Grant, error) {
	report, err := verify(folder)
	if err != nil {
		return nil, err
	}
	if err := report.Err(); err != nil {
		return nil, err
	}
	return promote.Granted(&report, digest)
}

func (p *Plan) validate() error {
	if err := p.Terms.Validate(); err != nil {
		return err
	}
	if err := p.Quality.Validate(); err != nil {
		return err
	}
	if p.QualityDigest != p.Quality.Digest() {
		return fmt.Errorf("the digest of the quality plan is %.12s, but its values hash to %.12s", p.QualityDigest, p.Quality.Digest())
	}
	if !p.Source.Valid() {
		return fmt.Errorf("source %q: want live, replay or simulated", p.Source)
	}
	return nil
}

// Write writes the plan to the evidence, and returns its file. git is the revision of the program.
func (p *Plan) Write(store *evidence.Store, folder, git string) (*PlanFile, error) {
	name := fmt.Sprintf("gate_plan_%s_%s.json", time.Now().UTC().Format("20060102T150405Z"), strings.ToLower(rand.Text()[:6]))
	header := evidence.Header{Schema: PlanSchema, Source: p.Source, Model: &p.Model, Inputs: p.inputs, Git: git}
	if err := store.WriteJSON(name, header, p); err != nil {
		return nil, err
	}
	return ReadPlan(filepath.Join(folder, name))
}

// PlanFile is a plan in the evidence.
type PlanFile struct {
	*Plan

	// Folder is the folder of the evidence, Input the name and digest of the file.
	Folder string
	Input  evidence.Input
}

// ReadPlan reads a plan in an evidence folder.
func ReadPlan(path string) (*PlanFile, error) {
	raw, err := durable.ReadFile(path, maxPlan)
	if err != nil {
		return nil, err
	}
	p, err := ParsePlan(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &PlanFile{p, filepath.Dir(path), evidence.Input{Path: filepath.Base(path), SHA256: evidence.Sum(raw)}}, nil
}

// ParsePlan parses the plan of a file. It returns an error if a value is out of range or contradicts another.
func ParsePlan(raw []byte) (*Plan, error) {
	var f struct {
		evidence.Header
		Plan
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Schema != PlanSchema {
		return nil, fmt.Errorf("schema %q: want %q, which greenlight gate plan writes", f.Schema, PlanSchema)
	}
	return &f.Plan, f.Plan.validate()
}

// Verify returns an error unless the folder of the plan verifies, the plan is in its chain, and the model still has the same
// promotion as when the plan was made.
func (f *PlanFile) Verify(verify func(folder string) (evidence.Report, error)) error {
	if err := f.fits(); err != nil { // a plan of an earlier version
		return err
	}
	grant, err := granted(f.Folder, f.Model.Digest, verify)
	if err != nil {
		return err
	}
	if grant.Inputs[0] != f.Promotion || grant.Plan != f.Quality {
		return fmt.Errorf("%w: the plan was made for another promotion than %s", promote.ErrNotPromoted, f.Promotion.Path)
	}
	return nil
}

// Phrase returns what a person repeats to start the gate.
func (f *PlanFile) Phrase(nonce string) string { return phrase(f.Plan, f.Input.SHA256, nonce) }

func phrase(p *Plan, digest, nonce string) string {
	symbols := "all"
	if !p.AllSymbols {
		symbols = strconv.Itoa(len(p.Symbols))
	}
	return fmt.Sprintf("ONAY: Gate START %s %s%% D=%s F=%s%% wait=%sms lease=%ss observe=%s%% symbols=%s score=%s-%s model=%.12s plan=%.12s nonce=%s",
		p.Model.Version, plain(p.Percent), plain(p.Quality.DisagreementCap), plain(p.ChangedPercent), plain(time.Duration(p.WaitBudget).Seconds()*1e3),
		plain(time.Duration(p.Lease).Seconds()), plain(p.ObservePercent), symbols, plain(p.MinScore), plain(p.MaxScore), p.Model.Digest, digest, nonce)
}

// plain formats a number without floating-point noise.
func plain(v float64) string { return strconv.FormatFloat(v, 'g', 12, 64) }

// Worst describes the worst that the gate can do, one sentence a line.
func (p *Plan) Worst() []string {
	which := "any symbol"
	if !p.AllSymbols {
		which = fmt.Sprintf("%d symbols", len(p.Symbols))
	}
	return []string{
		fmt.Sprintf("one order      its score differs from the baseline's by at most %s (D), and is in [%s, %s]", plain(p.Quality.DisagreementCap), plain(p.MinScore), plain(p.MaxScore)),
		fmt.Sprintf("an hour        at most %s %% (F) of all requests change by more than 0.05, once there are 1,000 requests; before that, at most 100 change", plain(p.ChangedPercent)),
		fmt.Sprintf("which orders   %s %% of the requests of %s; the answer names who decided", plain(p.Percent), which),
		fmt.Sprintf("how late       a request waits for the model for at most %s ms, and never into the caller's last 5 ms", plain(time.Duration(p.WaitBudget).Seconds()*1e3)),
		fmt.Sprintf("how soon off   a kill takes effect with the next request; without this command or its network, within %s (lease)", p.Lease),
	}
}

// request returns the call that sets and renews the gate.
func (p *Plan) request(holder, reason string, qualityPlan *executorv1.QualityPlan) *executorv1.SetRolloutRequest {
	return &executorv1.SetRolloutRequest{
		Percent: p.Percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_GATED, Lease: durationpb.New(time.Duration(p.Lease)), Holder: holder,
		Reason: reason, Plan: qualityPlan,
		Gate: &executorv1.Gate{
			ModelDigest: p.Model.Digest, ObservePercent: proto.Float64(p.ObservePercent), Symbols: p.Symbols, AllSymbols: p.AllSymbols,
			MinScore: proto.Float64(p.MinScore), MaxScore: proto.Float64(p.MaxScore), WaitBudget: durationpb.New(time.Duration(p.WaitBudget)),
			MaxChangedPercent: proto.Float64(p.ChangedPercent),
		},
	}
}
