// Package flags has the groups of flags that several commands of greenlight and greenlight-lab share, and opens what they
// name: services, data, a policy, requests.
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

// Access has the flags for reaching the services. Every command that calls a service has all of them.
type Access struct {
	fleet.Access

	// Connect is set by Open.
	Connect fleet.Dialer
	// keyFile is the file with FleetKey.
	keyFile string
}

// Open reads the certificates. Invalid certificates are a usage error. Commands that connect repeatedly call it once; for the
// others, [Endpoint.Dial] calls it.
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
	fs.StringVar(&a.TokenFile, "control-token-file", "", "file with the operator's token, for services that require it")
}

// DeclareKey declares the flag for the key that signs the messages to a group.
func (a *Access) DeclareKey(fs *pflag.FlagSet) {
	fs.Func("fleet-key", "PEM `file` with the private key that signs messages to the executors of a group; greenlight model keygen creates one", func(path string) (err error) {
		a.keyFile = path
		a.FleetKey, err = dsse.ReadSigner(path)
		return err
	})
}

// Again returns the flags as they were given, to print them in another command line.
func (a *Access) Again() string {
	return Flagged("fleet-key", a.keyFile) + Flagged("control-token-file", a.TokenFile) + Flagged("tls-ca", a.TLS.CA) + Flagged("tls-cert", a.TLS.Cert) +
		Flagged("tls-key", a.TLS.Key) + Flagged("tls-server-name", a.TLS.ServerName)
}

// Flagged returns a space and the flag as it is typed in a shell; empty if value is empty.
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

// Declare declares the flags. name, addr and usage are for the flag of the address.
func (e *Endpoint) Declare(fs *pflag.FlagSet, c console.Console, name, addr, usage string) {
	e.Access.Declare(fs, c)
	TargetVar(fs, &e.Addr, name, addr, usage)
}

// Dial connects, calls use with the connection, and closes it.
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

// TargetVar declares the flag for the gRPC address of a service. An address that cannot be dialed is a usage error.
func TargetVar(fs *pflag.FlagSet, p *string, name, value, usage string) {
	fs.StringVar(p, name, value, usage)
	console.Check(fs, name, func() error { return rpc.CheckTarget(*p) })
}

// targets is a flag with several addresses: separated by commas, or given more than once. Unlike a slice in pflag, which reads
// only one line of CSV, it ignores no part of the value: a stop must not leave out an executor.
type targets struct {
	of  *[]string
	set bool // the defaults have been replaced
}

// TargetsVar declares a flag with several addresses.
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
