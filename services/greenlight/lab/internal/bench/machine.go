package bench

import (
	"os"
	"runtime"
	"slices"
	"time"
)

// Machine describes the machine that measured a result, and its other load.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
	CPUs int    `json:"cpus"`
	// OtherLoad is the share of the machine's CPU time, in [0,1], of other programs than the client and the
	// servers, including interrupts; -1 if the system does not report it. Above a few percent, measure again. It is an
	// estimate, at least 0: the kernel samples the machine's time, but adds up that of processes.
	OtherLoad float64 `json:"other_load"`
}

// Watch measures the load of the machine from its start.
type Watch struct {
	start     time.Time
	busy, own time.Duration
	ok        bool
}

// WatchMachine starts a Watch.
func WatchMachine() Watch {
	w := Watch{start: time.Now()}
	var ok bool
	w.busy, w.ok = machineBusy()
	w.own, ok = CPU(os.Getpid())
	w.ok = w.ok && ok
	return w
}

// machine describes the machine. Call it while the servers still run.
func (f *fleet) machine(w Watch) Machine {
	var pids []int
	for _, s := range f.sides {
		if pid := s.process.PID(); !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return w.Machine(f.pastCPU, pids...)
}

// Machine describes the machine. Its other load excludes this process, the running processes pids, and the CPU time past of
// processes that have ended.
func (w Watch) Machine(past time.Duration, pids ...int) Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(), OtherLoad: -1}
	busy, ok := machineBusy()
	own, ok2 := CPU(os.Getpid())
	if !w.ok || !ok || !ok2 {
		return m
	}
	own += past
	for _, pid := range pids {
		cpu, _ := CPU(pid)
		own += cpu
	}
	other := (busy - w.busy) - (own - w.own)
	m.OtherLoad = max(0, float64(other)/(float64(time.Since(w.start))*float64(m.CPUs)))
	return m
}
