package outcome

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	quality "github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// killDir names the folder for the process that is killed.
const killDir = "OUTCOME_KILL_DIR"

func openIn(dir string) (*Keeper, error) {
	k, err := Open(Options{
		Baseline: baseline, Plan: func() (quality.Plan, uint64) { return planOf(quality.Quotes), 1 }, Dir: dir, Judge: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		k.Start(func() (string, shadow.Label) { return modelA, ranged })
	}
	return k, err
}

// A kill -9 in the middle of rows loses only the rows since the last save, and counts them.
func TestKill(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		written(t, dir)
		return
	}
	dir := t.TempDir()
	sampled := uint64(0)
	for round := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKill$")
		child.Env = append(os.Environ(), killDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var saved, all uint64
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if n, _ := fmt.Sscanf(lines.Text(), "saved %d all %d", &saved, &all); n == 2 {
				break
			}
		}
		_ = child.Process.Kill()
		_ = child.Wait() // it was killed
		cancel()
		if all == 0 {
			t.Fatalf("round %d: the process has written nothing", round)
		}
		sampled += all
		k, err := openIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		labels, lost := quality.LabelCounts{}, uint64(0)
		for _, j := range k.joins {
			l, gone := j.Counts()
			for i, n := range l {
				labels[i] += n
			}
			lost += gone
		}
		if labels.Total()+lost != sampled || lost != (all-saved)*uint64(round+1) {
			t.Errorf("round %d: %d sampled, %d saved of the last %d, and there are %v, %d lost", round, sampled, saved, all, labels, lost)
		}
		if err := k.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// written writes rows, waits until some are saved, writes more, and waits to be killed.
func written(t *testing.T, dir string) {
	k, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	start := k.taken // so that every process has later minutes and other ids
	k.Minute("X", feature.Minute{End: first + int64(start)*minuteMS, High: 101, Low: 100, SigmaRef: 10})
	give := func(n int, name string) {
		for i := range n {
			k.Settled(row(fmt.Sprint(name, start, "-", i), "X", first+int64(start)*minuteMS, 0.2, 0.3))
		}
	}
	give(40, "saved")
	if err := k.saver.Save(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := k.saver.Hold(time.Minute); err != nil { // so that no save follows before the kill
		t.Fatal(err)
	}
	give(7, "unsaved")
	fmt.Println("saved 40 all 47")
	<-t.Context().Done()
}

// The memory of an executor with 100 symbols and labels from quotes. It depends on the bins in use, not on the number of rows: 400
// rows per symbol and minute fill all bins, as would the 6,000 of 10,000 requests a second.
func TestMemory(t *testing.T) {
	k, err := Open(Options{
		Baseline: baseline, Plan: func() (quality.Plan, uint64) { return planOf(quality.Quotes), 1 }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	k.model = func() (string, shadow.Label) { return modelA, ranged }
	before := heap()
	for m := range int64(50) {
		for s := range 100 {
			symbol := fmt.Sprint("SYMBOL-", s)
			k.Minute(symbol, feature.Minute{End: first + m*minuteMS, High: 101, Low: 100, SigmaRef: 10})
			for i := range 400 {
				score := (float64(i/2) + 0.5) / 200
				k.Settled(row(fmt.Sprint(m, "-", s, "-", i), symbol, first+m*minuteMS, score, score))
			}
			k.mu.Lock()
			k.drain()
			k.mu.Unlock()
		}
	}
	if used := heap() - before; used > 50<<20 {
		t.Errorf("%d MB: want at most 50", used>>20)
	} else {
		t.Logf("%d MB", used>>20)
	}
	if labels, _ := k.Counts(); labels.Total() != 50*100*400 {
		t.Errorf("%v", labels)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
