package experiment

import (
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// RegisterError is the error of a candidate that could not be added to the registry.
type RegisterError struct {
	Candidate *Candidate
	Err       error
}

func (e *RegisterError) Error() string { return e.Err.Error() }

// Unwrap returns the error of [model.Registry.Add].
func (e *RegisterError) Unwrap() error { return e.Err }

// Register adds every model of the study to the registry, and writes the offline report and the figures of the candidate c
// to the evidence. It returns the artifact and the report of c. git is the revision of the program.
func (s *Study) Register(registry *model.Registry, store *evidence.Store, c *Candidate, git string, now time.Time) (artifact *model.Artifact, report *OfflineReport, err error) {
	for _, other := range s.Candidates {
		a, r, err := s.Evaluated(other, git, now)
		if err != nil {
			return nil, nil, err
		}
		if err := registry.Add(a); err != nil {
			return nil, nil, &RegisterError{other, err}
		}
		if other == c {
			artifact, report = a, r
		}
	}
	if artifact == nil {
		return nil, nil, fmt.Errorf("%s is not a model of this study", c.Version)
	}
	if err := store.WriteJSON(model.OfflineFile, s.OfflineHeader(artifact, report), report); err != nil {
		return nil, nil, err
	}
	figures, err := s.Figures(c)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range figures {
		if err := store.WriteFile(f.Name, f.SVG); err != nil {
			return nil, nil, err
		}
	}
	return artifact, report, nil
}
