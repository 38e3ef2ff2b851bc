// Package group is the protocol between the executors of a group and their operator: the signed messages, when an executor obeys a
// record, and what an operator's session issues. It does no I/O.
//
// The messages travel over a [Carrier] that is not trusted: it may lose, delay, repeat, reorder and forge messages, and return old
// ones. It can end a share, but cannot raise one or keep one alive.
//
// # Why no carrier can keep a share alive
//
// Every report of an executor has a fresh nonce. A session admits the process by signing the nonce together with the session's
// uptime, so the admission was signed after the nonce was made. When the nonce was made, the uptime was therefore at most the
// signed one. From that the executor estimates when each record of the session was issued, and the estimate is never too late, as
// long as the clocks of the two machines run at the same rate within 100 ppm. The lease starts at the estimate: a delayed renewal
// is worth only the rest of its lease, and a replayed one has lapsed. The exception is a machine that was suspended: its clock may
// have stopped.
package group

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

const (
	// ReportPeriod is the time between two reports of an executor.
	ReportPeriod = 2 * time.Second
	// Presence is how long an executor counts as present after a report.
	Presence = 15 * time.Second
	// nonceLife is how long an admission may take to arrive: it bounds how much a late one shortens a lease.
	nonceLife = 30 * time.Second
	// maxNonces limits the nonces that wait for an answer.
	maxNonces = 2 * int(nonceLife/ReportPeriod)
	// maxDrift is the largest drift between two clocks: 1 s in 10,000 s, which is 100 ppm. readmit is when a session admits an
	// executor again: until then drift shortens a lease by at most 60 ms.
	maxDrift = 10_000
	readmit  = 10 * time.Minute

	// MinLease is the shortest lease.
	MinLease = time.Second
	// MaxLease is the longest lease.
	MaxLease = time.Hour
	// PollsPerLease is how many times per lease records are renewed, and executors poll the record in addition to the watch.
	PollsPerLease = 6

	// MaxEnvelope bounds a signed message, in bytes: a gate has at most 1,000 symbols of 64 bytes, and base64 adds a third.
	MaxEnvelope = 192 << 10
	// MaxReport bounds a report, in bytes.
	MaxReport = 256 << 10
	// MaxBlocks bounds a message with the record of a block, in bytes: 2 x 200 bins with a count of up to 10 bytes for each of two
	// labels are 9 kB.
	MaxBlocks = 15 << 10
	// MaxRevision is the largest revision: 2^53, up to which JSON numbers are exact.
	MaxRevision = 1 << 53
	maxName     = 128
	maxReason   = 512
	digestSize  = 64
	// maxUptime bounds the uptime of a session, so that times cannot overflow.
	maxUptime = 100 * 365 * 24 * time.Hour
)

// The payload types.
const (
	recordType    = "application/vnd.greenlight.fleet.record+proto"
	admissionType = "application/vnd.greenlight.fleet.admission+proto"
	stopType      = "application/vnd.greenlight.fleet.stop+proto"
)

