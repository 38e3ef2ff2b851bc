package experiment

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// OfflineFile is an offline report with its header, from an evidence folder or from a model.
type OfflineFile struct {
	evidence.Header
	OfflineReport
}

// ErrNoOwnReport means that the artifact has no evaluation, because an older version registered the model.
var ErrNoOwnReport = errors.New("the model has no offline evaluation")

// ReadOffline parses an offline report; what names it in errors.
func ReadOffline(what string, raw []byte) (*OfflineFile, error) {
	f := &OfflineFile{}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if !IsOffline(f.Header.Schema) {
		return nil, fmt.Errorf("%s: schema %q: want %q", what, f.Header.Schema, OfflineSchema)
	}
	// A missing figure would be read as 0.
	var figures struct {
		AUC           *float64 `json:"auc"`
		PrecisionAt20 *float64 `json:"precision_at_20"`
		N             *int     `json:"n"`
	}
	if err := json.Unmarshal(raw, &figures); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if figures.AUC == nil || figures.PrecisionAt20 == nil || figures.N == nil || *figures.N < 0 {
		return nil, fmt.Errorf("%s lacks auc, precision_at_20 or n", what)
	}
	return f, nil
}

// Own reads the evaluation in the model's artifact. The error is [ErrNoOwnReport] if there is none.
func Own(a *model.Artifact) (*OfflineFile, error) {
	if a.Offline == nil {
		return nil, ErrNoOwnReport
	}
	name := fmt.Sprintf("%s/%s/%s", a.Manifest.Name, a.Manifest.Version, model.OfflineFile)
	f, err := ReadOffline(name, a.Offline)
	if err != nil {
		return nil, err
	}
	if f.Model == nil || f.Model.Digest != a.Digest() {
		return nil, fmt.Errorf("%s is the report for another model", name)
	}
	return f, nil
}
