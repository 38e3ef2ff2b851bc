//go:build !linux

package faults

// apart starts a process that shares all CPUs: this system cannot pin processes.
func apart(start func() error, _ ...int) (answers, asks int, back func() error, err error) {
	return 0, 0, func() error { return nil }, start()
}
