package live

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// savePeriod is how often the features are saved, and so what a kill can lose. Features change by the minute.
const savePeriod = time.Minute

// Keeper saves a book to its folder periodically and when it stops. Only its goroutine saves.
type Keeper struct {
	book   *Book
	folder Folder
	logger *slog.Logger
	stop   chan struct{}
	done   chan struct{}
	// saved is the book's number of changes at the last save, err the error of the last save. Only the goroutine uses them
	// until done is closed.
	saved uint64
	err   error
	// writeErrors counts failed saves; failing is set if the last one failed.
	writeErrors atomic.Uint64
	failing     atomic.Bool
}

// Keep starts a keeper. Without a folder it saves nothing.
func Keep(book *Book, folder Folder, logger *slog.Logger) *Keeper {
	k := &Keeper{book: book, folder: folder, logger: logger, stop: make(chan struct{}), done: make(chan struct{})}
	if folder == "" {
		close(k.done)
		return k
	}
	go k.run()
	return k
}

func (k *Keeper) run() {
	defer close(k.done)
	tick := time.NewTicker(savePeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.save()
		case <-k.stop:
			k.save()
			return
		}
	}
}

// save saves the book if it has changed. A failure is logged, and the next tick retries.
func (k *Keeper) save() {
	changes := k.book.changes()
	if changes == k.saved && k.err == nil {
		return
	}
	k.err = k.folder.save(k.book.Builders)
	k.failing.Store(k.err != nil)
	if k.err != nil {
		k.writeErrors.Add(1)
		k.logger.Error("the features were not saved: a restart may continue with older ones", "error", k.err)
		return
	}
	k.saved = changes
}

// Trouble describes a failing folder. It is empty if the features are saved, or if there is no folder.
func (k *Keeper) Trouble() string {
	if k.failing.Load() {
		return "the features are not saved"
	}
	return ""
}

// Stop saves the latest features. It returns an error if that fails or ctx ends first. It must be called only once.
func (k *Keeper) Stop(ctx context.Context) error {
	close(k.stop)
	select {
	case <-k.done:
	case <-ctx.Done():
		return fmt.Errorf("save the features: %w", ctx.Err())
	}
	if k.err != nil {
		return fmt.Errorf("save the features: %w", k.err)
	}
	return nil
}
