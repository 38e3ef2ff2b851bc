package evidence

import (
	"fmt"
	"time"
)

// Header is what every JSON file of evidence says about itself. Its keys stand beside those of the body in one object,
// so a reader embeds it:
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
	// CreatedTime is UTC, in milliseconds. Zero: the store sets it.
	CreatedTime time.Time `json:"created_time"`
	// Inputs are the files that this one was computed from. Paths in the evidence folder are recorded relative to it.
	Inputs []Input `json:"inputs"`
	// Model is the model that the file is about; nil (null) if there is none.
	Model *Model `json:"model"`
	// Git is the commit of the program that wrote the file. Empty: "unknown".
	Git string `json:"git"`
}

// Model names a model and the exact content of it.
type Model struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// unknownGit stands for a commit that the caller does not know.
const unknownGit = "unknown"

// complete fills in the defaults, with a copy of the inputs.
func (h Header) complete(now time.Time) Header {
	if h.CreatedTime.IsZero() {
		h.CreatedTime = now
	}
	h.CreatedTime = h.CreatedTime.UTC().Truncate(time.Millisecond)
	h.Inputs = append([]Input{}, h.Inputs...) // [] and not null where there are none
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
