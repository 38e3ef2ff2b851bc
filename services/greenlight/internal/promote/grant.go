package promote

import (
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// Grant is the promotion of a model: what allows it to decide behind a gate.
type Grant struct {
	// Model is the version and the digest, Time when it was promoted.
	Model evidence.Model
	Time  time.Time
	// Inputs are promotion.json and the file with the live quality that it was promoted by.
	Inputs []evidence.Input
	// Plan is the quality plan that it was promoted under.
	Plan outcome.Plan
}

// ErrNotPromoted is the error of a model without a promotion in the evidence.
var ErrNotPromoted = errors.New("the model is not promoted")

// Granted returns the promotion of exactly the model with the digest, from a folder that verifies as a whole: see
// evidencedoc.Verify. The error is [ErrNotPromoted] if the newest promotion is of another model or had an open blocker.
func Granted(folder, digest string) (*Grant, error) {
	f, err := readFile(folder, PromotionName, "greenlight promote --confirm")
	if errors.Is(err, errMissing) {
		return nil, fmt.Errorf("%w: %w", ErrNotPromoted, err)
	}
	if err != nil {
		return nil, err
	}
	rec := &Record{}
	if err := f.as(rec, PromotionSchema); err != nil {
		return nil, err
	}
	if m := f.header.Model; m == nil || m.Digest != digest || rec.Digest != digest {
		return nil, fmt.Errorf("%w: %s is of %s, digest %s, and the model has %s", ErrNotPromoted, f.Path, rec.To, short(rec.Digest), short(digest))
	}
	if f.header.Source != evidence.Live {
		return nil, fmt.Errorf("%w: %s "+liveIsRequired, ErrNotPromoted, f.Path, f.header.Source)
	}
	g := &Grant{Model: *f.header.Model, Time: rec.Time, Inputs: []evidence.Input{f.Input}}
	for _, row := range rec.Blockers {
		if row.Verdict != gate.Pass {
			return nil, fmt.Errorf("%w: %s has %q as %s", ErrNotPromoted, f.Path, row.Name, row.Verdict)
		}
		if row.Name != gate.LiveQuality || len(row.Evidence) == 0 {
			continue
		}
		if err := g.judgedBy(folder, row.Evidence[0], digest); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotPromoted, err)
		}
	}
	if g.Plan == (outcome.Plan{}) {
		return nil, fmt.Errorf("%w: %s names no file with its live quality", ErrNotPromoted, f.Path)
	}
	return g, nil
}

// judgedBy reads the quality plan from the file that the promotion names.
func (g *Grant) judgedBy(folder string, in evidence.Input, digest string) error {
	q, err := readFile(folder, in.Path, "greenlight quality")
	if err != nil {
		return err
	}
	if q.SHA256 != in.SHA256 {
		return fmt.Errorf("%s has changed since the promotion", q.Path)
	}
	report := &quality.Report{}
	if err := q.as(report, quality.Schema); err != nil {
		return err
	}
	if m := q.header.Model; m == nil || m.Digest != digest || report.Judgment == nil {
		return fmt.Errorf("%s has no verdict on this model", q.Path)
	}
	g.Inputs, g.Plan = append(g.Inputs, q.Input), report.Judgment.Plan
	return g.Plan.Validate()
}
