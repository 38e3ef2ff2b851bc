package natsgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/group"
)

// Options configures a carrier.
type Options struct {
	// URL has the servers of one cluster, with commas between them: nats://host:port, or tls://host:port.
	URL string
	// Group is the name of the group.
	Group string
	// Creds is a NATS credentials file, CA a file with the CA certificates that sign the servers' certificates (PEM). Both are
	// optional, and read again for every connection.
	Creds, CA string
	// Name is the name of the connection, for people.
	Name   string
	Logger *slog.Logger
}

// Validate returns an error for the first option that cannot be used.
func (o *Options) Validate() error {
	if err := group.CheckName(o.Group); err != nil {
		return fmt.Errorf("group %w", err)
	}
	for server := range strings.SplitSeq(o.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		switch {
		case err != nil: // its text contains the address, which may have a password
			return errors.New("the address of a NATS server cannot be read: want nats://host:port or tls://host:port")
		case u.User != nil:
			return fmt.Errorf("the address %s has a user or a password: use a credentials file", u.Redacted())
		case u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "":
			return fmt.Errorf("address %.200q: want nats://host:port or tls://host:port", server)
		}
	}
	for _, path := range []string{o.Creds, o.CA} {
		if path == "" {
			continue
		}
		if _, err := durable.ReadFile(path, maxFile); err != nil {
			return err
		}
	}
	return nil
}

// maxFile bounds a file with credentials or certificates, in bytes.
const maxFile = 1 << 20

const (
	// dialWait bounds the connection to one server.
	dialWait = 2 * time.Second
	// writeWait bounds a write, after which the connection is given up. Until then a call may outlive its context.
	writeWait = 2 * time.Second
	// pingPeriod is the time between pings to a silent server. After two unanswered pings the connection is closed.
	pingPeriod = 5 * time.Second
	// retryWait is the time between rounds through all servers, retryJitter how much longer it takes at random.
	retryWait, retryJitter = time.Second, 2 * time.Second
)

// Open returns a carrier that connects in the background and reconnects without limit. The caller must call Close.
func Open(o Options) (*Carrier, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &Carrier{opts: o, opened: make(chan struct{})}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	go c.connect(ctx)
	return c, nil
}

// connect opens the connection, which can take dialWait for each server.
func (c *Carrier) connect(ctx context.Context) {
	defer close(c.opened)
	o, log := &c.opts, c.opts.Logger
	options := []nats.Option{
		nats.Name(o.Name), nats.Timeout(dialWait), nats.SetCustomDialer(dialer{ctx}),
		nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(), nats.MaxReconnects(-1),
		nats.ReconnectWait(retryWait), nats.ReconnectJitter(retryJitter, retryJitter),
		nats.ReconnectBufSize(-1), // sending without a connection fails
		nats.FlusherTimeout(writeWait), nats.PingInterval(pingPeriod), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if ctx.Err() == nil {
				log.Warn("the connection to NATS was lost", "servers", o.URL, "error", err)
			}
		}),
		nats.ConnectHandler(func(nc *nats.Conn) { log.Info("connected to NATS", "server", nc.ConnectedAddr()) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("connected to NATS", "server", nc.ConnectedAddr()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("NATS reported an error", "error", err)
		}),
	}
	if o.Creds != "" {
		options = append(options, nats.UserCredentials(o.Creds))
	}
	if o.CA != "" {
		options = append(options, nats.RootCAs(o.CA))
	}
	nc, err := nats.Connect(o.URL, options...)
	if err == nil {
		c.nc = nc
		c.js, err = jetstream.New(nc)
	}
	if err != nil {
		c.err = err
		log.Error("no connection to NATS is possible", "servers", o.URL, "error", err)
	}
}

// Close ends the connection. Calls that wait return.
func (c *Carrier) Close() {
	c.cancel()
	<-c.opened
	if c.nc != nil {
		c.nc.Close()
	}
}

// dialer ends a dial when ctx ends.
type dialer struct{ ctx context.Context } //nolint:containedctx // nats.go has no other way to end a dial

// Dial implements [nats.CustomDialer].
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialWait}).DialContext(d.ctx, network, address)
}

// connected waits until the first connection was tried, and returns an error unless there is one now.
func (c *Carrier) connected(ctx context.Context) error {
	select {
	case <-c.opened:
	case <-ctx.Done():
		return fmt.Errorf("not connected to %s yet: %w", c.opts.URL, ctx.Err())
	}
	switch {
	case c.err != nil:
		return c.err
	case ctx.Err() != nil:
		return ctx.Err()
	case c.nc.IsConnected():
		return nil
	}
	if err := c.nc.LastError(); err != nil {
		return fmt.Errorf("not connected to %s: %w", c.opts.URL, err)
	}
	return fmt.Errorf("not connected to %s", c.opts.URL)
}

