// Package cpus starts a process on one half of the CPUs.
package cpus

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// halves splits the CPUs that this process may run on: one half for the server, the other for the load. ok is false if
// there is only one CPU.
func halves() (answers, asks unix.CPUSet, ok bool) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		return answers, asks, false
	}
	half, seen := all.Count()/2, 0
	for cpu := 0; seen < all.Count(); cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if seen < half {
			answers.Set(cpu)
		} else {
			asks.Set(cpu)
		}
		seen++
	}
	return answers, asks, true
}

// hold pins all threads of the process to the CPUs. New threads inherit that.
func hold(pid int, on unix.CPUSet) error {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	for range 2 { // again for threads that started meanwhile
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

// Apart starts a process on one half of the CPUs, pins this process and the others to the other half, and returns the size
// of each half; 0 if all share. back removes the pins of this process and the others.
func Apart(start func() error, others ...int) (answers, asks int, back func() error, err error) {
	back = func() error { return nil }
	first, second, ok := halves()
	if !ok {
		return 0, 0, back, start()
	}
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return 0, 0, back, err
	}
	pids := append([]int{os.Getpid()}, others...)
	holdAll := func(on unix.CPUSet) error {
		var errs []error
		for _, pid := range pids {
			errs = append(errs, hold(pid, on))
		}
		return errors.Join(errs...)
	}
	back = func() error { return holdAll(all) }
	if err := holdAll(second); err != nil {
		return 0, 0, back, err
	}
	// A child inherits the CPUs of the thread that starts it, and its Go runtime counts those.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		return 0, 0, back, err
	}
	err = start()
	return first.Count(), second.Count(), back, errors.Join(err, unix.SchedSetaffinity(0, &second))
}
