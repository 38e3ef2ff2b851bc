package featurelog

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	datePrefix, schemaPrefix = "date=", "schema="
	partPrefix, partSuffix   = "part-", ".parquet"
	tmpPrefix, tmpSuffix     = ".part-", ".tmp"
)

// partition returns the folder of one day and schema, relative to the log's folder.
func partition(day string, schema string) string {
	return filepath.Join(datePrefix+day, schemaPrefix+url.PathEscape(schema))
}

// dayOf returns the UTC day of t.
func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// walk visits the files of the log in order of day, schema and name, for the days that want accepts.
func walk(dir string, want func(day string) bool, visit func(path string) error) error {
	days, err := names(dir)
	if err != nil {
		return err
	}
	for _, d := range days {
		day, ok := strings.CutPrefix(d, datePrefix)
		if !ok || !want(day) {
			continue
		}
		schemas, err := names(filepath.Join(dir, d))
		if err != nil {
			return err
		}
		for _, s := range schemas {
			if !strings.HasPrefix(s, schemaPrefix) {
				continue
			}
			files, err := names(filepath.Join(dir, d, s))
			if err != nil {
				return err
			}
			for _, f := range files {
				if err := visit(filepath.Join(dir, d, s, f)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// names returns the sorted entries of a folder.
func names(dir string) ([]string, error) {
	entries, err := durable.ReadDir(dir, durable.MaxEntries)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	slices.Sort(out)
	return out, nil
}

// sweep removes partial files left by dead processes.
func sweep(dir string) error {
	var errs []error
	err := walk(dir, func(string) bool { return true }, func(path string) error {
		name := filepath.Base(path)
		if strings.HasPrefix(name, tmpPrefix) && strings.HasSuffix(name, tmpSuffix) {
			if err := durable.RemoveAbandoned(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return nil
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("sweep feature log %q: %w", dir, err)
	}
	return nil
}
