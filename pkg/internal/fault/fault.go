// Package fault is where tests make a disk fail. Nothing but durable and durabletest imports it.
package fault

import (
	"os"
	"sync/atomic"
)

// Sync is asked before a file or folder is synced, when it is set; its error is that of the sync.
var Sync atomic.Pointer[func(f *os.File) error]
