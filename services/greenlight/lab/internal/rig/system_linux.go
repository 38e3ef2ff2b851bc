package rig

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// CPU returns the CPU time that the process has used. ok is false once it has ended, and on systems other than Linux.
func CPU(pid int) (used time.Duration, ok bool) {
	const scheduled, bits = 2, 3 // the clock of a process's CPU time: see clock_getcpuclockid(3)
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<bits|scheduled), &t) != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}

// childrenCPU returns the CPU time of the children that have ended.
func childrenCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &u) // never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machineBusy returns the CPU time that the whole machine has used.
func machineBusy() (time.Duration, bool) {
	raw, err := durable.ReadFile("/proc/stat", durable.MaxDocument)
	if err != nil {
		return 0, false
	}
	return parseBusy(string(raw))
}

// parseBusy adds user, nice, system, irq, softirq and steal time of the first line of /proc/stat.
func parseBusy(text string) (sum time.Duration, ok bool) {
	const tick = 10 * time.Millisecond // the same on all Linux platforms of Go
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, false
	}
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, false
		}
		sum += time.Duration(n) * tick
	}
	return sum, true
}

// PreciseSleep locks its goroutine to a thread and returns a sleep that is late by microseconds only. On Linux, the runtime's
// timers are late by up to a millisecond in an otherwise idle process, many times the latency of a call here. The thread
// occupies one of the runtime's processors while it sleeps, so GOMAXPROCS grows by one. done undoes both.
func PreciseSleep() (sleep func(time.Duration), done func()) {
	runtime.LockOSThread()
	processors := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(processors + 1)
	// Without this the kernel may round up by 50 microseconds. If the kernel refuses, the sleep is less precise.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	sleep = func(d time.Duration) {
		t := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&t, nil) // woken early by a signal: the call starts early
	}
	return sleep, func() {
		runtime.GOMAXPROCS(processors)
		runtime.UnlockOSThread()
	}
}

// hold pins all threads of the process to the CPUs. New threads inherit the pinning.
func hold(pid int, on unix.CPUSet) error {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	for range 2 { // again, for threads that started meanwhile
		threads, err := durable.ReadDir(dir, durable.MaxEntries)
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("%s: thread %q", dir, t.Name())
			}
			if err := unix.SchedSetaffinity(id, &on); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("hold process %d to half of the CPUs: %w", pid, err)
			}
		}
	}
	return nil
}

// Apart starts a process on one half of the CPUs, pins this process and the others to the other half, and returns the size of
// each half; 0 if all share a single CPU. back unpins this process and the others.
func Apart(start func() error, others ...int) (answers, asks int, back func() error, err error) {
	back = func() error { return nil }
	var all, first, second unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		return 0, 0, back, start()
	}
	for cpu := 0; first.Count()+second.Count() < all.Count(); cpu++ {
		switch {
		case !all.IsSet(cpu):
		case first.Count() < all.Count()/2:
			first.Set(cpu)
		default:
			second.Set(cpu)
		}
	}
	holdAll := func(on unix.CPUSet) error {
		var errs []error
		for _, pid := range append([]int{os.Getpid()}, others...) {
			errs = append(errs, hold(pid, on))
		}
		return errors.Join(errs...)
	}
	back = func() error { return holdAll(all) }
	if err := holdAll(second); err != nil {
		return 0, 0, back, err
	}
	// A child inherits the CPUs of the thread that starts it, and its Go runtime counts only those.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		return 0, 0, back, err
	}
	err = start()
	return first.Count(), second.Count(), back, errors.Join(err, unix.SchedSetaffinity(0, &second))
}
