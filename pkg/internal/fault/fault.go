// Package fault lets tests make the disk fail. Only durable and durabletest import it.
package fault

import (
	"os"
	"sync/atomic"
)

// Sync is called, if set, before a file or folder is synced. Its error becomes the error of the sync.
var Sync atomic.Pointer[func(f *os.File) error]
