package flags

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rows"
)

// Rows has the flags for reaching the store of rows at an s3:// URL.
type Rows struct{ rows.Store }

// Declare declares the flags.
func (r *Rows) Declare(fs *pflag.FlagSet) {
	fs.StringVar(&r.Endpoint, "s3-endpoint", "", "`URL` or host of the store for s3:// URLs; AWS by default. Only http:// URLs and loopback hosts are used without TLS")
	fs.StringVar(&r.Region, "s3-region", "", "region of the bucket; by default the store is asked for it")
}

// Validate checks the flags with the s3:// places that were given. Other places, and empty ones, are accepted.
func (r *Rows) Validate(places ...string) error {
	if err := r.Check(); err != nil {
		return console.Usagef("--s3-endpoint: %v", err)
	}
	for _, place := range places {
		if !rows.IsURL(place) {
			continue
		}
		if err := rows.CheckURL(place); err != nil {
			return console.Usage(err)
		}
	}
	return nil
}

// Open opens the feature log in a folder or at an s3:// URL. From an s3:// URL it takes only the newest days that have parts,
// or all if days is 0. The caller must call the returned function after reading the log.
func (r *Rows) Open(ctx context.Context, c console.Console, place string, days int) (featurelog.Log, func() error, error) {
	log, closeLog, err := rows.Open(ctx, r.Store, place, days, c.Progress("reading"))
	return log, closeLog, RowsHint(err)
}

// RowsHint adds a hint to an error of a store.
func RowsHint(err error) error { return console.Advised(err, rows.Hint(err)) }
