package cli

import (
	"errors"
	"log/slog"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// accessFlags say how the services are reached. Every command that calls a service has them, all of them: a new flag here
// is a new flag of each.
type accessFlags struct {
	fleet.Access

	connect fleet.Dialer // once it is open
}

// open reads the certificates: flags that name no good ones are wrong usage. It is for commands that connect again and again; the others do so when they dial.
func (a *accessFlags) open() (err error) {
	if a.connect == nil {
		if a.connect, err = a.Dialer(); err != nil {
			return usageError{err}
		}
	}
	return nil
}

func (a *accessFlags) declare(fs *pflag.FlagSet, c Console) {
	a.Logger = slog.New(telemetry.BoundLog(slog.NewTextHandler(c.Err, nil)))
	a.TLS.Declare(fs, "", "the services")
	fs.StringVar(&a.TokenFile, "control-token-file", "", "file with the operator's token, for services that ask for it")
}

// again is the flags as they were given, for the shell line of another command.
func (a *accessFlags) again() string {
	return flagged("control-token-file", a.TokenFile) + flagged("tls-ca", a.TLS.CA) + flagged("tls-cert", a.TLS.Cert) +
		flagged("tls-key", a.TLS.Key) + flagged("tls-server-name", a.TLS.ServerName)
}

// flagged is a flag as it is typed in a shell, after a blank; empty without a value.
func flagged(name, value string) string {
	if value == "" {
		return ""
	}
	if strings.ContainsFunc(value, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._/-:,@%+=", r)
	}) {
		value = "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
	}
	return " --" + name + " " + value
}

// endpoint is one service.
type endpoint struct {
	accessFlags

	addr string
}

func (e *endpoint) declare(fs *pflag.FlagSet, c Console, name, addr, usage string) {
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
