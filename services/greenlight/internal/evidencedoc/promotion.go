package evidencedoc

import (
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// promotion is what promotion_check.json and promotion.json have in common.
type promotion struct {
	Blockers []promote.Row `json:"blockers"`
}

// promotion judges the blockers by the files that they name, as far as those are what they were then. A promotion that was
// made had none. greenlight promote --check judges all of them anew, with the registry and the services.
func (c *checker) promotion() error {
	p, err := as[promotion](c.file)
	if err != nil {
		return err
	}
	for _, row := range p.Blockers {
		c.add(c.file.header.Schema == promote.PromotionSchema && row.Verdict != gate.Pass, "records a promotion, and %q is %s", row.Name, row.Verdict)
		for _, in := range row.Evidence {
			source := c.current(in)
			if source == nil {
				continue
			}
			value, known, err := measured(source, row.Name)
			if err != nil {
				return err
			}
			c.add(known && row.Value != nil && *row.Value != value, "says that %q is %v, and %s says %v", row.Name, pointed(row.Value), source.name, value)
		}
	}
	return nil
}

func pointed(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}

// measured is the figure of a blocker in the file that it was judged by, of those that are figures of a file.
func measured(source *file, blocker string) (value float64, known bool, err error) {
	switch source.header.Schema {
	case experiment.OfflineSchema, experiment.OfflineSchemaV1:
		r, err := as[experiment.OfflineReport](source)
		if err != nil || r.Report == nil {
			return 0, false, err
		}
		seen, known := r.Observations()[blocker]
		return seen.Value, known, nil
	case driftfleet.Schema:
		r, err := as[driftfleet.Report](source)
		if err != nil || r.Overall == nil {
			return 0, false, err
		}
		return r.Overall.PSI, blocker == promote.PSIOverall, nil
	default:
		return 0, false, nil
	}
}
