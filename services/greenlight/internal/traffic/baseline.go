package traffic

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Baseline is what an executor decides by, as this process can compute it.
type Baseline struct {
	evidence.Model

	// Inputs are the features that it takes, in order.
	Inputs []string
	// Scorer is nil when the baseline is not known here: its answers cannot be checked then.
	Scorer model.Scorer
}

// Heuristic is the baseline that was released with the model.
func Heuristic(a *model.Artifact) Baseline {
	return Baseline{evidence.Model{Version: a.Baseline.Version, Digest: a.Baseline.Digest()}, a.Baseline.Inputs(), a.Baseline}
}

// FindBaseline finds the baseline that an executor names: that of the model a, a model of the registry, or the heuristic of
// one. Without a Scorer it is none of them, and is sent the inputs of the heuristic of a.
func FindBaseline(registry *model.Registry, a *model.Artifact, named evidence.Model) (Baseline, error) {
	if own := Heuristic(a); own.Digest == named.Digest {
		return own, nil
	}
	entries, err := registry.List()
	if err != nil {
		return Baseline{}, err
	}
	for _, e := range entries {
		m, err := registry.Manifest(e)
		if err != nil || m.Digest != named.Digest && m.Files[model.BaselineFile] != named.Digest {
			continue // a model that cannot be read is not the one, or cannot check it
		}
		other, err := registry.Load(e.String())
		if err != nil {
			return Baseline{}, fmt.Errorf("the executor's baseline %s: %w", named.Version, err)
		}
		if m.Digest == named.Digest {
			return Baseline{named, other.Schema.Names(), other.Scorer}, nil
		}
		return Heuristic(other), nil
	}
	return Baseline{named, a.Baseline.Inputs(), nil}, nil
}
