// Package natsgroup carries the messages of a group over NATS JetStream. See docs/fleet.md for the subjects, and for the
// permissions that executors and the operator need.
package natsgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/group"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Carrier implements [group.Carrier] on one connection.
type Carrier struct {
	opts   Options
	cancel context.CancelFunc
	// opened is closed once nc and js are set, or err.
	opened chan struct{}
	nc     *nats.Conn
	js     jetstream.JetStream
	err    error
	// kv is the bucket, nil until it was used.
	kv atomic.Pointer[jetstream.KeyValue]
}

var _ group.Carrier = (*Carrier)(nil)

// watchQueue limits the waiting messages for an executor. More are lost.
const watchQueue = 256

// flushWait bounds how long a server may take to read what was sent.
const flushWait = 5 * time.Second

// Watch implements [group.Carrier]. It ends with the connection, since messages may have been missed.
func (c *Carrier) Watch(ctx context.Context, executor string, take func(group.Kind, []byte)) error {
	if err := c.connected(ctx); err != nil {
		return err
	}
	g := c.opts.Group
	admits, stops, records := admitSubject(g, executor), stopSubject(g), storedSubject(g, recordKey)
	messages := make(chan *nats.Msg, watchQueue)
	lost := c.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer c.nc.RemoveStatusListener(lost)
	var subs []*nats.Subscription
	defer func() {
		for _, s := range subs {
			_ = s.Unsubscribe() // it fails only if the connection is closed
		}
	}()
	for _, s := range []string{admits, stops, records, storedSubject(g, killKey), storedSubject(g, stopKey)} {
		sub, err := c.nc.ChanSubscribe(s, messages)
		if err != nil {
			return err
		}
		subs = append(subs, sub)
	}
	if err := c.flush(ctx); err != nil {
		return err
	}
	// Without the store, stops and admissions still come, and the caller polls.
	if r, _, err := c.Record(ctx); err == nil && r != nil {
		take(group.RecordMessage, r)
	}
	stored, _ := c.Stops(ctx)
	for _, s := range stored {
		take(group.StopMessage, s)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-lost:
			return errors.New("the connection was lost")
		case m := <-messages:
			switch {
			case len(m.Data) > group.MaxEnvelope, len(m.Data) == 0: // the key was deleted
			case m.Subject == admits:
				take(group.AdmissionMessage, m.Data)
			case m.Subject == records:
				take(group.RecordMessage, m.Data)
			default:
				take(group.StopMessage, m.Data)
			}
		}
	}
}

// flush waits until the server has read what was sent.
func (c *Carrier) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	return c.nc.FlushWithContext(ctx)
}

// get returns the value of a key, nil without one, and its version.
func (c *Carrier) get(ctx context.Context, key string) ([]byte, uint64, error) {
	kv, err := c.bucket(ctx)
	if err != nil {
		return nil, 0, err
	}
	entry, err := kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, 0, nil
	case err != nil:
		c.kv.Store(nil) // perhaps the bucket was deleted
		return nil, 0, err
	case len(entry.Value()) > group.MaxEnvelope:
		return nil, 0, fmt.Errorf("the %s in %s has %d bytes: want at most %d", key, kv.Bucket(), len(entry.Value()), group.MaxEnvelope)
	}
	return entry.Value(), entry.Revision(), nil
}

// Record implements [group.Carrier].
func (c *Carrier) Record(ctx context.Context) ([]byte, uint64, error) { return c.get(ctx, recordKey) }

// Stops implements [group.Carrier]. With an error it returns those that can be read.
func (c *Carrier) Stops(ctx context.Context) ([][]byte, error) {
	var all [][]byte
	var errs []error
	for _, key := range []string{killKey, stopKey} {
		s, _, err := c.get(ctx, key)
		if errs = append(errs, err); s != nil {
			all = append(all, s)
		}
	}
	return all, errors.Join(errs...)
}

// Put implements [group.Carrier].
func (c *Carrier) Put(ctx context.Context, envelope []byte, version uint64) (uint64, error) {
	return c.swap(ctx, recordKey, envelope, version)
}

// swap replaces the value of a key if its version is still the given one, 0 without one.
func (c *Carrier) swap(ctx context.Context, key string, envelope []byte, version uint64) (uint64, error) {
	kv, err := c.bucket(ctx)
	if err != nil {
		return 0, err
	}
	if version == 0 {
		version, err = kv.Create(ctx, key, envelope)
	} else {
		version, err = kv.Update(ctx, key, envelope, version)
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return 0, fmt.Errorf("%w: %w", group.ErrVersion, err)
	case err != nil:
		c.kv.Store(nil)
		return 0, err
	}
	return version, nil
}

// Admit implements [group.Carrier].
func (c *Carrier) Admit(ctx context.Context, executor string, envelope []byte) error {
	return c.publish(ctx, admitSubject(c.opts.Group, executor), executor, envelope)
}

