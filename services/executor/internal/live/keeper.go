package live

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// savePeriod is how often the features are saved, and therefore how much a kill can lose. Features change by the minute.
const savePeriod = time.Minute

// Keeper saves a book to its folder periodically and when it stops.
type Keeper struct {
	book   *Book
	folder Folder
	saver  *durable.Saver // nil without a folder
	// saved is the book's number of changes at the last save. Only save uses it.
	saved       uint64
	writeErrors atomic.Uint64
}

// Keep starts a keeper. Without a folder it saves nothing.
func Keep(book *Book, folder Folder, logger *slog.Logger) *Keeper {
	k := &Keeper{book: book, folder: folder}
	if folder != "" {
		k.saver = durable.StartSaver(durable.SaverOptions{
			Save: k.save, Period: savePeriod, Subject: "the features are", Risk: "a restart may continue with older ones", Logger: logger,
		})
	}
	return k
}

// save saves the book if it has changed.
func (k *Keeper) save() error {
	changes := k.book.changes()
	if changes == k.saved {
		return nil
	}
	if err := k.folder.save(k.book.Builders); err != nil {
		k.writeErrors.Add(1)
		return err
	}
	k.saved = changes
	return nil
}

// Trouble describes a failing folder. It is empty if the features are saved, or if there is no folder.
func (k *Keeper) Trouble() string { return k.saver.Trouble() }

// Stop saves the latest features. It returns an error if that fails or ctx ends first.
func (k *Keeper) Stop(ctx context.Context) error { return k.saver.Stop(ctx) }
