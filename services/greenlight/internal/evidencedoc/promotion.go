package evidencedoc

import (
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// promotion is the part that promotion_check.json and promotion.json share.
type promotion struct {
	Blockers []promote.Row `json:"blockers"`
}

// promotion judges the blockers from the files that they name, if those files are unchanged. A completed promotion must not
// have an open blocker. Only "greenlight promote --check" can judge all blockers: it also reads the registry and the services.
func (c *checker) promotion() error {
	p, err := as[promotion](c.file)
	if err != nil {
		return err
	}
	for _, row := range p.Blockers {
		c.add(c.file.header.Schema == promote.PromotionSchema && row.Verdict != gate.Pass, "records a promotion, but %q is %s", row.Name, row.Verdict)
		for _, in := range row.Evidence {
			source := c.current(in)
			if source == nil {
				continue
			}
			value, known, err := measured(source, row.Name)
			if err != nil {
				return err
			}
			if known && row.Value != nil {
				c.add(*row.Value != value, "records %q as %v, but %s has %v", row.Name, *row.Value, source.name, value)
			}
		}
	}
	return nil
}

// measured returns the figure of a blocker from the file that it was judged from. known is false if the file has no such
// figure.
func measured(source *file, blocker string) (value float64, known bool, err error) {
	switch source.header.Schema {
	case experiment.OfflineSchema, experiment.OfflineSchemaV1:
		r, err := as[experiment.OfflineReport](source)
		if err != nil || r.Report == nil {
			return 0, false, err
		}
		seen, known := r.Observations()[blocker]
		return seen.Value, known, nil
	case driftfleet.Schema, driftfleet.SchemaV1:
		r, err := as[driftfleet.Report](source)
		if err != nil || r.Overall == nil {
			return 0, false, err
		}
		return r.Overall.PSI, blocker == promote.PSIOverall, nil
	case quality.Schema:
		r, err := as[quality.Report](source)
		if err != nil || r.Judgment == nil {
			return 0, false, err
		}
		return r.Judgment.Lower, blocker == gate.LiveQuality, nil
	default:
		return 0, false, nil
	}
}
