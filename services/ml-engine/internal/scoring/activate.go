package scoring

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Loaded is a model that was made ready to score.
type Loaded struct {
	*model.Artifact

	// At is when it was loaded.
	At time.Time
}

// Active is the model that scores now.
func (s *Service) Active() Loaded {
	m := s.active.Load()
	return Loaded{m.Artifact, m.loaded}
}

// Activate swaps the model in and returns the one that scored before. Requests under way end with the model that they
// began with.
func (s *Service) Activate(next Loaded) (previous Loaded) {
	m := &snapshot{Artifact: next.Artifact, metrics: s.metrics.of(next.Artifact), loaded: next.At}
	before := s.active.Swap(m)
	return Loaded{before.Artifact, before.loaded}
}
