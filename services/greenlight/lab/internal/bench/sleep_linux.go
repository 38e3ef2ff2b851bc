package bench

import (
	"runtime"
	"syscall"
	"time"
)

// prSetTimerSlack is PR_SET_TIMERSLACK of prctl(2).
const prSetTimerSlack = 29

// preciseSleep locks its goroutine to a thread and returns a sleep that is late by microseconds. The runtime's
// own timers are late by up to a millisecond on Linux when a process is otherwise idle, many times the latency of a call
// here. Such a thread keeps one of the runtime's processors while it sleeps, so it gets one beyond those that answers
// are handled with. done gives both back.
func preciseSleep() (sleep func(time.Duration), done func()) {
	runtime.LockOSThread()
	processors := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(processors + 1)
	// Without this the kernel may round up by 50 microseconds. A kernel that refuses is merely less precise.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 1, 0)
	sleep = func(d time.Duration) {
		t := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&t, nil) // woken early by a signal: the call begins early by as much
	}
	return sleep, func() {
		runtime.GOMAXPROCS(processors)
		runtime.UnlockOSThread()
	}
}
