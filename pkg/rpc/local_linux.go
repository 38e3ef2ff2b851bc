package rpc

import (
	"net"
	"syscall"
)

// credentialsOf returns the process that connected, as recorded by the kernel, so that no client can forge it.
func credentialsOf(c *net.UnixConn) (user uint32, pid int32, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var cred *syscall.Ucred
	if ctrlErr := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); ctrlErr != nil || err != nil {
		return 0, 0, false
	}
	return cred.Uid, cred.Pid, true
}
