// Package promote decides whether a model may be promoted. It judges every blocker from the figures of the evidence, never
// from a verdict in it. If only the confirmation is missing, [Ask] issues a phrase for exactly this model, this evidence and
// this drift. [Redeem] accepts it once, everything is judged again, and [Releaser] releases the model.
//
// A promotion is blocked by a file that is missing, old, about another model, not measured on running services, or
// contradictory, and by any figure beyond the policy's limit. Missing data is an ERROR, never a PASS.
package promote

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
)

// The evidence that a promotion writes.
const (
	CheckName   = "promotion_check.json"
	CheckSchema = "greenlight/promotion_check/v1"
)

// Question is a model that may be promoted, and what it is judged by.
type Question struct {
	// Models is the registry folder. Model is the entry: "name/version", or just the version if it is unique.
	Models, Model string
	// As is the version of the release; empty means the candidate's without -rcN.
	As string
	// Evidence is the folder of the evidence.
	Evidence string
	Policy   gate.Policy
	// Head is a prefix that the hash of the evidence chain's newest line must have; empty accepts any.
	Head string
	// Engines must serve the model. In Executors, the model must have been the last to answer. Both may be empty.
	Engines   []fleet.Engine
	Executors []fleet.Executor
	// Fleet is the group of the executors; nil without one.
	Fleet *fleetgroup.Address
}

// Check holds all blockers of a promotion at one time: the body of promotion_check.json.
type Check struct {
	// Verdict is the worst of the blockers, including the confirmation.
	Verdict gate.Verdict `json:"verdict"`
	// Name, From and To are the model and its version before and after, Digest its identity.
	Name   string `json:"name"`
	From   string `json:"from"`
	To     string `json:"to"`
	Digest string `json:"digest"`
	// Head is the hash of the newest line of the evidence chain.
	Head string `json:"evidence_head"`
	// PSI is the overall index; 0 if there is none, which blocks.
	PSI float64 `json:"psi"`
	// Canary is null if no canary has reached 100 %.
	Canary *Canary `json:"canary"`
	// Blockers must all be PASS.
	Blockers []Row `json:"blockers"`
	// Watched holds indices that are shown but do not block.
	Watched []Watched   `json:"watched"`
	Policy  gate.Policy `json:"policy"`

	manifest *model.Manifest
	files    []*file
}

// judgment computes a [Check].
type judgment struct {
	folder string
	policy gate.Policy
	now    time.Time
	entry  model.Entry
	// dir is the folder of the model.
	dir      string
	manifest *model.Manifest
	digest   string
	// artifact is nil if the model does not verify.
	artifact *model.Artifact
	check    *Check
}

// Judge judges every blocker as of now. It returns an error if the model does not exist, or if there is no version for the
// release.
func Judge(ctx context.Context, q Question, now time.Time) (*Check, error) {
	registry := model.OpenRegistry(q.Models)
	entry, err := registry.Find(q.Model)
	if err != nil {
		return nil, err
	}
	to, err := ReleaseVersion(entry.Version, q.As)
	if err != nil {
		return nil, err
	}
	manifest, err := registry.Manifest(entry)
	if err != nil {
		return nil, err
	}
	c := &Check{
		Name: entry.Name, From: entry.Version, To: to, Digest: manifest.Digest,
		Watched: []Watched{}, Policy: q.Policy, manifest: manifest,
	}
	j := &judgment{folder: q.Evidence, policy: q.Policy, now: now, entry: entry, dir: registry.Dir(entry), manifest: manifest, digest: manifest.Digest, check: c}
	holds, free := j.model(registry, to)
	overall, feature := j.psi()
	offline := j.offline()
	live, other, err := j.runs()
	phases, policy := j.canary(live, other, err)
	soak := j.soak(live, other, err)
	c.Blockers = slices.Concat([]Row{overall, feature}, offline, []Row{phases, policy, soak, j.quality(live, err), j.chain(q.Head), holds, free})
	if len(q.Engines) > 0 {
		c.Blockers = append(c.Blockers, j.engines(ctx, q.Engines))
	}
	if len(q.Executors) > 0 {
		c.Blockers = append(c.Blockers, j.executors(ctx, q.Executors))
	}
	c.Blockers = append(c.Blockers, newRow(gate.Result{
		Name: Confirmation, Op: gate.AtLeast, Threshold: 1, Unit: gate.Count, MinSamples: 1, Verdict: gate.Inconclusive, Reason: notYetSaid,
	}))
	c.Verdict = c.scorecard(c.Blockers).Verdict()
	return c, nil
}

