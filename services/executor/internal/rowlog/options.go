package rowlog

import (
	"log/slog"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
)

// Options configures a [Log].
type Options struct {
	// Files says where the rows go, and how often.
	Files featurelog.Options
	// Logger is told when rows are not written, or dropped. Required.
	Logger *slog.Logger
}
