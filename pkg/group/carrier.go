package group

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Kind is the kind of a message for executors.
type Kind uint8

// The kinds.
const (
	RecordMessage Kind = iota
	AdmissionMessage
	StopMessage
)

// Carrier moves the messages of one group. It is not trusted. It is safe for concurrent use, and every call ends with its
// context.
type Carrier interface {
	// Watch calls take with the messages for an executor, starting with the newest record and the stops, if any. It returns an
	// error when ctx ends or it cannot continue. It may also miss messages without an error.
	Watch(ctx context.Context, executor string, take func(Kind, []byte)) error
	// Record returns the newest known record, or nil, and its version for Put.
	Record(ctx context.Context) (envelope []byte, version uint64, err error)
	// Stops returns the newest known kill and then the newest known abort, if any.
	Stops(ctx context.Context) ([][]byte, error)
	// Put replaces the record if its version is still the given one, 0 if there is none. Otherwise the error is an
	// [ErrVersion].
	Put(ctx context.Context, envelope []byte, version uint64) (uint64, error)
	// Admit sends an admission to an executor.
	Admit(ctx context.Context, executor string, envelope []byte) error
	// Stop stores a stop of the kind, and sends it to all executors even if it cannot be stored: then the error is an
	// [ErrNotStored]. An abort replaces neither a kill, which an executor that was away must still obey, nor an abort that covers
	// it.
	Stop(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error
	// DropKill removes the stored kill if it is still this one.
	DropKill(ctx context.Context, envelope []byte) error
	// PublishReport sends a report, which may be lost.
	PublishReport(ctx context.Context, executor string, report []byte) error
	// Reports calls take with the reports of all executors until ctx ends or it cannot continue. It passes nil for a message that
	// cannot come from the executor in its subject, so that it can be counted.
	Reports(ctx context.Context, take func([]byte)) error
	// PublishBlocks stores blocks. It may drop blocks whose key is already stored.
	PublishBlocks(ctx context.Context, executor, key string, blocks []byte) error
	// Blocks calls take with all stored blocks, and returns. As in Reports, a message may be nil.
	Blocks(ctx context.Context, take func([]byte)) error
}

// PeekStop returns the stop of a signed message without verifying it; nil if no executor could obey it.
func PeekStop(envelope []byte) *fleetv1.Stop {
	s := &fleetv1.Stop{}
	e, err := dsse.Parse(envelope)
	if err != nil || e.PayloadType != stopType || proto.Unmarshal(e.Payload, s) != nil || checkStop(s) != nil {
		return nil
	}
	return s
}

// Covers reports whether a stored abort stops everything that the other one stops, by their revisions. It verifies neither: an
// attacker who can store a forged abort can also remove a real one.
func Covers(stored, envelope []byte) bool {
	const abort = fleetv1.StopKind_STOP_KIND_ABORT
	was, now := PeekStop(stored), PeekStop(envelope)
	return was.GetKind() == abort && now.GetKind() == abort && was.GetGroup() == now.GetGroup() && was.GetRevision() >= now.GetRevision()
}

// ErrVersion is returned by Put if another controller has replaced the record.
var ErrVersion = errors.New("the record was replaced by another controller")

// ErrNotStored is returned by Stop if the stop was sent but not stored: executors that start later or are away do not see it.
var ErrNotStored = errors.New("the stop is not stored")
