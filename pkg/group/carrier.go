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
	// Watch hands over the messages for an executor, beginning with the newest record and the stops if there are any, until ctx
	// ends or it cannot go on: then it returns the error. It may miss messages without one.
	Watch(ctx context.Context, executor string, take func(Kind, []byte)) error
	// Record returns the newest record that it knows, nil without one, and its version for Put.
	Record(ctx context.Context) (envelope []byte, version uint64, err error)
	// Stops returns the newest kill that it knows, and then the newest abort, as far as there are any.
	Stops(ctx context.Context) ([][]byte, error)
	// Put replaces the record if its version is still the given one, 0 if there is none. Otherwise the error is an
	// [ErrVersion].
	Put(ctx context.Context, envelope []byte, version uint64) (uint64, error)
	// Admit sends an admission to an executor.
	Admit(ctx context.Context, executor string, envelope []byte) error
	// Stop stores a stop of the kind, and sends it to all executors even if it cannot be stored: then the error is an
	// [ErrNotStored]. An abort does not replace a kill: an executor that was away must still obey it. Nor does it replace an abort that
	// covers it.
	Stop(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error
	// DropKill removes the stored kill if it is still that one.
	DropKill(ctx context.Context, envelope []byte) error
	// PublishReport sends a report, which may be lost.
	PublishReport(ctx context.Context, executor string, report []byte) error
	// Reports hands over the reports of all executors until ctx ends or it cannot go on. A message that cannot be one of the executor
	// whose subject it has is nil, so that it can be counted.
	Reports(ctx context.Context, take func([]byte)) error
	// PublishBlocks stores blocks. Those with the key of stored ones may be dropped.
	PublishBlocks(ctx context.Context, executor, key string, blocks []byte) error
	// Blocks hands over all stored blocks, and returns. A message is nil as in Reports.
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

// Covers reports whether an abort that is stored stops all that the other one stops, by their revisions. It verifies neither: who
// can store a forged abort can also remove a real one.
func Covers(stored, envelope []byte) bool {
	const abort = fleetv1.StopKind_STOP_KIND_ABORT
	was, now := PeekStop(stored), PeekStop(envelope)
	return was.GetKind() == abort && now.GetKind() == abort && was.GetGroup() == now.GetGroup() && was.GetRevision() >= now.GetRevision()
}

// ErrVersion is the error of Put if somebody else has replaced the record.
var ErrVersion = errors.New("the record was replaced by another controller")

// ErrNotStored is the error of Stop if the stop was sent, but executors that start later or are away do not see it.
var ErrNotStored = errors.New("the stop is not stored")
