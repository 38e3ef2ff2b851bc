package rig

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseBusy(t *testing.T) {
	const text = "cpu  100 20 30 9999 888 7 8 9 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n"
	if got, ok := parseBusy(text); !ok || got != 1740*time.Millisecond {
		t.Errorf("got %v, %v; want 1.74s: neither idle nor waiting for a disk is busy", got, ok)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9 10"} {
		if _, ok := parseBusy(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

// The CPU time of a process matches what the system reports when it has ended.
func TestCPU(t *testing.T) {
	before, children := ownCPU(), childrenCPU()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo; read -r end")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has counted
		t.Fatal(err)
	}
	used, ok := CPU(cmd.Process.Pid)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // sh fails to read
	total := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	const rounded = 10 * time.Microsecond
	if !ok || used <= 0 || used > total+rounded {
		t.Errorf("got %v, %v; want more than 0, and at most %v", used, ok, total)
	}
	if got := childrenCPU() - children; got < total-rounded {
		t.Errorf("children: got %v, want at least %v", got, total)
	}
	if got := ownCPU() - before; got < total-rounded {
		t.Errorf("own: got %v, want at least %v", got, total)
	}
	if _, ok := CPU(cmd.Process.Pid); ok {
		t.Error("a process that has ended has a clock")
	}
	if own, ok := CPU(os.Getpid()); !ok || own <= 0 {
		t.Errorf("this process: got %v, %v", own, ok)
	}
}
