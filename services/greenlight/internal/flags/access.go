// Package flags has the groups of flags that several commands of greenlight and greenlight-lab share, with what they name:
// services, data, a policy, requests.
package flags

import (
	"errors"
	"log/slog"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Access say how the services are reached. Every command that calls a service has all of them.
type Access struct {
	fleet.Access

	// Connect is set by Open.
	Connect fleet.Dialer
	// keyFile has FleetKey.
	keyFile string
}

// Open reads the certificates. Bad ones are wrong usage. Commands that connect repeatedly call it once; [Endpoint.Dial] calls it for the
// others.
func (a *Access) Open() (err error) {
	if a.Connect == nil {
		if a.Connect, err = a.Dialer(); err != nil {
			return console.Usage(err)
		}
	}
	return nil
}

// Declare declares the flags.
func (a *Access) Declare(fs *pflag.FlagSet, c console.Console) {
	a.Logger = slog.New(telemetry.BoundLog(slog.NewTextHandler(c.Err, nil)))
	a.TLS.Declare(fs, "", "the services")
	fs.StringVar(&a.TokenFile, "control-token-file", "", "file with the operator's token, for services that ask for it")
}

// DeclareKey declares the flag of what signs the messages for a group.
func (a *Access) DeclareKey(fs *pflag.FlagSet) {
	fs.Func("fleet-key", "`file` with the private key that signs what the executors of a group obey, PEM; greenlight model keygen makes one", func(path string) (err error) {
		a.keyFile = path
		a.FleetKey, err = dsse.ReadSigner(path)
		return err
	})
}

// Again returns the flags as they were given, for the command line of another command.
func (a *Access) Again() string {
	return Flagged("fleet-key", a.keyFile) + Flagged("control-token-file", a.TokenFile) + Flagged("tls-ca", a.TLS.CA) + Flagged("tls-cert", a.TLS.Cert) +
		Flagged("tls-key", a.TLS.Key) + Flagged("tls-server-name", a.TLS.ServerName)
}

// Flagged returns a blank and the flag as it is typed in a shell; nothing if value is empty.
func Flagged(name, value string) string {
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

// Endpoint is one service.
type Endpoint struct {
	Access

	Addr string
}

// Declare declares the flags; name, addr and usage are those of the address.
func (e *Endpoint) Declare(fs *pflag.FlagSet, c console.Console, name, addr, usage string) {
	e.Access.Declare(fs, c)
	TargetVar(fs, &e.Addr, name, addr, usage)
}

// Dial connects, hands the connection to use, and closes it.
func (e *Endpoint) Dial(use func(*grpc.ClientConn) error) error {
	if err := e.Open(); err != nil {
		return err
	}
	conn, err := e.Connect(e.Addr)
	if err != nil {
		return err
	}
	return errors.Join(use(conn), conn.Close())
}

// TargetVar declares the flag of the gRPC address of a service. An address that cannot be dialled is wrong usage.
func TargetVar(fs *pflag.FlagSet, p *string, name, value, usage string) {
	fs.StringVar(p, name, value, usage)
	console.Check(fs, name, func() error { return rpc.CheckTarget(*p) })
}

// targets is the flag of several addresses: by commas, or given more than once. Unlike a slice of pflag, which reads one line of
// CSV, it takes no part for nothing: a stop must not leave out an executor.
type targets struct {
	of  *[]string
	set bool // the defaults are gone
}

// TargetsVar declares the flag of several addresses.
func TargetsVar(fs *pflag.FlagSet, p *[]string, name string, value []string, usage string) {
	*p = value
	fs.Var(&targets{of: p}, name, usage)
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
