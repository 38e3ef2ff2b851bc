// Package natswitness keeps the heads of an evidence chain in a bucket of NATS JetStream.
package natswitness

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/group"
)

// witness implements [evidence.Witness]. It connects for each call, because evidence is written rarely.
type witness struct{ servers, bucket, creds string }

// Is reports whether the place is the URL of a NATS server.
func Is(place string) bool {
	u, err := url.Parse(place)
	return err == nil && (u.Scheme == "nats" || u.Scheme == "tls")
}

// Open returns the witness at nats://host:port/BUCKET, or tls://. With ?creds=FILE it connects with the credentials in the file.
func Open(place string) (evidence.Witness, error) {
	u, err := url.Parse(place)
	if err != nil || u.Host == "" || u.User != nil || u.Path == "" {
		return nil, errors.New("want nats://host:port/BUCKET or tls://host:port/BUCKET, with ?creds=FILE for credentials")
	}
	w := &witness{u.Scheme + "://" + u.Host, u.Path[1:], u.Query().Get("creds")}
	if err := group.CheckName(w.bucket); err != nil {
		return nil, fmt.Errorf("bucket %w", err)
	}
	return w, nil
}

const (
	// timeout bounds a call.
	timeout = 10 * time.Second
	// kept is the number of heads that the bucket keeps for people.
	kept = 64
	key  = "head"
)

// use calls fn with the bucket, which it creates if necessary.
func (w *witness) use(fn func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	options := []nats.Option{nats.Name("greenlight evidence"), nats.Timeout(timeout), nats.NoReconnect()}
	if w.creds != "" {
		options = append(options, nats.UserCredentials(w.creds))
	}
	nc, err := nats.Connect(w.servers, options...)
	if err != nil {
		return fmt.Errorf("%s: %w", w.servers, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, w.bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: w.bucket, Description: "Greenlight: heads of evidence", History: kept, MaxValueSize: evidence.MaxWitnessed})
	}
	if err == nil {
		err = fn(ctx, kv)
	}
	if err != nil {
		return fmt.Errorf("%s, bucket %s: %w", w.servers, w.bucket, err)
	}
	return nil
}

// Put implements [evidence.Witness].
func (w *witness) Put(seq uint64, hash string) error {
	head, err := evidence.EncodeHead(seq, hash)
	if err != nil {
		return err
	}
	return w.use(func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Put(ctx, key, head)
		return err
	})
}

// Head implements [evidence.Witness].
func (w *witness) Head() (head string, err error) {
	err = w.use(func(ctx context.Context, kv jetstream.KeyValue) error {
		entry, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return evidence.ErrNoHead
		}
		if err != nil {
			return err
		}
		head, err = evidence.ParseHead(entry.Value())
		return err
	})
	return head, err
}
