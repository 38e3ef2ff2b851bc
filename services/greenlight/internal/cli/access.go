package cli

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/pair"
)

// accessFlags say how the services are reached. Every command that calls one has them.
type accessFlags struct {
	pair.Access

	connect pair.Dialer // once it is open
}

// open reads the certificates. It is for commands that connect again and again; the others do so when they dial.
func (a *accessFlags) open() (err error) {
	if a.connect == nil {
		a.connect, err = a.Dialer()
	}
	return err
}

func (a *accessFlags) declare(fs *pflag.FlagSet, c console) {
	a.Logger = slog.New(slog.NewTextHandler(c.err, nil))
	a.TLS.Declare(fs, "", "the services")
}

// declareControl is declare for a command that makes control calls.
func (a *accessFlags) declareControl(fs *pflag.FlagSet, c console) {
	a.declare(fs, c)
	fs.StringVar(&a.TokenFile, "control-token-file", "", "file with the operator's token, for services that ask for it")
}

// again is the flags as they were given, for another command.
func (a *accessFlags) again() string {
	text := ""
	for _, f := range []struct{ name, value string }{
		{"control-token-file", a.TokenFile}, {"tls-ca", a.TLS.CA}, {"tls-cert", a.TLS.Cert}, {"tls-key", a.TLS.Key}, {"tls-server-name", a.TLS.ServerName},
	} {
		if f.value != "" {
			text += fmt.Sprintf(" --%s %s", f.name, f.value)
		}
	}
	return text
}

// endpoint is one service.
type endpoint struct {
	accessFlags

	addr string
}

func (e *endpoint) declare(fs *pflag.FlagSet, c console, name, addr, usage string) {
	e.accessFlags.declare(fs, c)
	targetVar(fs, &e.addr, name, addr, usage)
}

// dial connects, hands the connection to use, and closes it.
func (e *endpoint) dial(use func(*grpc.ClientConn) error) error {
	if err := e.open(); err != nil {
		return err
	}
	conn, err := e.connect(e.addr)
	if err != nil {
		return err
	}
	return errors.Join(use(conn), conn.Close())
}