const (
	// history is how many records and stops are kept, for people.
	history = 5
	// blocksAge and maxBlocks bound the stored blocks, by age and in bytes. The oldest go first. A record has about 2 kB, and
	// an executor closes up to 96 a day: 90 days of 60 executors. maxOwn bounds the messages of one executor, so that none can
	// evict the blocks of the others: 90 days of blocks, and 1,360 more for blocks in which the model changes.
	blocksAge = 90 * 24 * time.Hour
	maxBlocks = 1 << 30
	maxOwn    = 10_000
	// maxHeaders is what the server adds to a message's size for its key.
	maxHeaders = 1 << 10
	// sameBlocks is how long the server recognizes blocks with the same key. Later ones are stored again.
	sameBlocks = 10 * time.Minute
)

// The subjects and names of a group.
func bucketName(group string) string     { return "greenlight-" + group }
func streamName(group string) string     { return "greenlight-" + group + "-blocks" }
func subject(group, what string) string  { return "greenlight." + group + "." + what }
func reportSubject(g, e string) string   { return subject(g, "report."+e) }
func admitSubject(g, e string) string    { return subject(g, "admit."+e) }
func blocksSubject(g, e string) string   { return subject(g, "blocks."+e) }
func stopSubject(g string) string        { return subject(g, "stop") }
func storedSubject(g, key string) string { return subject(g, "stored."+key) }

// The keys of the bucket.
const (
	recordKey = "record"
	killKey   = "kill"
	// stopKey is the key of the newest abort. Earlier versions also stored kills under it.
	stopKey = "stop"
)

// bucketConfig is the bucket with record and stops. The server sends what it has stored to all executors, so that none needs a
// consumer.
func bucketConfig(g string) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: bucketName(g), Description: "Greenlight: rollout record and stops of " + g, History: history,
		MaxValueSize: group.MaxEnvelope, Storage: jetstream.FileStorage, Replicas: 3,
		RePublish: &jetstream.RePublish{Source: "$KV." + bucketName(g) + ".>", Destination: storedSubject(g, ">")},
	}
}

// streamConfig is the stream with the blocks.
func streamConfig(g string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamName(g), Description: "Greenlight: blocks of quality records of " + g, Subjects: []string{blocksSubject(g, "*")},
		MaxAge: blocksAge, MaxBytes: maxBlocks, MaxMsgsPerSubject: maxOwn, MaxMsgSize: group.MaxBlocks + maxHeaders, Duplicates: sameBlocks,
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, Replicas: 3,
	}
}

// notClustered is the error code of a server that is not in a cluster, for more than one replica.
const notClustered = 10074

// create calls create for three replicas, and for one if the server is alone.
func create(what, name string, call func(replicas int) error) error {
	err := call(3)
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == notClustered {
		err = call(1)
	}
	if err != nil {
		return fmt.Errorf("the %s %s does not exist, and these credentials cannot create it: create it as docs/fleet.md describes: %w", what, name, err)
	}
	return nil
}

// bucket returns the bucket. If it does not exist, it creates it, and the stream.
func (c *Carrier) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	if err := c.connected(ctx); err != nil {
		return nil, err
	}
	if kv := c.kv.Load(); kv != nil {
		return *kv, nil
	}
	kv, err := c.js.KeyValue(ctx, bucketName(c.opts.Group))
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		config := bucketConfig(c.opts.Group)
		err = create("bucket", config.Bucket, func(replicas int) error {
			config.Replicas = replicas
			kv, err = c.js.CreateKeyValue(ctx, config)
			return err
		})
		if err == nil {
			err = c.stream(ctx) // so that executors need not create it
		}
	}
	if err != nil {
		return nil, err
	}
	if status, err := kv.Status(ctx); err != nil {
		return nil, err
	} else if want := bucketConfig(c.opts.Group).RePublish; status.Config().RePublish == nil || *status.Config().RePublish != *want {
		c.opts.Logger.Warn("the bucket does not republish: executors see a change only when they poll", "bucket", kv.Bucket(), "want", want.Destination)
	}
	c.kv.Store(&kv)
	return kv, nil
}

// stream creates the stream if it does not exist.
func (c *Carrier) stream(ctx context.Context) error {
	if err := c.connected(ctx); err != nil {
		return err
	}
	config := streamConfig(c.opts.Group)
	_, err := c.js.Stream(ctx, config.Name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return create("stream", config.Name, func(replicas int) error {
		config.Replicas = replicas
		_, err := c.js.CreateStream(ctx, config)
		return err
	})
}
