package bench

import (
	"os"
	"runtime"
	"time"
)

// Machine is where and beside what a result was measured.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
	CPUs int    `json:"cpus"`
	// OtherLoad is the share of the machine's CPU time, in [0,1], that was used by others than the client and the
	// servers, the kernel's interrupts included; -1 where the system does not tell. Above a few percent, measure again.
	// It is an estimate, cut off at 0: the kernel samples the machine's time but sums that of processes up.
	OtherLoad float64 `json:"other_load"`
}

// watcher notes what the machine does meanwhile.
type watcher struct {
	start     time.Time
	busy, own time.Duration
	ok        bool
}

func watchMachine() watcher {
	w := watcher{start: time.Now()}
	var ok bool
	w.busy, w.ok = machineBusy()
	w.own, ok = cpuOf(os.Getpid())
	w.ok = w.ok && ok
	return w
}

// machine is called while the servers still run.
func (w watcher) machine(f *fleet) Machine {
	counted := map[int]bool{}
	var pids []int
	for _, s := range f.sides {
		if pid := s.process.PID(); !counted[pid] {
			counted[pid] = true
			pids = append(pids, pid)
		}
	}
	return w.beside(f.pastCPU, pids...)
}

// beside is the machine, whose other load is that of all but this process, the processes that run, and those that have
// used past.
func (w watcher) beside(past time.Duration, pids ...int) Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(), OtherLoad: -1}
	busy, ok := machineBusy()
	own, ok2 := cpuOf(os.Getpid())
	if !w.ok || !ok || !ok2 {
		return m
	}
	own += past
	for _, pid := range pids {
		cpu, _ := cpuOf(pid)
		own += cpu
	}
	other := (busy - w.busy) - (own - w.own)
	m.OtherLoad = max(0, float64(other)/(float64(time.Since(w.start))*float64(m.CPUs)))
	return m
}
