package bench

import (
	"runtime"
	"syscall"
	"time"
)

// prSetTimerSlack is PR_SET_TIMERSLACK of prctl(2).
const prSetTimerSlack = 29

// preciseSleep locks its goroutine to a thread and returns a sleep that is late by microseconds. The runtime's
// own timers are late by up to a millisecond on Linux in an otherwise idle process, many times the latency of a call here.
// The thread keeps one of the runtime's processors while it sleeps, so GOMAXPROCS grows by one. done undoes both.
func preciseSleep() (sleep func(time.Duration), done func()) {
	runtime.LockOSThread()
	processors := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(processors + 1)
	// Without this the kernel may round up by 50 microseconds. If the kernel refuses, the sleep is less precise.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 1, 0)
	sleep = func(d time.Duration) {
		t := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&t, nil) // woken early by a signal: the call starts early
	}
	return sleep, func() {
		runtime.GOMAXPROCS(processors)
		runtime.UnlockOSThread()
	}
}
