package rpc

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// CheckTarget returns an error if target is not a valid gRPC address. gRPC itself accepts any string and retries forever.
func CheckTarget(target string) error {
	if err := checkTarget(target); err != nil {
		return fmt.Errorf("address %q: %w: want host:port, dns:///name:port or unix:/path", target, err)
	}
	return nil
}

func checkTarget(target string) error {
	scheme, rest, found := strings.Cut(target, ":")
	switch {
	case target == "":
		return errors.New("it is empty")
	case !found:
		return errors.New("there is no port")
	case scheme == "unix", scheme == "unix-abstract":
		if u, err := url.Parse(target); err != nil || u.Host != "" || strings.TrimPrefix(rest, "//") == "" {
			return errors.New("a Unix socket needs a path")
		}
		return nil
	case scheme == "dns", scheme == "passthrough":
		if at, ok := strings.CutPrefix(rest, "//"); ok {
			_, rest, _ = strings.Cut(at, "/") // skip the name server, which is usually empty
		}
		return checkHostPort(rest)
	case strings.HasPrefix(rest, "//"):
		return fmt.Errorf("%s:// is not a gRPC scheme", scheme)
	}
	return checkHostPort(target)
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("it is not host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("the port must be a number from 1 to 65535")
	}
	if host == "" || strings.ContainsAny(host, "/\\@?#% \t\r\n") && !strings.Contains(host, ":") {
		return errors.New("the host is missing or invalid")
	}
	return nil
}
