package group

import (
	"crypto/rand"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Session issues the messages of one operator process. It is not safe for concurrent use. Times must have a monotonic clock
// reading.
type Session struct {
	group, issuer, id string
	signer            *dsse.Signer
	began             time.Time
	// last is the newest record of this session; nil before the first.
	last *fleetv1.Record
	// admitted is the last admitted process of each executor, and when it was admitted.
	admitted map[string]admitted
}

type admitted struct {
	instance string
	at       time.Time
}

// NewSession returns a session that starts now. issuer names the operator for people.
func NewSession(group, issuer string, signer *dsse.Signer, now time.Time) *Session {
	return &Session{group: group, issuer: issuer, id: rand.Text(), signer: signer, began: now, admitted: map[string]admitted{}}
}

// ID returns the random id of the session.
func (s *Session) ID() string { return s.id }

// Last returns the newest record of the session; nil before the first.
func (s *Session) Last() *fleetv1.Record { return s.last }

// Change returns a signed record with the terms: mode, percent, lease, plan, gate, model, holder and reason. Its revision is
// above the given one and at least the time in milliseconds, so that revisions do not restart low after a journal or a store was
// lost.
func (s *Session) Change(terms *fleetv1.Record, above uint64, now time.Time) (*fleetv1.Record, []byte, error) {
	r := proto.CloneOf(terms)
	r.Revision = max(above+1, uint64(max(1, now.UnixMilli())))
	if s.last != nil {
		r.Revision = max(r.Revision, s.last.GetRevision()+1)
	}
	r.Group, r.Issuer, r.Session, r.Renewal = s.group, s.issuer, s.id, 1
	return s.issue(r, now)
}

// Renew returns the newest record with the next renewal. Change must have succeeded before.
func (s *Session) Renew(now time.Time) (*fleetv1.Record, []byte, error) {
	r := proto.CloneOf(s.last)
	r.Renewal++
	return s.issue(r, now)
}

func (s *Session) issue(r *fleetv1.Record, now time.Time) (*fleetv1.Record, []byte, error) {
	r.Time, r.Uptime = timestamppb.New(now), s.uptime(now)
	if err := checkRecord(r); err != nil {
		return nil, nil, err
	}
	signed, err := sign(s.signer, recordType, r)
	if err != nil {
		return nil, nil, err
	}
	s.last = r
	return r, signed, nil
}

func (s *Session) uptime(now time.Time) *durationpb.Duration { return durationpb.New(now.Sub(s.began)) }

// Due reports whether the process of a report needs an admission now. An executor without an admission needs one for every report,
// until a report confirms that one arrived.
func (s *Session) Due(r *fleetv1.Report, now time.Time) bool {
	a := s.admitted[r.GetExecutorId()]
	return s.last != nil && (r.GetSession() != s.id || a.instance != r.GetInstanceId() || now.Sub(a.at) >= readmit)
}

// Admit returns a signed admission for the process of a report, to the newest record and later ones. Change must have succeeded
// before.
func (s *Session) Admit(r *fleetv1.Report, now time.Time) ([]byte, error) {
	a := s.answer(r, now)
	a.Revision = s.last.GetRevision()
	signed, err := sign(s.signer, admissionType, a)
	if err == nil {
		s.admitted[r.GetExecutorId()] = admitted{r.GetInstanceId(), now}
	}
	return signed, err
}

// Command returns a signed command for the process of a report: a reset, which makes an executor at 0 % forget aborts and the
// highest revision that it has seen; clearing latches of its gate; or an alarm, with the reason. It admits no process.
func (s *Session) Command(c *fleetv1.Admission, r *fleetv1.Report, now time.Time) ([]byte, error) {
	a := s.answer(r, now)
	proto.Merge(a, c)
	a.Issuer = s.issuer
	if _, err := checkCommand(a); err != nil {
		return nil, err
	}
	return sign(s.signer, admissionType, a)
}

func (s *Session) answer(r *fleetv1.Report, now time.Time) *fleetv1.Admission {
	return &fleetv1.Admission{
		Group: s.group, ExecutorId: r.GetExecutorId(), InstanceId: r.GetInstanceId(), Nonce: r.GetNonce(), Session: s.id, Uptime: s.uptime(now),
	}
}

// Stop returns a signed stop of all records up to the revision: the highest known one, >= 1.
func Stop(signer *dsse.Signer, group, issuer string, kind fleetv1.StopKind, revision uint64, reason string, now time.Time) ([]byte, error) {
	s := &fleetv1.Stop{
		Group: group, Kind: kind, Revision: revision, Id: rand.Text(), Reason: reason, Issuer: issuer, Time: timestamppb.New(now),
	}
	if err := checkStop(s); err != nil {
		return nil, err
	}
	return sign(signer, stopType, s)
}
