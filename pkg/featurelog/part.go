package featurelog

import (
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// part is a file that grows: the rows of one day and schema, of which the first saved are on disk.
type part struct {
	key   partKey
	path  string
	rows  []*Row
	saved int
}

// partKey tells which rows share a file. Two schemas of one name, as when one was changed, do not.
type partKey struct{ day, schema, hash string }

// newPart begins a part. Its name is of this process alone.
func newPart(dir, instance string, seq int, key partKey, now time.Time) *part {
	name := fmt.Sprintf("%s%s-%s-%06d%s", partPrefix, now.UTC().Format("20060102T150405Z"), instance, seq, partSuffix)
	return &part{key: key, path: filepath.Join(dir, partition(key.day, key.schema), name)}
}

func (p *part) unsaved() int { return len(p.rows) - p.saved }

// save writes all rows, in place of what was there.
func (p *part) save(d disk) error {
	err := d.save(p.path, func(w io.Writer) error { return encode(w, p.rows[0].Schema, p.rows) })
	if err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	p.saved = len(p.rows)
	return nil
}
