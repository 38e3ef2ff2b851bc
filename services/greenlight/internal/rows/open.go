package rows

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
)

const (
	// maxPart limits an object, in bytes. A part of executor has a few megabytes.
	maxPart = 1 << 30
	// maxListed limits the objects of a dataset, maxFetched the parts that are read.
	maxListed, maxFetched = 10_000_000, 1 << 20
	// maxBytes limits the total size of the copied parts, in bytes.
	maxBytes = 64 << 30
	// streams is the number of objects copied in parallel.
	streams = 8
)

// Open opens the log at a place: a folder, or the URL of a dataset in a store, which is copied to a temporary folder. It
// copies the newest days of a dataset that have parts, or all if days is 0. The caller must call closeLog after reading the
// log. progress is called with the kilobytes copied so far, and the total.
func Open(ctx context.Context, store Store, place string, days int, progress func(done, total int)) (log featurelog.Log, closeLog func() error, err error) {
	if !IsURL(place) {
		return featurelog.Log{Dir: place}, func() error { return nil }, nil
	}
	b, err := store.bucket(place)
	if err != nil {
		return log, nil, err
	}
	parts, err := b.list(ctx, days)
	if err != nil {
		return log, nil, err
	}
	var size int64
	for _, o := range parts {
		size += o.size
	}
	if size > maxBytes {
		return log, nil, fmt.Errorf("%s has %d bytes of parts to read: want at most %d (64 GiB); choose fewer days, or one executor", b, size, int64(maxBytes))
	}
	if len(parts) == 0 {
		return log, nil, fmt.Errorf("%s at %s has no parts of a feature log", b, b.store)
	}
	dir, err := os.MkdirTemp("", "greenlight-rows-")
	if err != nil {
		return log, nil, err
	}
	remove := func() error { return os.RemoveAll(dir) }
	if err := b.fetch(ctx, parts, dir, progress); err != nil {
		return log, nil, errors.Join(err, remove())
	}
	return featurelog.Log{Dir: dir, Origin: b.String()}, remove, nil
}

// object is a part in a store.
type object struct {
	part featurelog.Part
	size int64
	etag string
}

// list returns the parts of the newest days, or of all if days is 0.
func (b *bucket) list(ctx context.Context, days int) ([]object, error) {
	byDay, kept, listed, last := map[string][]object{}, 0, 0, ""
	err := b.again(ctx, func() error {
		pages := new(atomic.Int64)
		for o := range b.client.ListObjectsIter(context.WithValue(ctx, pagesKey{}, pages), b.name, minio.ListObjectsOptions{Prefix: b.prefix, Recursive: true, StartAfter: last}) {
			if o.Err != nil {
				return b.fail(o.Err)
			}
			if o.Key <= last { // otherwise the listing might never end
				return &localError{fmt.Errorf("%s at %s: the store lists objects out of order: %q after %q", b, b.store, o.Key, last)}
			}
			last = o.Key
			pages.Store(0)
			if listed++; listed > maxListed {
				return &localError{fmt.Errorf("%s has more than %d objects: choose a longer prefix", b, maxListed)}
			}
			name, ok := strings.CutPrefix(o.Key, b.prefix)
			part, isPart := featurelog.ParsePart(name)
			if !ok || !isPart {
				continue
			}
			if o.Size < 0 || o.Size > maxPart {
				return &localError{fmt.Errorf("%s has %d bytes: executor never writes a part of more than %d", b.url(name), o.Size, maxPart)}
			}
			byDay[part.Day] = append(byDay[part.Day], object{part, o.Size, o.ETag})
			kept++
			if days > 0 && len(byDay) > days {
				oldest := slices.Min(slices.Collect(maps.Keys(byDay)))
				kept -= len(byDay[oldest])
				delete(byDay, oldest)
			}
			if kept > maxFetched {
				return &localError{fmt.Errorf("%s has more than %d parts to read: choose fewer days, or one executor", b, maxFetched)}
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	var parts []object
	for _, day := range slices.Sorted(maps.Keys(byDay)) {
		parts = append(parts, byDay[day]...)
	}
	return parts, nil
}

// fetch copies the objects into the folder.
func (b *bucket) fetch(ctx context.Context, parts []object, dir string, progress func(done, total int)) error {
	root, err := durable.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var total, done atomic.Int64
	for _, o := range parts {
		total.Add(o.size)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(streams)
	for _, o := range parts {
		group.Go(func() error {
			if err := b.again(ctx, func() error { return b.copyTo(ctx, root, o) }); err != nil {
				return err
			}
			done.Add(o.size)
			return nil
		})
		progress(int(done.Load()>>10), int(total.Load()>>10)) // used by one goroutine only
	}
	err = group.Wait()
	progress(int(total.Load()>>10), int(total.Load()>>10))
	return err
}

// copyTo copies an object to its path below root, and checks it against the digest that its writer stored.
func (b *bucket) copyTo(ctx context.Context, root *os.Root, o object) error {
	name := o.part.Path()
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return &localError{err}
	}
	f, err := durable.OpenFileIn(root, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return &localError{err}
	}
	h := sha256.New()
	want, err := b.get(ctx, name, o.size, o.etag, io.MultiWriter(f, h))
	if closed := f.Close(); err == nil && closed != nil {
		err = &localError{closed}
	}
	if got := hex.EncodeToString(h.Sum(nil)); err == nil && cmp.Or(want, got) != got {
		err = &localError{fmt.Errorf("%s is damaged: its SHA-256 is %.12s, but the part's is %.12s", b.url(name), got, want)}
	}
	return err
}
