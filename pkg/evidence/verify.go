package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Verify recomputes everything that the folder dir ("" means DefaultDir) claims: each link of the chain and the digest
// of each file, that no file is missing or unknown to the chain, and the digests of inputs that are files of the
// folder. It changes nothing, and waits a short time for a writer to finish (ErrLocked). The error is for a folder that
// cannot be read; everything else that does not verify is in the report.
func Verify(dir string) (Report, error) {
	if dir == "" {
		dir = DefaultDir
	}
	report := Report{Dir: dir, Problems: []Problem{}, Stale: []Problem{}, Ignored: []Problem{}}
	root, err := durable.OpenRoot(dir)
	if err != nil {
		return report, fmt.Errorf("verify evidence: %w", err)
	}
	defer root.Close()
	// Without a lock file (in a copy of a folder) there is no writer to wait for.
	if lock, err := durable.OpenIn(root, lockName); err == nil {
		defer lock.Close()
		if err := durable.RLock(lock, DefaultWait); err != nil {
			return report, fmt.Errorf("verify evidence %q: %w", dir, lockError(err))
		}
	}
	v := verifier{folder: folder{root}, Report: &report}
	if err := v.run(); err != nil {
		return report, fmt.Errorf("verify evidence %q: %w", dir, err)
	}
	return report, nil
}

// verifier is one run of Verify.
type verifier struct {
	*Report
	folder folder
	chain  chain
	// lost is the file whose line is in chain.head but not in chain.jsonl.
	lost string
	// unknown lists the files that are neither in the chain nor the store's.
	unknown []string
}

func (v *verifier) run() error {
	data, err := v.folder.read(chainName)
	if err != nil {
		return err
	}
	v.chain, err = parseChain(data)
	v.entries, v.Lines, v.Head = v.chain.entries, len(v.chain.entries), v.chain.last().Hash
	var broken *lineError
	if errors.As(err, &broken) {
		// Lines after a break cannot be trusted, so the files are not judged.
		v.problem(chainName, broken.line, "%v", broken.err)
		return nil
	}
	switch {
	case data == nil:
		v.problem(chainName, 0, "missing")
	case len(v.chain.tail) > 0:
		v.problem(chainName, v.Lines+1, "torn: it has no line end (the next Open completes it or sets it aside)")
	case v.Lines == 0:
		v.problem(chainName, 0, "empty: there is nothing to verify")
	}
	if err := v.head(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(v.chain.newest)) {
		v.file(v.chain.newest[name])
	}
	if err := v.folder.files(v.known); err != nil {
		return err
	}
	v.strangers()
	for _, name := range slices.Sorted(maps.Keys(v.chain.newest)) {
		if isJSON(name) {
			v.inputs(name)
		}
	}
	return nil
}

// head compares chain.head with the newest line.
func (v *verifier) head() error {
	head, err := v.folder.read(headName)
	if err != nil {
		return err
	}
	last, err := v.chain.lastLine()
	if err != nil || bytes.Equal(head, last) {
		return err
	}
	if head == nil {
		v.problem(headName, 0, "missing")
	} else if e, err := parseEntry(head, v.chain.last()); err == nil {
		v.lost = e.File
		v.problem(headName, 0, "has line %d about %s, which is not in %s: a write was cut short (the next Open completes it) "+
			"or the last line was removed", e.Seq, e.File, chainName)
	} else {
		v.problem(headName, 0, "is not a copy of the newest line of %s (line %d)", chainName, v.Lines)
	}
	return nil
}

// file compares a file with its newest entry.
func (v *verifier) file(e entry) {
	sum, size, err := v.folder.digest(e.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.problem(e.File, 0, "missing; it is in line %d of %s", e.Seq, chainName)
	case err != nil:
		v.problem(e.File, 0, "cannot be read: %v", err)
	case sum == e.SHA256 && size == e.Size:
		v.Files++
	case v.chain.had(e.File, sum):
		v.problem(e.File, 0, "is an older version than line %d of %s says", e.Seq, chainName)
	case size != e.Size:
		v.problem(e.File, 0, "has %d bytes, line %d of %s says %d", size, e.Seq, chainName, e.Size)
	default:
		v.problem(e.File, 0, "has SHA-256 %s, line %d of %s says %s", short(sum), e.Seq, chainName, short(e.SHA256))
	}
}

// known reports a file that was not written through a store.
func (v *verifier) known(name string) error {
	_, inChain := v.chain.newest[name]
	switch {
	case inChain, name == chainName, name == headName, name == sealName:
	case name == lockName:
		if info, err := v.folder.root.Lstat(name); err != nil || !info.Mode().IsRegular() || info.Size() != 0 {
			v.problem(name, 0, "is not an empty file")
		}
	case isTemp(name):
		v.problem(name, 0, "not in the chain: left by a write that was cut short (the next Open removes or completes it)")
	case Litter(name) != "":
		v.Ignored = append(v.Ignored, Problem{name, 0, "not in the chain: " + Litter(name) + " left it here; it is not evidence, and is ignored"})
	default:
		v.unknown = append(v.unknown, name)
	}
	return nil
}

// strangers reports files not written through a store: each file, but a folder without evidence only once.
func (v *verifier) strangers() {
	ours := map[string]bool{".": true}
	for name := range v.chain.newest {
		for dir := path.Dir(name); !ours[dir]; dir = path.Dir(dir) {
			ours[dir] = true
		}
	}
	groups := map[string][]string{}
	for _, name := range v.unknown {
		group := name
		for dir := path.Dir(name); !ours[dir]; dir = path.Dir(dir) {
			group = dir
		}
		groups[group] = append(groups[group], name)
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		switch all := groups[group]; {
		case len(all) == 1 && all[0] == v.lost:
			v.problem(v.lost, 0, "not in the chain: its line is in %s alone", headName)
		case len(all) == 1:
			v.problem(all[0], 0, "not in the chain: no greenlight command wrote it here, so it is not evidence; move it out of the folder")
		default:
			v.problem(group+"/", 0, "a folder with %d files that are not in the chain, such as %s: no greenlight command wrote them here, so they are not evidence; move it out of the evidence folder", len(all), all[0])
		}
	}
}

// inputs compares the digests of inputs that are files of the folder.
func (v *verifier) inputs(name string) {
	data, err := v.folder.read(name)
	if err != nil || data == nil || Sum(data) != v.chain.newest[name].SHA256 {
		return // file has reported it
	}
	var h Header
	if err := json.Unmarshal(data, &h); err != nil {
		v.problem(name, 0, "has no readable header: %v", err)
		return
	}
	if err := h.validate(); err != nil {
		v.problem(name, 0, "%v", err)
		return
	}
	for _, in := range h.Inputs {
		newest, ours := v.chain.newest[in.Path]
		switch {
		case !ours, in.SHA256 == newest.SHA256:
		case v.chain.had(in.Path, in.SHA256):
			v.Stale = append(v.Stale, Problem{name, 0, fmt.Sprintf(
				"was computed from an older version of %s (%s, now %s)", in.Path, short(in.SHA256), short(newest.SHA256))})
		default:
			v.problem(name, 0, "says its input %s has SHA-256 %s; no version of it has", in.Path, short(in.SHA256))
		}
	}
}