// Ready reports whether only the confirmation blocks.
func (c *Check) Ready() bool {
	return c.scorecard(slices.DeleteFunc(slices.Clone(c.Blockers), func(r Row) bool { return r.Name == Confirmation })).Verdict().OK()
}

func (c *Check) scorecard(rows []Row) gate.Scorecard {
	var card gate.Scorecard
	for _, r := range rows {
		card.Results = append(card.Results, r.Result)
	}
	return card
}

// Header returns the header of the check's evidence. Its source is the least live source of its files. The offline report does
// not count, because it is always about recorded data.
func (c *Check) Header(git string) evidence.Header {
	h := evidence.Header{
		Schema: CheckSchema, Source: evidence.Live, Model: &evidence.Model{Version: c.From, Digest: c.Digest}, Git: git,
	}
	for _, f := range c.files {
		h.Inputs = append(h.Inputs, f.Input)
		switch s := f.header.Source; {
		case s == evidence.Simulated:
			h.Source = s
		case s == evidence.Replay && !experiment.IsOffline(f.header.Schema) && h.Source == evidence.Live:
			h.Source = s
		}
	}
	return h
}

// digests returns the SHA-256 of the judged files by name.
func (c *Check) digests() map[string]string {
	sums := make(map[string]string, len(c.files))
	for _, f := range c.files {
		sums[f.Path] = f.SHA256
	}
	return sums
}

// read reads a file of the folder and remembers it.
func (j *judgment) read(name, writer string) (*file, error) {
	f, err := readFile(j.folder, name, writer)
	if f != nil {
		j.check.files = append(j.check.files, f)
	}
	return f, err
}

// model judges the artifact, and whether the registry has an entry for the release already.
func (j *judgment) model(registry *model.Registry, to string) (holds, free Row) {
	artifact, err := registry.Load(j.entry.String())
	rule := gate.Rule{Name: ModelHolds, Op: gate.AtMost, Threshold: 0, Unit: gate.Count}
	if err != nil {
		holds = problems(ModelHolds, []string{err.Error()}, 1)
	} else {
		j.artifact = artifact
		holds = newRow(gate.Check(rule, gate.Measured(0, uint64(len(artifact.Golden.Vectors)))))
		holds.Note = fmt.Sprintf("digest %s, golden scores", short(j.digest))
	}
	release := model.Entry{Name: j.entry.Name, Version: to}
	var found []string
	if _, err := os.Lstat(registry.Dir(release)); err == nil {
		found = append(found, fmt.Sprintf("the registry already has %s", release))
	} else if !os.IsNotExist(err) {
		found = append(found, err.Error())
	}
	free = problems(ReleaseFree, found, 1)
	free.Note = release.String()
	return holds, free
}

// recordsOfTheirTime are files about one point in time: decisions, runs, daily reports. They stay valid when an input is
// measured again. Their age is judged by their own times.
var recordsOfTheirTime = []string{
	CheckName, PromotionName, rollback.Pattern, "canary_*.json", qualityPattern, "daily/*", "weekly/*",
}

// chain judges whether the evidence folder verifies.
func (j *judgment) chain(head string) Row {
	report, err := evidence.Verify(j.folder)
	if err != nil {
		return missing(gate.Rule{Name: EvidenceHolds, Op: gate.AtMost, Threshold: 0, Unit: gate.Count}, err.Error())
	}
	j.check.Head = report.Head
	if head != "" {
		report.Pin(head)
	}
	var found []string
	for _, p := range report.Problems {
		found = append(found, p.String())
	}
	for _, p := range report.Stale {
		if !slices.ContainsFunc(recordsOfTheirTime, func(pattern string) bool {
			ok, err := filepath.Match(pattern, p.File)
			return ok && err == nil
		}) {
			found = append(found, "stale: "+p.String())
		}
	}
	r := problems(EvidenceHolds, found, report.Files)
	r.Note = fmt.Sprintf("head %s, %d lines", short(report.Head), report.Lines)
	return r
}

// moved returns the names of the changed files, sorted.
func moved(before, after map[string]string) []string {
	all := maps.Clone(before)
	maps.Copy(all, after)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if before[name] != after[name] {
			names = append(names, name)
		}
	}
	return names
}
