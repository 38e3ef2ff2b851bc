package traffic

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Baseline is the model that an executor decides by.
type Baseline struct {
	evidence.Model

	// Inputs are its features, in order.
	Inputs []string
	// Scorer is nil if the registry does not have the baseline. Its answers cannot be checked then.
	Scorer model.Scorer
}

// Heuristic returns the baseline that was released with the model.
func Heuristic(a *model.Artifact) Baseline {
	return Baseline{evidence.Model{Version: a.Baseline.Version, Digest: a.Baseline.Digest()}, a.Baseline.Inputs(), a.Baseline}
}

// FindBaseline finds the baseline that an executor names: the heuristic of a, a model of the registry, or the heuristic
// of such a model. An unknown baseline has no Scorer, and takes the inputs of the heuristic of a.
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
			continue // a model that cannot be read could not check the answers either
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
