// Package evidence keeps measurements as files in a folder, and can later prove that none of them has changed. [Open] a
// store, write files, close it; [Verify] the folder at any time.
//
// # The folder
//
//	offline_report.json   files as they were written: one flat JSON object with a [Header], or text, CSV, SVG
//	daily/...             files in sub-folders
//	torn/...              ends of chain.jsonl that were torn by a crash (see below)
//	chain.jsonl           one line per write: {seq, time, file, sha256, size, prev, hash}
//	chain.head            a copy of the newest line of chain.jsonl
//	chain.sig.jsonl       with a key: the signature of each line of chain.jsonl
//	.lock                 empty; one writer at a time holds it
//
// Hash is the SHA-256 of the line without its hash, and prev is the hash of the previous line. So no line can be
// changed, removed or inserted without breaking every line after it. A file may be written again: it must match the
// digest of its newest line; older lines are history. The chain alone detects accidents and edits: anyone who can write the
// folder can rebuild all of it. With a key every line is signed, and [Report.Trust] detects a rebuilt folder. Lines removed
// from the end are detected only by a head that is kept elsewhere: see [Report.Pin] and [Witness].
//
// # A write, and what a kill leaves
//
// A write has these steps. Each one is on disk (fsync of file and folder) before the next starts:
//
//  1. the content is written as a temporary file (.name.tmp) in the target folder
//  2. with a key, the line that will be appended is signed; then chain.head gets it, and from here on the write is committed
//  3. the temporary file is renamed to its name
//  4. the line is appended to chain.jsonl
//
// A kill before step 2 leaves a temporary file of a write that was not committed: the next Open removes it. After a later
// kill, the next Open completes the write from chain.head. Until then Verify reports it as unfinished. Only content with the
// digest in chain.head is accepted; a file that got into the folder in any other way stays "not in the chain".
//
// A last line of chain.jsonl without its line end (a torn append) is never dropped. If it is the start of the line in
// chain.head, Open completes it. Otherwise Open moves it to torn/chain-<seq>.txt, which becomes a file of the chain.
// Open does not repair any other break of the chain: it returns [ErrBroken], since lines after a break would hide it.
package evidence

import (
	"errors"
	"time"
)

// DefaultDir is the evidence folder in a working copy.
const DefaultDir = "evidence/ml"

// DefaultWait is how long [Open] and [Verify] wait for a writer. A writer holds the folder only for a few writes of a few
// milliseconds each.
const DefaultWait = 2 * time.Second

var (
	// ErrLocked means that another writer held the folder during the whole wait.
	ErrLocked = errors.New("evidence folder is in use by another writer")
	// ErrBroken means that the chain does not verify. Verify reports where.
	ErrBroken = errors.New("evidence chain is broken")
)

// Names of the store's own files, at the top of the folder.
const (
	chainName = "chain.jsonl"
	headName  = "chain.head"
	lockName  = ".lock"
	tornDir   = "torn"
)
