package flags

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// ReadSchema reads the document of a schema.
func ReadSchema(path string) (*feature.Schema, error) {
	raw, err := durable.ReadFile(path, feature.MaxDocument)
	if err != nil {
		return nil, err
	}
	s, err := feature.ParseSchema(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}
