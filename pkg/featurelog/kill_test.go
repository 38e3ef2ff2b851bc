package featurelog

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// victimEnv names the folder of the log of a test process that is to be killed.
const victimEnv = "FEATURELOG_VICTIM"

const victimInterval = 10 * time.Millisecond

// victim logs rows in order until it is killed, and reports how many are written.
func victim(dir string) {
	l, err := Open(Options{Dir: dir, Interval: victimInterval, PartRows: 300})
	if err != nil {
		panic(err)
	}
	s, err := newSchema("v", "h", []string{"a", "b", "c"})
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		l.Log(Row{RequestID: fmt.Sprint(i), Schema: s, Features: []float64{float64(i), 2, 3}, Outcome: "match"})
		if i%5 == 0 {
			fmt.Println(l.Stats().Written, i+1)
			time.Sleep(500 * time.Microsecond)
		}
	}
}

// SIGKILL at any point: every file under a final name is whole, no row is missing in between or there twice, and what was
// reported as written is there. A next process sweeps up, and goes on beside it.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	halves := 0
	dir := t.TempDir()
	for round := range 20 {
		round := filepath.Join(dir, fmt.Sprint(round))
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victimEnv+"="+round)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		reported, logged := 0, 0
		lines := bufio.NewScanner(out)
		kill := func() {}
		for lines.Scan() {
			var n, k int
			if _, err := fmt.Sscan(lines.Text(), &n, &k); err == nil {
				reported, logged = n, k
			}
			if reported > 0 { // it is under way
				kill()
				kill = func() {}
			} else {
				kill = func() {
					time.AfterFunc(time.Duration(rng.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
				}
			}
		}
		_ = cmd.Wait() // killed

		for _, f := range list(t, round) {
			if strings.HasSuffix(f, tmpSuffix) {
				halves++
			}
		}
		rows := all(t, round)
		if len(rows) < reported {
			t.Errorf("round %s: %d rows, but %d were reported as written", round, len(rows), reported)
		}
		for i, r := range rows {
			if r.RequestID != fmt.Sprint(i) {
				t.Fatalf("round %s: row %d of %d is of request %s", round, i, len(rows), r.RequestID)
			}
		}
		l, err := Open(Options{Dir: round})
		if err != nil {
			t.Fatal(err)
		}
		stop(t, l)
		for _, f := range list(t, round) {
			if strings.HasSuffix(f, tmpSuffix) {
				t.Errorf("%s was not swept", f)
			}
		}
		t.Logf("logged %d or more, reported as written %d, found %d in %d files", logged, reported, len(rows), len(list(t, round)))
	}
	t.Logf("%d kills left a temporary file", halves)
}
