package rig

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// Machine describes the machine that measured a result, and its other load.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
	CPUs int    `json:"cpus"`
	// OtherLoad is the share of the machine's CPU time, in [0,1], used by programs other than the client and the servers,
	// including interrupts; -1 if the system does not report it. Above a few percent, measure again. It is an estimate, and at
	// least 0: the kernel samples the machine's time, but adds up the time of processes.
	OtherLoad float64 `json:"other_load"`
}

// Watch measures the load of the machine from its start.
type Watch struct {
	Start     time.Time
	busy, own time.Duration
	ok        bool
}

// WatchMachine starts a Watch.
func WatchMachine() Watch {
	w := Watch{Start: time.Now()}
	w.busy, w.ok = machineBusy()
	w.own = ownCPU()
	return w
}

// ownCPU returns the CPU time of this process and of its children that have ended.
func ownCPU() time.Duration {
	own, _ := CPU(os.Getpid())
	return own + childrenCPU()
}

// Machine describes the machine. Its other load excludes this process, its children that have ended, and the running processes pids.
func (w Watch) Machine(pids ...int) Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(), OtherLoad: -1}
	busy, ok := machineBusy()
	if !w.ok || !ok {
		return m
	}
	own := ownCPU()
	for _, pid := range pids {
		cpu, _ := CPU(pid)
		own += cpu
	}
	other := (busy - w.busy) - (own - w.own)
	m.OtherLoad = max(0, float64(other)/(float64(time.Since(w.Start))*float64(m.CPUs)))
	return m
}

// Machine describes the machine while the processes run.
func (r *Rig) Machine(w Watch) Machine {
	r.mu.Lock()
	defer r.mu.Unlock()
	var pids []int
	for _, p := range r.running {
		if p.Err() == nil { // if it has ended, ownCPU includes it
			pids = append(pids, p.PID())
		}
	}
	return w.Machine(pids...)
}

// Load describes the other load.
func (m Machine) Load() string {
	if m.OtherLoad < 0 {
		return "other load unknown"
	}
	return fmt.Sprintf("%.0f %% of them busy with other work", 100*m.OtherLoad)
}
