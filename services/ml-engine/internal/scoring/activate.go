package scoring

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// Loaded is a model that was made ready to score.
type Loaded struct {
	*model.Artifact

	// Watch counts what the model scores; nil counts nothing.
	Watch *monitor.Watch
	// At is when it was loaded.
	At time.Time
}

// Active is the model that scores now.
func (s *Service) Active() Loaded {
	return s.active.Load().Loaded
}

// Activate swaps the model in and returns the one that scored before. Requests under way end with the model that they
// began with.
func (s *Service) Activate(next Loaded) (previous Loaded) {
	return s.active.Swap(&snapshot{Loaded: next, metrics: s.metrics.of(next.Artifact)}).Loaded
}
