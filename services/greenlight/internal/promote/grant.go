package promote

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// Grant is the promotion of a model: what allows it to decide behind a gate.
type Grant struct {
	// Model is the version and the digest, Time when it was promoted.
	Model evidence.Model
	Time  time.Time
	// Inputs are promotion.json and the file with the live quality behind the promotion.
	Inputs []evidence.Input
	// Plan is the quality plan that it was promoted under.
	Plan outcome.Plan
}

// ErrNotPromoted means that the evidence has no promotion of a model.
var ErrNotPromoted = errors.New("the model is not promoted")

// Granted returns the promotion of exactly the model with the digest, from a folder that verifies as a whole: the report is
// the result of evidencedoc.Verify. The error is [ErrNotPromoted] if the newest promotion is for another model or had an open
// blocker, or if a rollback of the model followed it.
func Granted(report *evidence.Report, digest string) (*Grant, error) {
	folder := report.Dir
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
		return nil, fmt.Errorf("%w: %s is for %s, digest %s, but the model has %s", ErrNotPromoted, f.Path, rec.To, short(rec.Digest), short(digest))
	}
	if f.header.Source != evidence.Live {
		return nil, fmt.Errorf("%w: %s "+liveIsRequired, ErrNotPromoted, f.Path, f.header.Source)
	}
	if err := rolledBack(report, rec); err != nil {
		return nil, err
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

// rolledBack returns an error if a rollback of the model followed its promotion. The order is taken from the chain, because
// clocks may go back. The times count too: an interrupted promotion may be finished, and written, after a rollback.
func rolledBack(report *evidence.Report, rec *Record) error {
	written := report.Written()
	for _, name := range slices.Sorted(maps.Keys(written)) {
		if ok, _ := path.Match(rollback.Pattern, name); !ok {
			continue
		}
		f, err := readFile(report.Dir, name, "greenlight rollback")
		if err != nil {
			return err
		}
		r := &rollback.Result{}
		if err := f.as(r, rollback.Schema); err != nil {
			return err
		}
		if r.Of(rec.Digest) && (written[name] > written[PromotionName] || !r.StartTime.Before(rec.Time)) {
			return fmt.Errorf("%w: %s was rolled back at %s, after its promotion (%s)", ErrNotPromoted, rec.To, minute(r.StartTime), name)
		}
	}
	return nil
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
