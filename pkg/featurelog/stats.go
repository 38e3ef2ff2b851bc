package featurelog

import "time"

// Stats are counts since Open. Once Log and the writer are still, the calls of Log are Written + Dropped + Invalid +
// Pending.
type Stats struct {
	// Written rows are on disk, synced.
	Written uint64
	// Dropped rows came when the bound of Capacity was reached, because the disk was slower than they or failed, or
	// after Close.
	Dropped uint64
	// Invalid rows have no schema, another number of features than it, or more than 4 KiB of text.
	Invalid uint64
	// Pending rows wait to be written.
	Pending uint64
	// WriteErrors counts the files that could not be written. Their rows stay pending.
	WriteErrors uint64
	// LastError is the last of these, nil when there was none, at LastErrorTime. LastWriteTime is when a file was last
	// written: later, and the trouble is over.
	LastError                    error
	LastErrorTime, LastWriteTime time.Time
}
