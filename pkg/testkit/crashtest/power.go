package crashtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

// tracedOps is how many operations are traced.
const tracedOps = 6

// calls are the system calls that change or sync files.
const calls = "openat,mkdirat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlinkat,ftruncate"

// power checks what a power cut would do. A kill does not show that, since the kernel keeps what was written. When an
// operation is acknowledged, the writer's system calls must have synced everything, and it must not rename a file with
// unsynced content.
func power(t *testing.T, test string) {
	strace := need.Program(t, "strace", "strace")
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, trace := filepath.Join(base, "state"), filepath.Join(base, "trace")
	p := start(t, test, dir, 1, tracedOps, strace, "-f", "-y", "-s", "4096", "-e", "trace="+calls, "-e", "signal=none", "-o", trace)
	reports := &ledger{begun: map[int]bool{}}
	reports.listen(p, func() {})
	if err := p.Wait(); err != nil {
		if len(reports.begun) == 0 {
			need.Missing(t, "strace cannot trace here: %v\n%s", err, p.out.String())
		}
		t.Fatalf("%v\n%s", err, p.out.String())
	}
	file, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d := newDisk(base)
	if err := d.follow(file); err != nil {
		t.Fatal(err)
	}
	if d.acknowledged != tracedOps || d.syncs == 0 {
		t.Errorf("saw %d acknowledged operations and %d syncs: want %d, and at least one sync", d.acknowledged, d.syncs, tracedOps)
	}
	for _, f := range d.faults {
		t.Error(f)
	}
}

// disk tracks what a power cut would lose below a folder. Names that begin with a dot are temporary files and locks, which
// may be lost. Only their content at a rename matters.
type disk struct {
	base string
	// files have unsynced content, folders have unsynced names.
	files, folders map[string]bool
	there          map[string]bool
	faults         []string

	acknowledged, syncs int
}

func newDisk(base string) *disk {
	return &disk{base: base, files: map[string]bool{}, folders: map[string]bool{}, there: map[string]bool{}}
}

var (
	// unfinished matches a call that another thread interrupts in the trace; the rest of the line comes later.
	unfinished = regexp.MustCompile(`^(\d+) +(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	call       = regexp.MustCompile(`^\d+ +(\w+)\((.*)\) += (-?\d+)`)
	// described matches a descriptor with its path, named a path relative to a descriptor.
	described = regexp.MustCompile(`^\d+<([^>]*)>`)
	named     = regexp.MustCompile(`(?:AT_FDCWD|\d+)<([^>]*)>, "([^"]*)"`)
)

// follow reads a trace of strace -f -y.
func (d *disk) follow(trace io.Reader) error {
	begun := map[string]string{}
	lines := bufio.NewScanner(trace)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		line := lines.Text()
		if m := unfinished.FindStringSubmatch(line); m != nil {
			begun[m[1]] = m[2]
			continue
		}
		if m := resumed.FindStringSubmatch(line); m != nil {
			line = m[1] + " " + begun[m[1]] + m[2]
		}
		if m := call.FindStringSubmatch(line); len(m) > 3 && !strings.HasPrefix(m[3], "-") {
			d.take(m[1], m[2])
		}
	}
	return lines.Err()
}

// take processes one successful call.
func (d *disk) take(name, args string) {
	file := ""
	if m := described.FindStringSubmatch(args); m != nil {
		file = m[1]
	}
	var paths []string
	for _, m := range named.FindAllStringSubmatch(args, -1) {
		path := m[2]
		if !filepath.IsAbs(path) {
			path = filepath.Join(m[1], path)
		}
		paths = append(paths, filepath.Clean(path))
	}
	switch name {
	case "write", "writev", "pwrite64":
		if strings.HasPrefix(file, "pipe:") && strings.Contains(args, `"done `) {
			d.acknowledge(args)
		} else if d.below(file) {
			d.files[file] = true
		}
	case "ftruncate":
		if d.below(file) {
			d.files[file] = true
		}
	case "fsync", "fdatasync":
		d.syncs++
		delete(d.files, file)
		delete(d.folders, file)
	case "openat":
		if len(paths) == 1 && d.below(paths[0]) && strings.Contains(args, "O_CREAT") && !d.there[paths[0]] {
			d.appear(paths[0])
		}
	case "mkdirat":
		if len(paths) == 1 && d.below(paths[0]) {
			d.appear(paths[0])
		}
	case "unlinkat":
		if len(paths) == 1 {
			delete(d.files, paths[0])
			delete(d.there, paths[0])
		}
	case "rename", "renameat", "renameat2":
		if len(paths) == 2 && d.below(paths[1]) {
			d.rename(paths[0], paths[1])
		}
	}
}

func (d *disk) below(path string) bool { return strings.HasPrefix(path, d.base+"/state") }

func (d *disk) appear(path string) {
	d.there[path] = true
	if !strings.HasPrefix(filepath.Base(path), ".") {
		d.folders[filepath.Dir(path)] = true
	}
}

func (d *disk) rename(from, to string) {
	for _, unsynced := range []map[string]bool{d.files, d.folders} {
		for path := range unsynced {
			if path == from || strings.HasPrefix(path, from+"/") {
				d.faults = append(d.faults, fmt.Sprintf("%s becomes %s while %s is not synced", from, to, path))
				delete(unsynced, path)
			}
		}
	}
	delete(d.there, from)
	d.appear(to)
}

// acknowledge records the end of an operation, after which nothing may be lost.
func (d *disk) acknowledge(what string) {
	d.acknowledged++
	var lost []string
	for path := range d.files {
		if !strings.HasPrefix(filepath.Base(path), ".") {
			lost = append(lost, path)
		}
	}
	for path := range d.folders {
		lost = append(lost, path+"/")
	}
	slices.Sort(lost)
	if len(lost) > 0 {
		d.faults = append(d.faults, fmt.Sprintf("%s: not synced yet: %s", what, strings.Join(lost, ", ")))
	}
}
