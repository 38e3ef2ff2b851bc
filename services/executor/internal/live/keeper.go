package live

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// savePeriod is how often the features are saved: what a kill can lose. Minutes are what they are made of.
const savePeriod = time.Minute

// Keeper saves a book into its folder from time to time, and when it stops. One goroutine does it, and alone.
type Keeper struct {
	book   *Book
	folder Folder
	logger *slog.Logger
	stop   chan struct{}
	done   chan struct{}
	// saved is the changes of the book when it was last saved, and err how the last save ended. Both are the goroutine's
	// until done is closed.
	saved uint64
	err   error
	// writeErrors counts the saves that failed; failing says that the last did.
	writeErrors atomic.Uint64
	failing     atomic.Bool
}

// Keep starts a keeper. Without a folder it keeps nothing.
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

// save saves the book unless nothing has changed. A failure is told, and tried again at the next turn.
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

// Trouble says what is wrong with the folder at the moment; nothing when the features are saved, or nowhere.
func (k *Keeper) Trouble() string {
	if k.failing.Load() {
		return "the features are not saved"
	}
	return ""
}

// Stop saves what was observed last. It returns an error when that failed or takes longer than ctx. It is called once.
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
