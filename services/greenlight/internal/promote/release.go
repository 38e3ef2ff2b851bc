package promote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// The evidence of a promotion.
const (
	PromotionName   = "promotion.json"
	PromotionSchema = "greenlight/promotion/v1"
)

// Record is a promotion: the record of release.json in the registry, and the body of promotion.json.
type Record struct {
	// Name, From and To are the model and its version before and after, Digest its identity.
	Name   string    `json:"name"`
	From   string    `json:"from"`
	To     string    `json:"to"`
	Digest string    `json:"digest"`
	Time   time.Time `json:"time"`
	// Confirmation is the phrase, Nonce its nonce.
	Confirmation string `json:"confirmation"`
	Nonce        string `json:"nonce"`
	// Head is the hash of the newest line of the evidence chain at the judgment.
	Head      string           `json:"evidence_head"`
	PSI       float64          `json:"psi"`
	Blockers  []Row            `json:"blockers"`
	Watched   []Watched        `json:"watched"`
	Policy    gate.Policy      `json:"policy"`
	Inputs    []evidence.Input `json:"judged_by"`
	Changelog string           `json:"changelog"`
	// Activated lists the activations on ml-engines.
	Activated []Activation `json:"activated"`
}

// Activation is the activation of a release on one ml-engine.
type Activation struct {
	Address string `json:"address"`
	// Version and Digest are what it reported to serve afterwards.
	Version string `json:"version"`
	Digest  string `json:"digest"`
	// Error explains why that is not the release; empty if it is.
	Error string `json:"error"`
}

// Releaser makes releases.
type Releaser struct {
	Ledger *confirmation.Ledger
	// Engines are the ml-engines that shall serve the release; may be empty.
	Engines []fleet.Engine
	// Git is the commit of the program.
	Git string
	// Key signs the release before it is activated; nil does not sign.
	Key *dsse.Signer
	// Seal protects the evidence.
	Seal evidence.Seal

	// killed, if set, is called after every step. Tests stop there.
	killed func(step string) error
}

// The steps of a release, in order. The second is a single rename and creates the release. A kill before it leaves only a used
// phrase. [Releaser.Finish] completes the release after a later kill.
const (
	stepUsed      = "phrase used"
	stepReleased  = "released"
	stepActivated = "activated"
	stepWritten   = "promotion.json written"
)

func (r *Releaser) after(step string) error {
	if r.killed == nil {
		return nil
	}
	return r.killed(step)
}

