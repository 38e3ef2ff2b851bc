//go:build !linux

// Package cpus starts a process on one half of the CPUs.
package cpus

// Apart starts a process that shares all CPUs: this system cannot pin processes.
func Apart(start func() error, _ ...int) (answers, asks int, back func() error, err error) {
	return 0, 0, func() error { return nil }, start()
}