// publish sends a message for or from an executor, which may be lost.
func (c *Carrier) publish(ctx context.Context, subject, executor string, data []byte) error {
	if err := group.CheckName(executor); err != nil {
		return fmt.Errorf("executor %w", err)
	}
	if err := c.connected(ctx); err != nil {
		return err
	}
	return c.nc.Publish(subject, data)
}

// Stop implements [group.Carrier].
func (c *Carrier) Stop(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error {
	if err := c.connected(ctx); err != nil {
		return err
	}
	sent := c.nc.Publish(stopSubject(c.opts.Group), envelope)
	if sent == nil {
		sent = c.flush(ctx)
	}
	store := c.storeAbort
	if kind == fleetv1.StopKind_STOP_KIND_KILL {
		store = c.storeKill
	}
	err := store(ctx, envelope)
	switch {
	case err == nil: // the server sends what it stores
		return nil
	case sent == nil:
		return fmt.Errorf("%w: %w", group.ErrNotStored, err)
	}
	return errors.Join(sent, err)
}

func (c *Carrier) storeKill(ctx context.Context, envelope []byte) error {
	kv, err := c.bucket(ctx)
	if err == nil {
		if _, err = kv.Put(ctx, killKey, envelope); err != nil {
			c.kv.Store(nil)
		}
	}
	return err
}

// storeAbort stores an abort unless a higher one is already stored.
func (c *Carrier) storeAbort(ctx context.Context, envelope []byte) error {
	for {
		stored, version, err := c.get(ctx, stopKey)
		if err != nil || group.Covers(stored, envelope) {
			return err
		}
		if _, err = c.swap(ctx, stopKey, envelope, version); !errors.Is(err, group.ErrVersion) || ctx.Err() != nil {
			return err
		}
	}
}

// DropKill implements [group.Carrier].
func (c *Carrier) DropKill(ctx context.Context, envelope []byte) error {
	stored, version, err := c.get(ctx, killKey)
	if err != nil || stored == nil || !bytes.Equal(stored, envelope) {
		return err
	}
	kv, err := c.bucket(ctx)
	if err == nil {
		err = kv.Delete(ctx, killKey, jetstream.LastRevision(version))
	}
	if refused := (*jetstream.APIError)(nil); errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil // another kill was stored meanwhile
	}
	return err
}

// PublishReport implements [group.Carrier].
func (c *Carrier) PublishReport(ctx context.Context, executor string, report []byte) error {
	return c.publish(ctx, reportSubject(c.opts.Group, executor), executor, report)
}

// Reports implements [group.Carrier].
func (c *Carrier) Reports(ctx context.Context, take func([]byte)) error {
	if err := c.connected(ctx); err != nil {
		return err
	}
	sub, err := c.nc.SubscribeSync(reportSubject(c.opts.Group, "*"))
	if err != nil {
		return err
	}
	defer sub.Unsubscribe() //nolint:errcheck // it fails only if the connection is closed
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer): // some were lost
		case err != nil:
			return err
		default:
			take(own(m.Subject, m.Data, group.MaxReport, &fleetv1.Report{}, (*fleetv1.Report).GetExecutorId))
		}
	}
}

// own returns a message, or nil if it is too long or names another executor than its subject. The server lets an executor
// publish only under its own subject. A message that cannot be decoded names no executor.
func own[M proto.Message](subject string, data []byte, most int, m M, executor func(M) string) []byte {
	if len(data) > most {
		return nil
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return data
	}
	if id := executor(m); id != "" && id != subject[strings.LastIndexByte(subject, '.')+1:] {
		return nil
	}
	return data
}

// PublishBlocks implements [group.Carrier].
func (c *Carrier) PublishBlocks(ctx context.Context, executor, key string, blocks []byte) error {
	if err := group.CheckName(executor); err != nil {
		return fmt.Errorf("executor %w", err)
	}
	if err := c.connected(ctx); err != nil {
		return err
	}
	publish := func() error {
		_, err := c.js.Publish(ctx, blocksSubject(c.opts.Group, executor), blocks, jetstream.WithMsgID(key),
			jetstream.WithExpectStream(streamName(c.opts.Group)), jetstream.WithRetryAttempts(0))
		return err
	}
	err := publish()
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		if err = c.stream(ctx); err == nil {
			err = publish()
		}
	}
	return err
}

// Blocks implements [group.Carrier].
func (c *Carrier) Blocks(ctx context.Context, take func([]byte)) error {
	if err := c.connected(ctx); err != nil {
		return err
	}
	if err := c.stream(ctx); err != nil {
		return err
	}
	s, err := c.js.Stream(ctx, streamName(c.opts.Group))
	if err != nil {
		return err
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		take(own(m.Subject(), m.Data(), group.MaxBlocks, &fleetv1.Blocks{}, func(b *fleetv1.Blocks) string { return b.GetQuality().GetExecutorId() }))
		if meta.NumPending == 0 || meta.Sequence.Stream >= state.LastSeq {
			return nil
		}
	}
}
