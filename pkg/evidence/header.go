package evidence

import (
	"fmt"
	"time"
)

// Header describes an evidence file in JSON. Its keys and the body's are in one object, so a reader embeds it:
//
//	var report struct {
//		evidence.Header
//		AUC float64 `json:"auc"`
//	}
type Header struct {
	// Schema names the kind and version of the file: "greenlight/offline_report/v1". Required.
	Schema string `json:"schema"`
	// Source is required.
	Source Source `json:"source"`
	// CreatedTime is UTC, in milliseconds. If zero, the store sets it.
	CreatedTime time.Time `json:"created_time"`
	// Inputs are the files from which this file was computed. Paths in the evidence folder are recorded relative to it.
	Inputs []Input `json:"inputs"`
	// Model is the model that the file is about, or nil (null).
	Model *Model `json:"model"`
	// Git is the commit of the program that wrote the file. Empty means "unknown".
	Git string `json:"git"`
}

// Model identifies a model and its exact content.
type Model struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// String names the model for people: its version and the first 12 digits of its digest.
func (m Model) String() string { return fmt.Sprintf("%s (%.12s)", m.Version, m.Digest) }

// unknownGit is used if the caller does not know the commit.
const unknownGit = "unknown"

// complete fills in the defaults and copies the inputs.
func (h Header) complete(now time.Time) Header {
	if h.CreatedTime.IsZero() {
		h.CreatedTime = now
	}
	h.CreatedTime = h.CreatedTime.UTC().Truncate(time.Millisecond)
	h.Inputs = append([]Input{}, h.Inputs...) // writes [] instead of null
	if h.Git == "" {
		h.Git = unknownGit
	}
	return h
}

func (h Header) validate() error {
	if h.Schema == "" {
		return fmt.Errorf("header: schema is empty")
	}
	if !h.Source.Valid() {
		return fmt.Errorf("header: source %q is not live, replay or simulated", h.Source)
	}
	for _, in := range h.Inputs {
		if in.Path == "" || !isDigest(in.SHA256) {
			return fmt.Errorf("header: input %q has no SHA-256 (%q)", in.Path, in.SHA256)
		}
	}
	return nil
}

// Source is where the figures of a file come from. Nothing simulated is reported as live.
type Source string

// The sources.
const (
	// Live: measured on running services under real or test load.
	Live Source = "live"
	// Replay: computed from recorded market data.
	Replay Source = "replay"
	// Simulated: computed from simulated data.
	Simulated Source = "simulated"
)

// Valid reports whether s is one of the sources.
func (s Source) Valid() bool { return s == Live || s == Replay || s == Simulated }

// Sources counts requests by their source.
type Sources map[Source]uint64

// Least returns the source of figures that are based on these requests and labelled as claimed: the least live of all
// these sources. Simulated is less live than replay, and replay less than live.
func (s Sources) Least(claimed Source) Source {
	switch {
	case claimed == Simulated || s[Simulated] > 0:
		return Simulated
	case claimed == Replay || s[Replay] > 0:
		return Replay
	}
	return claimed
}