// CheckName returns an error unless the name of a group or an executor is valid in the carrier's subjects: 1 to 64 letters,
// digits, "-" and "_".
func CheckName(name string) error {
	ok := name != "" && len(name) <= 64
	for _, c := range name {
		ok = ok && (c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if !ok {
		return fmt.Errorf("%.80q: want 1 to 64 letters, digits, - or _", name)
	}
	return nil
}

func sign(s *dsse.Signer, payloadType string, m proto.Message) ([]byte, error) {
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	e, err := s.Sign(payloadType, raw)
	if err != nil {
		return nil, err
	}
	signed, err := json.Marshal(e)
	if err == nil && len(signed) > MaxEnvelope {
		err = fmt.Errorf("the signed message has %d bytes: want at most %d", len(signed), MaxEnvelope)
	}
	return signed, err
}

// open decodes a signed message.
func open(keys dsse.Keys, envelope []byte, payloadType string, m proto.Message) error {
	if len(envelope) > MaxEnvelope {
		return refuse(Invalid, "%d bytes: want at most %d", len(envelope), MaxEnvelope)
	}
	e, err := dsse.Parse(envelope)
	if err != nil {
		return refuse(Invalid, "%v", err)
	}
	raw, _, err := keys.Open(e, payloadType)
	if err != nil {
		return refuse(Untrusted, "%v", err)
	}
	if err := proto.Unmarshal(raw, m); err != nil {
		return refuse(Invalid, "%v", err)
	}
	return nil
}

// Reason is why a message is refused. The set is closed.
type Reason string

// The reasons.
const (
	// Invalid means that a message cannot be read or has a value out of range.
	Invalid Reason = "invalid"
	// Untrusted means that no trusted key has signed the message.
	Untrusted Reason = "untrusted"
	// OtherGroup means that the message is for another group or executor.
	OtherGroup Reason = "other_group"
	// Old means that the message was superseded, or answers a nonce that is no longer known.
	Old Reason = "old"
	// Conflict means that a different record with the same revision was seen before: two controllers have signed it.
	Conflict Reason = "conflict"
	// NotIdle means that an executor to be reset is not at 0 %.
	NotIdle Reason = "not_idle"
)

// Reasons returns all reasons.
func Reasons() []Reason { return []Reason{Invalid, Untrusted, OtherGroup, Old, Conflict, NotIdle} }

// RefusedError is returned for a message that an executor does not obey.
type RefusedError struct {
	Reason Reason
	Err    error
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) error {
	return &RefusedError{r, fmt.Errorf(format, args...)}
}

// OpenRecord returns the record in a signed message. The error is a [*RefusedError].
func OpenRecord(keys dsse.Keys, envelope []byte, group string) (*fleetv1.Record, error) {
	r := &fleetv1.Record{}
	if err := open(keys, envelope, recordType, r); err != nil {
		return nil, err
	}
	if r.GetGroup() != group {
		return nil, refuse(OtherGroup, "the record is of group %.80q", r.GetGroup())
	}
	if err := checkRecord(r); err != nil {
		return nil, refuse(Invalid, "record %d.%d: %w", r.GetRevision(), r.GetRenewal(), err)
	}
	return r, nil
}

// checkRecord checks the ranges. Plan and gate are checked where they are used.
func checkRecord(r *fleetv1.Record) error {
	lease, off := r.GetLease().AsDuration(), r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF
	gated := r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_GATED
	switch {
	case r.GetRevision() < 1 || r.GetRevision() > MaxRevision || r.GetRenewal() < 1 || r.GetRenewal() > MaxRevision:
		return errors.New("revision or renewal is out of range: want 1 to 2^53")
	case !off && !gated && r.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY:
		return fmt.Errorf("mode is %d: want OFF, OBSERVE_ONLY or GATED", r.GetMode())
	case math.IsNaN(r.GetPercent()) || r.GetPercent() < 0 || r.GetPercent() > 100 || off && r.GetPercent() != 0:
		return fmt.Errorf("percent is %v: want a number from 0 to 100, and 0 with mode OFF", r.GetPercent())
	case !r.GetLease().IsValid() || lease < MinLease || lease > MaxLease:
		return fmt.Errorf("lease is %v: want %v to %v", lease, MinLease, MaxLease)
	case gated != (r.GetGate() != nil):
		return errors.New("a gate without mode GATED, or the reverse")
	case len(r.GetHolder()) > maxName || len(r.GetIssuer()) > maxName || len(r.GetReason()) > maxReason:
		return fmt.Errorf("holder, issuer or reason is too long: want at most %d, %d and %d bytes", maxName, maxName, maxReason)
	case !validSession(r.GetSession()):
		return errors.New("session is missing or too long")
	case !validUptime(r.GetUptime()):
		return errors.New("uptime is missing or out of range")
	}
	return nil
}

func validSession(id string) bool { return id != "" && len(id) <= maxName }

func validUptime(d *durationpb.Duration) bool {
	return d.IsValid() && d.AsDuration() >= 0 && d.AsDuration() <= maxUptime
}

// checkCommand returns an error unless the admission has at most one command, with values in range. command reports whether it has
// one.
func checkCommand(a *fleetv1.Admission) (command bool, err error) {
	alarm, known := a.GetAlarm(), map[executorv1.GateLatch]bool{}
	n := 0
	for _, has := range []bool{a.GetReset_(), len(a.GetClear()) > 0, alarm != 0} {
		if has {
			n++
		}
	}
	for _, l := range a.GetClear() {
		if _, ok := executorv1.GateLatch_name[int32(l)]; !ok || l == 0 || known[l] {
			return true, fmt.Errorf("command: latch %d is not known, or given twice", l)
		}
		known[l] = true
	}
	switch {
	case n > 1:
		err = errors.New("command: more than one of reset, clear and alarm")
	case len(a.GetReason()) > maxReason || len(a.GetIssuer()) > maxName:
		err = fmt.Errorf("command: reason or issuer is too long: want at most %d and %d bytes", maxReason, maxName)
	case len(a.GetLastSetTimes()) != len(known) || slices.ContainsFunc(a.GetLastSetTimes(), func(t *timestamppb.Timestamp) bool { return !t.IsValid() }):
		err = errors.New("command: clearing latches needs the time when each was last set, and no other command may have one")
	case len(known) > 0 && a.GetReason() == "":
		err = errors.New("command: clearing latches needs a reason: what was found and done")
	case alarm != 0 && alarm != executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM && alarm != executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM:
		err = fmt.Errorf("command: alarm is %d: want QUALITY_ALARM or DRIFT_ALARM", alarm)
	case (alarm != 0) != (a.GetModelDigest() != "") || len(a.GetModelDigest()) > digestSize:
		err = errors.New("command: an alarm needs the digest of its model, and no other command may have one")
	}
	return n > 0, err
}

// checkStop checks the ranges.
func checkStop(s *fleetv1.Stop) error {
	switch {
	case s.GetKind() != fleetv1.StopKind_STOP_KIND_ABORT && s.GetKind() != fleetv1.StopKind_STOP_KIND_KILL:
		return fmt.Errorf("stop: kind is %d: want ABORT or KILL", s.GetKind())
	case s.GetRevision() < 1 || s.GetRevision() > MaxRevision:
		return errors.New("stop: revision is out of range: want the revision of the newest known record, 1 to 2^53")
	case s.GetId() == "" || len(s.GetId()) > maxName || len(s.GetReason()) > maxReason || len(s.GetIssuer()) > maxName:
		return fmt.Errorf("stop: id is missing, or id, reason or issuer is too long: want at most %d, %d and %d bytes", maxName, maxReason, maxName)
	}
	return nil
}

// bodyOf returns a digest of what all records of a revision have in common.
func bodyOf(r *fleetv1.Record) string {
	c := proto.CloneOf(r)
	c.Renewal, c.Time, c.Uptime = 0, nil, nil
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil { // it was unmarshaled
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
