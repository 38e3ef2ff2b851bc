// Package natstest runs NATS servers with JetStream in a test, on free ports of loopback.
package natstest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// Cluster is one server, or several that replicate what they store.
type Cluster struct {
	// URL has the addresses of all servers, separated by commas.
	URL string

	t       testing.TB
	options []*server.Options
	servers []*server.Server
	// account signs credentials; nil if none are needed.
	account nkeys.KeyPair
}

// startWait is how long a server may take to start on a loaded machine.
const startWait = time.Minute

// Start runs n servers until the test ends. They need no credentials.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	c.start(n)
	return c
}

// StartSecured runs one server that needs credentials, see [Cluster.Creds].
func StartSecured(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	operator := c.key(nkeys.CreateOperator)
	resolver := &server.MemAccResolver{}
	account := func(limits jwt.JetStreamLimits) nkeys.KeyPair {
		key := c.key(nkeys.CreateAccount)
		claims := jwt.NewAccountClaims(c.public(key))
		claims.Limits.JetStreamLimits = limits
		token, err := claims.Encode(operator)
		c.must(err)
		c.must(resolver.Store(claims.Subject, token))
		return key
	}
	system := account(jwt.JetStreamLimits{})
	c.account = account(jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit})
	c.start(1, func(o *server.Options) {
		o.TrustedKeys, o.SystemAccount, o.AccountResolver = []string{c.public(operator)}, c.public(system), resolver
	})
	return c
}

// Creds returns a credentials file that allows only these subjects.
func (c *Cluster) Creds(publish, subscribe []string) (path string) {
	c.t.Helper()
	user := c.key(nkeys.CreateUser)
	claims := jwt.NewUserClaims(c.public(user))
	claims.Pub.Allow, claims.Sub.Allow = publish, subscribe
	token, err := claims.Encode(c.account)
	c.must(err)
	seed, err := user.Seed()
	c.must(err)
	raw, err := jwt.FormatUserConfig(token, seed)
	c.must(err)
	path = filepath.Join(c.t.TempDir(), "user.creds")
	c.must(os.WriteFile(path, raw, 0o600))
	return path
}

func (c *Cluster) start(n int, changes ...func(*server.Options)) {
	c.t.Helper()
	var routes []*url.URL
	for range n {
		routes = append(routes, &url.URL{Scheme: "nats", Host: freeAddress(c.t)})
	}
	for i := range n {
		o := &server.Options{
			ServerName: fmt.Sprint("server-", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: c.t.TempDir(),
			// Streams reserve their maximum size; the default total is a fraction of the free disk space.
			JetStreamMaxStore: 64 << 30, NoLog: true, NoSigs: true,
		}
		if n > 1 {
			at, err := net.ResolveTCPAddr("tcp", routes[i].Host)
			c.must(err)
			// Clients learn no other addresses, so that a test may put proxies before the servers.
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: at.Port, NoAdvertise: true}
			o.Routes = routes
		}
		for _, change := range changes {
			change(o)
		}
		c.options, c.servers = append(c.options, o), append(c.servers, nil)
		c.Restart(i)
		c.t.Cleanup(func() { c.Kill(i) })
	}
	var all []string
	for i := range n {
		if !c.servers[i].ReadyForConnections(startWait) {
			c.t.Fatal("a NATS server did not start")
		}
		at := c.servers[i].Addr().(*net.TCPAddr) //nolint:forcetypeassert // it listens on TCP
		c.options[i].Port = at.Port              // for a restart
		all = append(all, "nats://"+at.String())
	}
	c.URL = strings.Join(all, ",")
}

// Kill ends a server. Its stored data stay.
func (c *Cluster) Kill(i int) {
	c.servers[i].Shutdown()
	c.servers[i].WaitForShutdown()
}

// Restart starts a server that was killed.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	s, err := server.NewServer(c.options[i])
	c.must(err)
	c.servers[i] = s
	s.Start()
}

// Traffic returns how many client messages have entered and left the running servers, and their bytes.
func (c *Cluster) Traffic() (messages, bytes int64) {
	for _, s := range c.servers {
		if v, err := s.Varz(&server.VarzOptions{}); err == nil {
			messages, bytes = messages+v.InMsgs+v.OutMsgs, bytes+v.InBytes+v.OutBytes
		}
	}
	return messages, bytes
}

// Leader returns the server that leads the store of the bucket or stream, or -1 if there is no leader now.
func (c *Cluster) Leader(stream string) int {
	for i, s := range c.servers {
		if s.Running() && s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return i
		}
	}
	return -1
}

func (c *Cluster) key(create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	c.t.Helper()
	k, err := create()
	c.must(err)
	return k
}

func (c *Cluster) public(k nkeys.KeyPair) string {
	c.t.Helper()
	p, err := k.PublicKey()
	c.must(err)
	return p
}

func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// freeAddress returns a loopback address that was free a moment ago. Servers of a cluster must know each other's addresses before
// they start.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it is not used
	return l.Addr().String()
}

// Wipe deletes the stored data of a killed server.
func (c *Cluster) Wipe(i int) {
	c.t.Helper()
	c.must(os.RemoveAll(c.options[i].StoreDir))
}
