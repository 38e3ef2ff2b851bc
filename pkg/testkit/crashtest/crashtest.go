// Package crashtest kills programs while they write and checks what they leave behind: every acknowledged operation is there,
// none is partial, none appears that was never begun, and everything can be opened.
package crashtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Writer is the code of a program that writes files and is killed.
type Writer struct {
	// Name is its name in the table.
	Name string
	// Write does one operation after another in the folder, which may not exist yet, and returns only with an error. The first
	// operation has the number op. Write reports the start and the end of each operation. It runs in a separate process.
	Write func(dir string, op int, tell *Teller) error
	// Read opens the folder as the program would, and returns the numbers of the operations that are there. An error means
	// that it cannot be read.
	Read func(dir string) ([]int, error)
	// Latest is set if each operation replaces the previous one, so that only the newest is there.
	Latest bool
}

const (
	// roundsEnv and seedEnv configure the tests; the defaults are small.
	roundsEnv, seedEnv = "CRASH_ROUNDS", "CRASH_SEED"
	// tableEnv names a file that receives a line for every writer.
	tableEnv = "CRASH_TABLE"
	// dirEnv, opEnv and opsEnv are for the writing process: the folder, the first operation, and the number of operations,
	// 0 for no limit.
	dirEnv, opEnv, opsEnv = "CRASH_DIR", "CRASH_OP", "CRASH_OPS"

	defaultRounds = 10
	// lives is how many rounds share a folder: each process continues from the leftovers of the previous kill.
	lives = 8
	// longest is the maximum time that a process writes before it is killed: enough for a few operations.
	longest = 60 * time.Millisecond
	// patience is how long a process may take to start.
	patience = time.Minute
)

// Run kills the writer repeatedly, then checks the order of its syncs. The test must have a unique name and do nothing else,
// since the writing process runs it too.
func Run(t *testing.T, w Writer) {
	if dir := os.Getenv(dirEnv); dir != "" {
		write(t, w, dir)
		return
	}
	t.Run("kill", func(t *testing.T) { kill(t, w, strings.SplitN(t.Name(), "/", 2)[0]) })
	t.Run("power", func(t *testing.T) { power(t, strings.SplitN(t.Name(), "/", 2)[0]) })
}

// Teller reports the progress of a process to its parent, over a pipe that survives a kill.
type Teller struct {
	pipe io.Writer
	left int
}

// Begin reports the start of an operation.
func (t *Teller) Begin(op int) { t.say("begin %d\n", op) }

// Done reports that an operation has returned: from then on it must not be lost.
func (t *Teller) Done(op int) {
	t.say("done %d\n", op)
	if t.left--; t.left == 0 {
		os.Exit(0) // without cleanup
	}
}

func (t *Teller) say(format string, args ...any) {
	if _, err := fmt.Fprintf(t.pipe, format, args...); err != nil {
		os.Exit(2) // the parent has exited
	}
}

func write(t *testing.T, w Writer, dir string) {
	op, err := strconv.Atoi(os.Getenv(opEnv))
	if err != nil {
		t.Fatal(err)
	}
	ops, _ := strconv.Atoi(os.Getenv(opsEnv)) // unset is 0
	tell := &Teller{pipe: os.NewFile(3, "pipe"), left: ops}
	t.Fatal(w.Write(dir, op, tell))
}

// process is the process of a writer.
type process struct {
	*exec.Cmd

	reports *os.File
	out     bytes.Buffer
}

// start runs the test in a separate process, prefixed with the command in before.
func start(t *testing.T, test, dir string, op, ops int, before ...string) *process {
	t.Helper()
	args := slices.Concat(before, []string{os.Args[0], "-test.run=^" + test + "$", "-test.timeout=2m", "-test.count=1"})
	p := &process{Cmd: exec.CommandContext(t.Context(), args[0], args[1:]...)}
	// A killed process does not remove its temporary files.
	p.Env = append(os.Environ(), dirEnv+"="+dir, opEnv+"="+strconv.Itoa(op), opsEnv+"="+strconv.Itoa(ops), "TMPDIR="+t.TempDir())
	p.Stdout, p.Stderr = &p.out, &p.out
	reports, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.reports, p.ExtraFiles = reports, []*os.File{pipe}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	_ = pipe.Close()
	return p
}

