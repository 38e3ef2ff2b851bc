package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	// socketScheme is the prefix of Unix socket addresses, as in gRPC targets: unix:path or unix:///path.
	socketScheme = "unix:"
	// maxSocketPath is the longest path that Linux can bind, in bytes: sun_path has 108, and the last is a zero.
	maxSocketPath = 107
	// folderLock is how long to wait for another process to bind or remove a socket in the folder; it takes microseconds.
	folderLock = 2 * time.Second
)

// SocketMode is the file mode of a Unix socket; write permission allows connecting. As a flag it is in octal digits.
type SocketMode fs.FileMode

// DefaultSocketMode lets the process's user and group connect.
const DefaultSocketMode SocketMode = 0o660

// String implements flag.Value.
func (m *SocketMode) String() string { return fmt.Sprintf("%04o", uint32(*m)) }

// Set implements flag.Value.
func (m *SocketMode) Set(s string) error {
	v, err := strconv.ParseUint(s, 8, 32)
	if err != nil || v&^0o777 != 0 || v&0o600 != 0o600 {
		return errors.New("want an octal mode from 0600 to 0777 that includes the owner, for example 0660")
	}
	*m = SocketMode(v)
	return nil
}

// Listen binds a TCP address and closes it with the stack. flag is the option with the address, for error messages.
func (s *Stack) Listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	if isSocket(addr) {
		return nil, fmt.Errorf("listen on %s (%s): this listener supports TCP only: give host:port", addr, flag)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another process has this port; stop it or choose another with %s", addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s (%s): %w", addr, flag, err)
	}
	s.closeOnStop(addr, l)
	return l, nil
}

func (s *Stack) closeOnStop(addr string, l net.Listener) {
	s.OnStop("listener "+addr, func(context.Context) error {
		// The listener's server has usually closed it already.
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
}

// WriteAddresses writes "name=address" lines to the file, so that the parent of a service on port 0 can find it. Clients can
// dial the addresses. An empty path does nothing.
func WriteAddresses(path string, addrs map[string]net.Addr) error {
	if path == "" {
		return nil
	}
	var lines []byte
	for _, name := range slices.Sorted(maps.Keys(addrs)) {
		lines = fmt.Appendf(lines, "%s=%s\n", name, target(addrs[name]))
	}
	if err := durable.WriteFile(path, lines, 0o600); err != nil {
		return fmt.Errorf("address file: %w", err)
	}
	return nil
}

// target returns the address for clients to dial: "unix:/path" for a Unix socket, otherwise host and port.
func target(addr net.Addr) string {
	if addr.Network() == "unix" {
		return socketScheme + addr.String()
	}
	return addr.String()
}

// listenGRPC binds a gRPC address and closes it with the stack. The address is host and port, or a Unix socket ("unix:path",
// "unix:///path"). A stale socket file is replaced; a socket in use is an error. The file has the mode as soon as it exists,
// and is removed when the listener closes. flag is the option with the address, for error messages.
func (s *Stack) listenGRPC(ctx context.Context, addr string, mode SocketMode, flag string) (net.Listener, error) {
	if !isSocket(addr) {
		return s.Listen(ctx, addr, flag)
	}
	path, err := socketPath(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (%s): %w", addr, flag, err)
	}
	l, err := bindSocket(ctx, path, fs.FileMode(mode))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another process answers there; stop it or choose another path with %s", addr, flag)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("listen on %s (%s): there is no folder %s: create it, writable for the user of this process", addr, flag, filepath.Dir(path))
	case err != nil:
		return nil, fmt.Errorf("listen on %s (%s): %w", addr, flag, err)
	}
	s.closeOnStop(addr, l)
	return l, nil
}

// isSocket reports whether the address is of a Unix socket.
func isSocket(addr string) bool {
	return strings.HasPrefix(addr, socketScheme) || strings.HasPrefix(addr, "unix-abstract:")
}

// socketPath returns the absolute path of the address, which gRPC clients parse as a URL.
func socketPath(addr string) (string, error) {
	path, ok := strings.CutPrefix(addr, socketScheme)
	if !ok || strings.HasPrefix(path, "@") {
		return "", errors.New("an abstract socket has no file, and so no permissions: give unix:path")
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host != "" || strings.ContainsAny(path, "?#%") {
		return "", errors.New("want unix:path or unix:///path, without ?, # and %")
	}
	path = strings.TrimPrefix(path, "//")
	if path == "" || strings.HasSuffix(path, "/") {
		return "", errors.New("a Unix socket needs the path of a file")
	}
	// Absolute, because readers of the address file or the log may not know the working directory.
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("the path %s has %d bytes, but the system allows %d: choose a shorter one", path, len(path), maxSocketPath)
	}
	return path, nil
}

// socket is the listener of a Unix socket.
type socket struct {
	*net.UnixListener

	path  string
	file  fs.FileInfo
	close func() error
}

func bindSocket(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// Linux creates the file with the mode of the socket minus the umask, so nobody can connect between bind and chmod.
		// For other systems there is chmod.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}}
	bound, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	l, ok := bound.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("unexpected listener type %T", bound), bound.Close())
	}
	file, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.SetUnlinkOnClose(false) // it could remove the file of a process that has since taken the path
	s := &socket{UnixListener: l, path: path, file: file}
	s.close = sync.OnceValue(s.remove)
	return s, nil
}

// Close implements net.Listener. Closing twice is an error, as with other listeners.
func (s *socket) Close() error { return errors.Join(s.close(), s.UnixListener.Close()) }

// remove removes the file, unless another process has replaced it.
func (s *socket) remove() error {
	unlock, err := lockFolder(filepath.Dir(s.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err // the file stays, and the next process replaces it
	}
	defer unlock()
	if now, err := os.Lstat(s.path); err != nil || !os.SameFile(now, s.file) {
		return nil // it is gone already
	}
	return os.Remove(s.path)
}

// removeStale removes the file of a socket without a listener. It returns EADDRINUSE if there is a listener.
func removeStale(ctx context.Context, path string) error {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if file.Mode().Type() != fs.ModeSocket {
		return errors.New("the path is a file that is not a socket: remove it, or choose another path")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(syscall.EADDRINUSE, conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, syscall.EAGAIN): // a listener that is too busy to accept
		return syscall.EADDRINUSE
	}
	return fmt.Errorf("cannot tell whether the process of the existing socket still runs; if it does not, remove the file: %w", err)
}

// lockFolder keeps other processes from binding and removing sockets in the folder. If two find the same stale file, the
// second must not remove the socket that the first has just bound. The kernel releases the lock of a dead process.
func lockFolder(dir string) (unlock func(), err error) {
	f, err := durable.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(f, folderLock); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the folder %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// checkListen returns an error if addr is not a valid listen address. flag is the option with the address; grpc allows a
// Unix socket.
func checkListen(addr, flag string, grpc bool) error {
	want, err := "host:port, port 0 for a free one", checkAddress(addr, grpc)
	if grpc {
		want += ", or unix:path"
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w: want %s", flag, addr, err, want)
	}
	return nil
}

func checkAddress(addr string, grpc bool) error {
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
