// Package evidence keeps the folder of files that say what was measured, and can prove later that none of them has
// changed. [Open] a store, write files, close it; [Verify] the folder at any time.
//
// # The folder
//
//	offline_report.json   files as they were written: one flat JSON object with a [Header], or text, CSV, SVG
//	daily/...             in sub-folders as well
//	torn/...              ends of chain.jsonl that were cut off by a crash (see below)
//	chain.jsonl           one line for each write: {seq, time, file, sha256, size, prev, hash}
//	chain.head            a copy of the newest line of chain.jsonl
//	.lock                 empty; one writer at a time holds it
//
// Hash is the SHA-256 of the line without its hash, prev the hash of the line before, so no line can be changed, removed
// or put in without breaking each one after it. A file may be written again: the digest of its newest line is the one
// that must hold, older lines are history. The chain finds accidents and edits; it is not a signature. Whoever can write
// the folder can make all of it anew, so write down [Report].Head elsewhere where that matters.
//
// # A write, and what a kill leaves
//
// Each write takes these steps, each one on disk (fsync of file and folder) before the next begins:
//
//  1. the content as a temporary file (.name.tmp) in the folder of its name
//  2. chain.head: the line that will be appended. From here on the write is certain
//  3. the temporary file is renamed to its name
//  4. the line is appended to chain.jsonl
//
// A kill before step 2 leaves a temporary file that nobody was promised: the next Open removes it. A kill after it is
// completed by the next Open, from chain.head, as if it had not happened. Until then Verify says what is unfinished.
// Only content with the digest that chain.head promises is taken in; a file that came into the folder in any other way
// stays "not in the chain".
//
// A last line of chain.jsonl without its end (a torn append) is never dropped: either it is the beginning of the line in
// chain.head, and is completed, or Open moves it to torn/chain-<seq>.txt, which becomes a file of the chain itself. Any
// other break of the chain is not mended: Open refuses with [ErrBroken], since lines after a break would bury it.
package evidence

import (
	"errors"
	"time"
)

// DefaultDir is the folder of evidence in a working copy.
const DefaultDir = "evidence/ml"

// DefaultWait is how long [Open] and [Verify] wait for a writer. Stores are held for the time of a few writes, each of
// some milliseconds.
const DefaultWait = 2 * time.Second

var (
	// ErrLocked means that another writer held the folder for the whole time of waiting.
	ErrLocked = errors.New("evidence folder is in use by another writer")
	// ErrBroken means that the chain does not hold. Verify says where.
	ErrBroken = errors.New("evidence chain is broken")
)

// Names of the store's own files, at the top of the folder.
const (
	chainName = "chain.jsonl"
	headName  = "chain.head"
	lockName  = ".lock"
	tornDir   = "torn"
)