// ledger records the reported operations of one folder.
type ledger struct {
	begun map[int]bool
	done  []int
	next  int
	// writing is set if the last process was killed during an operation.
	writing bool
}

// listen reads the reports of the process until it ends, and calls first when an operation has begun.
func (l *ledger) listen(p *process, first func()) {
	l.writing = false
	for lines := bufio.NewScanner(p.reports); lines.Scan(); {
		word, number, _ := strings.Cut(lines.Text(), " ")
		op, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		switch word {
		case "begin":
			l.begun[op], l.next, l.writing = true, op+1, true
			first()
		case "done":
			l.done, l.writing = append(l.done, op), false
		}
	}
	_ = p.reports.Close()
}

// counts is a line of the table.
type counts struct{ rounds, writing, acknowledged, lost, invented, unreadable int }

// judge compares the operations found with the reported ones.
func (l *ledger) judge(found []int, latest bool) (lost, invented []int) {
	there := map[int]bool{}
	for _, op := range found {
		if there[op] || !l.begun[op] {
			invented = append(invented, op)
		}
		there[op] = true
	}
	if !latest {
		for _, op := range l.done {
			if !there[op] {
				lost = append(lost, op)
			}
		}
		return lost, invented
	}
	if len(found) > 1 {
		return nil, found
	}
	if len(l.done) > 0 && (len(found) == 0 || found[0] < l.done[len(l.done)-1]) {
		lost = l.done[len(l.done)-1:]
	}
	return lost, invented
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

func kill(t *testing.T, w Writer, test string) {
	var sum counts
	rounds, seed := number(t, roundsEnv, defaultRounds), number(t, seedEnv, 1)
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(len(test))))
	var dir string
	var reports *ledger
	for round := range rounds {
		if round%lives == 0 {
			dir = filepath.Join(t.TempDir(), "state")
			reports = &ledger{begun: map[int]bool{}, next: 1}
		}
		p := start(t, test, dir, reports.next, 0)
		after := time.Duration(rng.Int64N(int64(longest)))
		alarm := time.AfterFunc(patience, func() { _ = p.Process.Kill() })
		begun := false
		reports.listen(p, func() {
			if !begun {
				begun = true
				alarm.Reset(after)
			}
		})
		alarm.Stop()
		_ = p.Wait() // returns an error, since it was killed
		if !begun {
			t.Fatalf("round %d: the writer did not start:\n%s", round, p.out.String())
		}
		if p.ProcessState.Exited() {
			t.Fatalf("round %d: the writer exited by itself:\n%s", round, p.out.String())
		}
		sum.rounds++
		if reports.writing {
			sum.writing++
		}
		found, err := w.Read(dir)
		if err != nil {
			sum.unreadable++
			t.Errorf("round %d, killed after %v: the files cannot be read: %v\n%s", round, after, err, listing(dir))
			continue
		}
		lost, invented := reports.judge(found, w.Latest)
		if len(lost)+len(invented) > 0 {
			t.Errorf("round %d, killed after %v: lost %v, and found %v, which were not begun or are there twice; %d of %d acknowledged\n%s",
				round, after, lost, invented, len(reports.done), len(reports.begun), listing(dir))
		}
		sum.lost, sum.invented = sum.lost+len(lost), sum.invented+len(invented)
		if (round+1)%lives == 0 || round+1 == rounds {
			sum.acknowledged += len(reports.done)
		}
	}
	t.Logf("%s: %d rounds, %d killed while writing, %d acknowledged, %d lost, %d invented, %d unreadable",
		w.Name, sum.rounds, sum.writing, sum.acknowledged, sum.lost, sum.invented, sum.unreadable)
	sum.print(t, w.Name)
}

// print adds a line to the table, if there is one.
func (s *counts) print(t *testing.T, name string) {
	path := os.Getenv(tableEnv)
	if path == "" {
		return
	}
	table, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	if _, err := fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n",
		name, s.rounds, s.writing, s.acknowledged, s.lost, s.invented, s.unreadable); err != nil {
		t.Fatal(err)
	}
}

// listing lists the files of the folder with their sizes, for a failure message.
func listing(dir string) string {
	var b strings.Builder
	_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintf(&b, "  %8d %s\n", info.Size(), path)
		}
		return nil
	})
	return b.String()
}