// Dialed returns the addresses of the engines to dial for [Releaser.Confirm]: the phrase's, and those in activate that the
// phrase lacks.
func (p *Pledge) Dialed(activate []string) []string {
	addrs := slices.Clone(p.Engines)
	for _, addr := range activate {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// Confirm judges again and makes the release, or finishes it if the phrase was used before. services must have the engines of
// [Pledge.Dialed]; those with an address in activate shall serve the release. The check is nil if the phrase was used.
func (r *Releaser) Confirm(ctx context.Context, p *Pledge, used bool, services *fleet.Services, activate []string) (*Record, *Check, error) {
	for _, e := range services.Engines {
		if slices.Contains(activate, e.Addr) {
			r.Engines = append(r.Engines, e)
		}
	}
	if used {
		rec, err := r.Finish(ctx, p, time.Now())
		return rec, nil, err
	}
	asked := *services
	asked.Engines = services.Engines[:len(p.Engines)]
	check, err := Judge(ctx, p.Question(&asked), time.Now())
	if err != nil {
		return nil, nil, err
	}
	rec, err := r.Release(ctx, p, check)
	return rec, check, err
}

// Release makes the release that the phrase confirms. It uses up the phrase, records the release in the registry, activates it
// on the engines, and writes promotion.json. If an engine does not serve the release, that is noted in the record and is not
// an error. If an error occurs after the release was made, Release returns the record too.
func (r *Releaser) Release(ctx context.Context, p *Pledge, c *Check) (*Record, error) {
	if err := p.Holds(c); err != nil {
		return nil, err
	}
	rec := p.record(c)
	raw, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	if err := r.Ledger.Use(p.ticket); err != nil {
		return nil, err
	}
	if err := r.after(stepUsed); err != nil {
		return nil, err
	}
	entry := model.Entry{Name: c.Name, Version: c.From}
	err = model.OpenRegistry(p.Models).Release(entry, c.To, model.Release{Time: rec.Time, Record: raw})
	if durable.Unsure(err) {
		return nil, fmt.Errorf("%s/%s is in the registry, but a power cut may undo that: repeat the command with the same phrase to finish: %w", c.Name, c.To, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the phrase is used up, and nothing was released: %w", err)
	}
	if err := r.after(stepReleased); err != nil {
		return nil, err
	}
	return rec, r.complete(ctx, p, rec, r.Engines)
}

// Finish completes a release that was interrupted. It returns [confirmation.ErrUsed] if there is nothing to do: either the
// phrase made no release, or the release is complete. It activates the release only while the phrase is valid, because the
// model may have been rolled back since.
func (r *Releaser) Finish(ctx context.Context, p *Pledge, now time.Time) (*Record, error) {
	name, _, _ := cut(p.Model)
	release := model.Entry{Name: name, Version: p.To}
	registry := model.OpenRegistry(p.Models)
	if _, err := os.Lstat(registry.Dir(release)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: nothing was released by it", confirmation.ErrUsed)
	}
	a, err := registry.Load(release.String())
	if err != nil {
		return nil, err
	}
	rec := &Record{}
	if a.Release == nil {
		return nil, fmt.Errorf("%w: nothing was released by it; %s has another origin", confirmation.ErrUsed, release)
	}
	if err := json.Unmarshal(a.Release.Record, rec); err != nil {
		return nil, fmt.Errorf("%s: %w", release, err)
	}
	if rec.Nonce != p.ticket.Nonce {
		return nil, fmt.Errorf("%w: nothing was released by it; %s was released by another phrase", confirmation.ErrUsed, release)
	}
	written, err := ReadRecord(p.Evidence)
	if err != nil {
		return nil, err
	}
	if written != nil && !written.Time.Before(rec.Time) {
		return nil, fmt.Errorf("%w: it released %s at %s, and %s is written: nothing is left to do",
			confirmation.ErrUsed, release, minute(rec.Time), PromotionName)
	}
	engines := r.Engines
	if !now.Before(p.ticket.ExpiryTime) {
		engines = nil
	}
	return rec, r.complete(ctx, p, rec, engines)
}

// ReadRecord returns the newest promotion in the evidence folder; nil if there is none.
func ReadRecord(folder string) (*Record, error) {
	f, err := readFile(folder, PromotionName, "greenlight promote")
	if errors.Is(err, errMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rec := &Record{}
	return rec, f.as(rec, PromotionSchema)
}

// complete runs the steps after the release.
func (r *Releaser) complete(ctx context.Context, p *Pledge, rec *Record, engines []fleet.Engine) error {
	if r.Key != nil {
		if err := model.OpenRegistry(p.Models).Sign(model.Entry{Name: rec.Name, Version: rec.To}, r.Key); err != nil {
			return err
		}
	}
	for _, e := range engines {
		rec.Activated = append(rec.Activated, activate(ctx, e, rec))
	}
	if err := r.after(stepActivated); err != nil {
		return err
	}
	store, err := evidence.Open(p.Evidence, evidence.Options{Seal: r.Seal})
	if err == nil {
		header := evidence.Header{
			Schema: PromotionSchema, Source: evidence.Live, Inputs: rec.Inputs,
			Model: &evidence.Model{Version: rec.To, Digest: rec.Digest}, Git: r.Git,
		}
		// The statement comes first: a promotion that is killed before promotion.json is written can be finished.
		err = rec.sign(store, r.Seal.Signer)
		if err == nil {
			err = store.WriteJSON(PromotionName, header, rec)
		}
		err = errors.Join(err, store.Close())
	}
	if err != nil {
		return fmt.Errorf("%s/%s is in the registry, but %s may not be written: %w", rec.Name, rec.To, PromotionName, err)
	}
	return r.after(stepWritten)
}

// activate activates the release on an engine, and reads back what it serves.
func activate(ctx context.Context, e fleet.Engine, rec *Record) Activation {
	a := Activation{Address: e.Addr}
	_, err := e.Models.ActivateModel(ctx, &mlenginev1.ActivateModelRequest{Model: rec.Name + "/" + rec.To, Digest: rec.Digest})
	if err != nil {
		a.Error = fleet.Plain(err).Error()
	}
	served, err := e.Model(ctx)
	switch {
	case err != nil && a.Error == "":
		a.Error = "read back: " + fleet.Plain(err).Error()
	case err == nil:
		a.Version, a.Digest = served.Version, served.Digest
		if a.Error == "" && (a.Version != rec.To || a.Digest != rec.Digest) {
			a.Error = fmt.Sprintf("it serves %s with digest %s", a.Version, short(a.Digest))
		}
	}
	return a
}

// record returns the record of the promotion.
func (p *Pledge) record(c *Check) *Record {
	rec := &Record{
		Name: c.Name, From: c.From, To: c.To, Digest: c.Digest, Time: time.Now().UTC().Truncate(time.Millisecond),
		Confirmation: p.ticket.Phrase, Nonce: p.ticket.Nonce, Head: c.Head, PSI: c.PSI, Watched: c.Watched, Policy: c.Policy,
		Inputs: c.Header("").Inputs, Changelog: c.Changelog(), Activated: []Activation{},
	}
	for _, r := range c.Blockers {
		if r.Name == Confirmation {
			one := 1.0
			r.Value, r.N, r.Verdict, r.Reason, r.Note = &one, 1, gate.Pass, "", p.ticket.Phrase
		}
		rec.Blockers = append(rec.Blockers, r)
	}
	return rec
}

func cut(entry string) (name, version string, ok bool) { return strings.Cut(entry, "/") }

// candidateForm is the version of a candidate: the release's version and a number.
var candidateForm = regexp.MustCompile(`^(.+)-rc[0-9]+$`)

// ReleaseVersion returns the version under which a candidate is released: as, or the candidate's version without -rcN if as is
// empty. It returns an error if the version has no -rcN, if as is the candidate's version, or if the result is not a version.
func ReleaseVersion(version, as string) (string, error) {
	if as == "" {
		m := candidateForm.FindStringSubmatch(version)
		if m == nil {
			return "", fmt.Errorf("version %q does not name a candidate (like v1.8.1-rc1): give the version of the release with --as", version)
		}
		as = m[1]
	}
	if as == version {
		return "", fmt.Errorf("version %q is the candidate's: the release needs another", as)
	}
	return as, model.CheckName("version", as)
}
