//go:build !linux

package rig

import "time"

// CPU reports no CPU time: this system is not supported.
func CPU(int) (time.Duration, bool) { return 0, false }

func childrenCPU() time.Duration { return 0 }

func machineBusy() (time.Duration, bool) { return 0, false }

// PreciseSleep returns the runtime's sleep.
func PreciseSleep() (sleep func(time.Duration), done func()) { return time.Sleep, func() {} }

// Apart starts a process that shares all CPUs: this system cannot pin processes.
func Apart(start func() error, _ ...int) (answers, asks int, back func() error, err error) {
	return 0, 0, func() error { return nil }, start()
}
