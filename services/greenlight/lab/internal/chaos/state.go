package chaos

import (
	"errors"
	"maps"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// State is a market state with the score that each model must give it.
type State struct {
	traffic.State

	// Scores are the scores of the models, by digest.
	Scores map[string]float64
}

// States returns the minutes of the frame in which the inputs of all models are defined. They have the features of all models;
// everything else comes from the first model.
func States(frame traffic.Frame, symbol string, minutes []int, models []*model.Artifact) ([]State, error) {
	var states []State
	for i, a := range models {
		list, err := traffic.States(frame, symbol, minutes, a, evidence.Simulated)
		if err != nil {
			return nil, err
		}
		byID := map[string]traffic.State{}
		for _, s := range list {
			byID[s.ID] = s
		}
		if i == 0 {
			for _, s := range list {
				states = append(states, State{State: s, Scores: map[string]float64{a.Digest(): s.Score}})
			}
			continue
		}
		kept := states[:0]
		for _, s := range states {
			if other, ok := byID[s.ID]; ok {
				maps.Copy(s.Named, other.Named)
				s.Scores[a.Digest()] = other.Score
				kept = append(kept, s)
			}
		}
		states = kept
	}
	if len(states) == 0 {
		return nil, errors.New("chaos: no state has the inputs of all models")
	}
	return states, nil
}
