// Package crashtest kills programs in the middle of writing, and holds what they leave to what they promise: nothing that
// was acknowledged is lost, nothing half is there, nothing is there that was never begun, and all of it opens again.
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

// Writer is what is killed: the code of a program that writes files.
type Writer struct {
	// Name is its line in the table.
	Name string
	// Write does one operation after another in the folder, which may not exist yet, and never returns without an error.
	// The first has the number op; of each it tells when it is begun and when it is done. It runs in a process of its own.
	Write func(dir string, op int, tell *Teller) error
	// Read opens what was left, as the program would, and returns the numbers of the operations that are there. An error
	// means that it cannot be read.
	Read func(dir string) ([]int, error)
	// Latest says that each operation replaces the one before, so that only the newest is there.
	Latest bool
}

const (
	// roundsEnv and seedEnv are for the tests that kill; the defaults are lean.
	roundsEnv, seedEnv = "CRASH_ROUNDS", "CRASH_SEED"
	// tableEnv names a file that gets a line for every writer.
	tableEnv = "CRASH_TABLE"
	// dirEnv, opEnv and opsEnv are for the process that writes: where, from which operation on, and how many of them, 0 for
	// as many as there is time for.
	dirEnv, opEnv, opsEnv = "CRASH_DIR", "CRASH_OP", "CRASH_OPS"

	defaultRounds = 10
	// lives is how many rounds share a folder: a process goes on from what a kill left, and is killed.
	lives = 8
	// longest is how long a process may write before it is killed: some operations.
	longest = 60 * time.Millisecond
	// patience is how long a process may take to begin.
	patience = time.Minute
)

// Run kills the writer again and again, then looks in which order it syncs. The test must have a name of its own and do
// nothing else: the process that writes runs it too.
func Run(t *testing.T, w Writer) {
	if dir := os.Getenv(dirEnv); dir != "" {
		write(t, w, dir)
		return
	}
	t.Run("kill", func(t *testing.T) { kill(t, w, strings.SplitN(t.Name(), "/", 2)[0]) })
	t.Run("power", func(t *testing.T) { power(t, strings.SplitN(t.Name(), "/", 2)[0]) })
}

// Teller is how a process tells its parent, over a pipe that survives it.
type Teller struct {
	pipe io.Writer
	left int
}

// Begin is called before the operation.
func (t *Teller) Begin(op int) { t.say("begin %d\n", op) }

// Done is called when the operation has returned: from then on it is promised.
func (t *Teller) Done(op int) {
	t.say("done %d\n", op)
	if t.left--; t.left == 0 {
		os.Exit(0) // without any tidying up
	}
}

func (t *Teller) say(format string, args ...any) {
	if _, err := fmt.Fprintf(t.pipe, format, args...); err != nil {
		os.Exit(2) // nobody listens any more
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

// process is a writer's.
type process struct {
	*exec.Cmd

	told *os.File
	out  bytes.Buffer
}

// start runs the test in a process of its own, behind the words of a command.
func start(t *testing.T, test, dir string, op, ops int, before ...string) *process {
	t.Helper()
	args := slices.Concat(before, []string{os.Args[0], "-test.run=^" + test + "$", "-test.timeout=2m", "-test.count=1"})
	p := &process{Cmd: exec.CommandContext(t.Context(), args[0], args[1:]...)}
	p.Env = append(os.Environ(), dirEnv+"="+dir, opEnv+"="+strconv.Itoa(op), opsEnv+"="+strconv.Itoa(ops))
	p.Stdout, p.Stderr = &p.out, &p.out
	told, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.told, p.ExtraFiles = told, []*os.File{pipe}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	_ = pipe.Close()
	return p
}

// ledger is what was told of one folder.
type ledger struct {
	begun map[int]bool
	done  []int
	next  int
	// writing says that the last process was killed between a beginning and its end.
	writing bool
}

// listen takes in what the process tells until it ends, and calls first when an operation has begun.
func (l *ledger) listen(p *process, first func()) {
	l.writing = false
	for lines := bufio.NewScanner(p.told); lines.Scan(); {
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
	_ = p.told.Close()
}

// tally is a line of the table.
type tally struct{ rounds, writing, acknowledged, lost, invented, unreadable int }

// judge holds what is there to what was told.
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
	var sum tally
	rounds, seed := number(t, roundsEnv, defaultRounds), number(t, seedEnv, 1)
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(len(test))))
	var dir string
	var told *ledger
	for round := range rounds {
		if round%lives == 0 {
			dir = filepath.Join(t.TempDir(), "state")
			told = &ledger{begun: map[int]bool{}, next: 1}
		}
		p := start(t, test, dir, told.next, 0)
		after := time.Duration(rng.Int64N(int64(longest)))
		alarm := time.AfterFunc(patience, func() { _ = p.Process.Kill() })
		begun := false
		told.listen(p, func() {
			if !begun {
				begun = true
				alarm.Reset(after)
			}
		})
		alarm.Stop()
		_ = p.Wait() // it was killed, which is an error
		if !begun {
			t.Fatalf("round %d: the writer has not begun:\n%s", round, p.out.String())
		}
		if p.ProcessState.Exited() {
			t.Fatalf("round %d: the writer ended by itself:\n%s", round, p.out.String())
		}
		sum.rounds++
		if told.writing {
			sum.writing++
		}
		found, err := w.Read(dir)
		if err != nil {
			sum.unreadable++
			t.Errorf("round %d, killed after %v: what is left cannot be read: %v\n%s", round, after, err, listing(dir))
			continue
		}
		lost, invented := told.judge(found, w.Latest)
		if len(lost)+len(invented) > 0 {
			t.Errorf("round %d, killed after %v: lost %v, and %v are there that were not begun or are there twice; %d of %d acknowledged\n%s",
				round, after, lost, invented, len(told.done), len(told.begun), listing(dir))
		}
		sum.lost, sum.invented = sum.lost+len(lost), sum.invented+len(invented)
		if (round+1)%lives == 0 || round+1 == rounds {
			sum.acknowledged += len(told.done)
		}
	}
	t.Logf("%s: %d rounds, %d killed while writing, %d acknowledged, %d lost, %d invented, %d unreadable",
		w.Name, sum.rounds, sum.writing, sum.acknowledged, sum.lost, sum.invented, sum.unreadable)
	sum.print(t, w.Name)
}

// print adds a line to the table, if there is one.
func (s *tally) print(t *testing.T, name string) {
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

// listing is the files of the folder with their sizes, for a failure.
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
