// Package figure collects the drawings of a report for the evidence folder.
package figure

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/plots"
)

// Figure is a drawing. Name is its file in the evidence folder, for example "psi_mid.svg"; Caption describes it.
type Figure struct {
	Name, Caption string
	SVG           []byte
}

// Set collects figures whose names begin with Prefix.
type Set struct {
	Prefix string
	// Required makes a figure that shows nothing an error.
	Required bool
	All      []Figure
	// Err joins the errors of the drawings that failed.
	Err error
}

// Add draws a figure. A figure that shows nothing is left out, unless it is required.
func (s *Set) Add(name, caption string, draw func(io.Writer) error) {
	var svg bytes.Buffer
	switch err := draw(&svg); {
	case errors.Is(err, plots.ErrNothing) && !s.Required:
	case err != nil:
		s.Err = errors.Join(s.Err, fmt.Errorf("figure %s: %w", name, err))
	default:
		s.All = append(s.All, Figure{s.Prefix + name + ".svg", caption, svg.Bytes()})
	}
}

// Write writes the figures, unless a drawing failed.
func (s *Set) Write(store *evidence.Store) error {
	if s.Err != nil {
		return s.Err
	}
	for _, f := range s.All {
		if err := store.WriteFile(f.Name, f.SVG); err != nil {
			return err
		}
	}
	return nil
}
