package featurelog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	executorPrefix           = "executor="
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

// Part is a file of a log.
type Part struct {
	// executor and schema are names of folders; executor is empty in the folder of one executor.
	executor string
	// Day is the UTC day of arrival of its rows.
	Day    string
	schema string
	name   string
}

// Path returns the path of the file relative to the folder of the log, with slashes.
func (p Part) Path() string { return path.Join(p.executor, datePrefix+p.Day, p.schema, p.name) }

// In returns the part as a file of the named executor, in the layout of several executors.
func (p Part) In(executor string) Part {
	p.executor = executorPrefix + url.PathEscape(executor)
	return p
}

// ParsePart returns the part with the path, see [Part.Path], or false if it is not the path of a part.
func ParsePart(name string) (Part, bool) {
	var p Part
	steps := strings.Split(name, "/")
	if strings.HasPrefix(name, executorPrefix) {
		p.executor, steps = steps[0], steps[1:]
	}
	if len(steps) != 3 {
		return p, false
	}
	day, ok := strings.CutPrefix(steps[0], datePrefix)
	_, err := time.Parse(time.DateOnly, day)
	p.Day, p.schema, p.name = day, steps[1], steps[2]
	return p, ok && err == nil && strings.HasPrefix(p.schema, schemaPrefix) && p.complete()
}

// complete reports whether the file has the name of a complete part. It is not a temporary or another file.
func (p Part) complete() bool {
	return strings.HasPrefix(p.name, partPrefix) && strings.HasSuffix(p.name, partSuffix)
}

func (p Part) compare(q Part) int {
	return cmp.Or(strings.Compare(p.Day, q.Day), strings.Compare(p.schema, q.schema), strings.Compare(p.name, q.name), strings.Compare(p.executor, q.executor))
}

// MaxDayFiles limits the files of one day, of all executors together.
const MaxDayFiles = 1 << 20

// walk visits the files of the log in order of day, schema, name and executor, for the days that want accepts.
func walk(dir string, want func(day string) bool, visit func(Part) error) error {
	days, err := daysOf(dir)
	if err != nil {
		return err
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		if !want(day) {
			continue
		}
		var parts []Part
		for _, executor := range days[day] {
			if parts, err = appendParts(parts, dir, executor, day); err != nil {
				return err
			}
		}
		slices.SortFunc(parts, Part.compare)
		for _, p := range parts {
			if err := visit(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// daysOf returns the days of the log, each with the folders of its executors. The name for the log's own folder is empty.
func daysOf(dir string) (map[string][]string, error) {
	top, err := names(dir)
	if err != nil {
		return nil, err
	}
	days := map[string][]string{}
	add := func(executor string, entries []string) {
		for _, name := range entries {
			if day, ok := strings.CutPrefix(name, datePrefix); ok {
				days[day] = append(days[day], executor)
			}
		}
	}
	add("", top)
	for _, name := range top {
		if !strings.HasPrefix(name, executorPrefix) {
			continue
		}
		below, err := names(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		add(name, below)
	}
	return days, nil
}

// appendParts appends the files of one executor and day.
func appendParts(parts []Part, dir, executor, day string) ([]Part, error) {
	folder := filepath.Join(dir, executor, datePrefix+day)
	schemas, err := names(folder)
	if err != nil {
		return nil, err
	}
	for _, s := range schemas {
		if !strings.HasPrefix(s, schemaPrefix) {
			continue
		}
		files, err := names(filepath.Join(folder, s))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			parts = append(parts, Part{executor, day, s, f})
		}
		if len(parts) > MaxDayFiles {
			return nil, fmt.Errorf("%s: more than %d files of %s: read fewer executors at a time", dir, MaxDayFiles, day)
		}
	}
	return parts, nil
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
	return out, nil
}

// sweep removes partial files left by dead processes.
func sweep(dir string) error {
	var errs []error
	err := walk(dir, func(string) bool { return true }, func(p Part) error {
		if strings.HasPrefix(p.name, tmpPrefix) && strings.HasSuffix(p.name, tmpSuffix) {
			if err := durable.RemoveAbandoned(filepath.Join(dir, p.Path())); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
