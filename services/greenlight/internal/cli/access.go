package cli

import (
	"errors"
	"log/slog"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// accessFlags say how the services are reached. Every command that calls a service has all of them.
type accessFlags struct {
	fleet.Access

	connect fleet.Dialer // set by open
}

// open reads the certificates. Bad ones are wrong usage. Commands that connect repeatedly call it once; dial calls it for the
// others.
func (a *accessFlags) open() (err error) {
	if a.connect == nil {
		if a.connect, err = a.Dialer(); err != nil {
			return console.Usage(err)
		}
	}
	return nil
}

func (a *accessFlags) declare(fs *pflag.FlagSet, c console.Console) {
	a.Logger = slog.New(telemetry.BoundLog(slog.NewTextHandler(c.Err, nil)))
	a.TLS.Declare(fs, "", "the services")
	fs.StringVar(&a.TokenFile, "control-token-file", "", "file with the operator's token, for services that ask for it")
}

// again returns the flags as they were given, for the command line of another command.
func (a *accessFlags) again() string {
	return flagged("control-token-file", a.TokenFile) + flagged("tls-ca", a.TLS.CA) + flagged("tls-cert", a.TLS.Cert) +
		flagged("tls-key", a.TLS.Key) + flagged("tls-server-name", a.TLS.ServerName)
}

// flagged returns a blank and the flag as it is typed in a shell; nothing if value is empty.
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

func (e *endpoint) declare(fs *pflag.FlagSet, c console.Console, name, addr, usage string) {
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

// target is the flag of a service's gRPC address. An address that cannot be dialled is wrong usage.
type target string

// String implements pflag.Value.
func (t *target) String() string { return string(*t) }

// Type implements pflag.Value.
func (*target) Type() string { return "string" }

// Set implements pflag.Value.
func (t *target) Set(s string) error {
	*t = target(s)
	return rpc.CheckTarget(s)
}

func targetVar(fs *pflag.FlagSet, p *string, name, value, usage string) {
	*p = value
	fs.Var((*target)(p), name, usage)
}

// targets is the flag of several addresses: by commas, or given more than once.
type targets struct {
	of  *[]string
	set bool // the defaults are gone
}

// String implements pflag.Value.
func (t *targets) String() string {
	if t.of == nil {
		return "[]"
	}
	return "[" + strings.Join(*t.of, ",") + "]"
}

// Type implements pflag.Value.
func (*targets) Type() string { return "strings" }

// Set implements pflag.Value.
func (t *targets) Set(s string) error {
	if !t.set {
		*t.of, t.set = nil, true
	}
	for addr := range strings.SplitSeq(s, ",") {
		addr = strings.TrimSpace(addr)
		if err := rpc.CheckTarget(addr); err != nil {
			return err
		}
		*t.of = append(*t.of, addr)
	}
	return nil
}

func targetsVar(fs *pflag.FlagSet, p *[]string, name string, value []string, usage string) {
	*p = value
	fs.Var(&targets{of: p}, name, usage)
}
