package lifecycle

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

// CheckListen returns an error if addr is not a valid listen address. flag is the option with the address; grpc allows a
// Unix socket.
func CheckListen(addr, flag string, grpc bool) error {
	want, err := "host:port, port 0 for a free one", checkListen(addr, grpc)
	if grpc {
		want += ", or unix:path"
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w: want %s", flag, addr, err, want)
	}
	return nil
}

func checkListen(addr string, grpc bool) error {
	if isSocket(addr) {
		if !grpc {
			return errors.New("this listener supports TCP only")
		}
		_, err := socketPath(addr)
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("there is no port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return errors.New("the port must be a number from 0 to 65535")
	}
	return nil
}
