package group

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Member is one process of an executor.
type Member struct {
	Group string
	// Executor outlives restarts, Instance is random for each process.
	Executor, Instance string
	// Keys are the keys that the executor trusts.
	Keys dsse.Keys
}

// Follower decides what an executor obeys. It is not safe for concurrent use. Times must have a monotonic clock reading.
type Follower struct {
	m     Member
	state State

	nonces []nonce
	// record is the newest record that this process has seen.
	record *fleetv1.Record
	// session is the session that admitted this process, to records of revision least or higher. late is set if the admission took
	// long.
	session string
	least   uint64
	late    bool
	// At zero the uptime of the session was at most 0, by a clock that has not drifted since made.
	zero, made time.Time
	// The session began in the time from earliest to latest.
	earliest, latest time.Time
	// since is when this executor alone was last aborted; zero if never. Sessions that began before it are not obeyed.
	since time.Time
	// stopped is when the last abort or kill was taken, of the group or of this executor alone.
	stopped time.Time
}

type nonce struct {
	text string
	made time.Time
	// commanded is set once a command that answers the nonce was taken.
	commanded bool
}

// position orders records.
type position struct{ revision, renewal uint64 }

func positionOf(r *fleetv1.Record) position { return position{r.GetRevision(), r.GetRenewal()} }

func (p position) before(q position) bool {
	return p.revision < q.revision || p.revision == q.revision && p.renewal < q.renewal
}

// State is what a follower continues from after a restart.
type State struct {
	// Revision and Renewal are the highest seen. Body is the digest of what all records of that revision have in common.
	Revision uint64 `json:"revision"`
	Renewal  uint64 `json:"renewal"`
	Body     string `json:"body"`
	// Held is the highest aborted revision: records up to it are not obeyed.
	Held uint64 `json:"held"`
	// Aborted is set when this executor alone is aborted, until it obeys a session that began later. A new process calls
	// [Follower.Hold], since it does not know when that was.
	Aborted bool `json:"aborted,omitempty"`
	// Kills are the ids of the last kills that were obeyed.
	Kills []string `json:"kills,omitempty"`
}

// MaxKills limits the kill ids in a [State].
const MaxKills = 64

// NewFollower returns a follower that continues from the state. It is at 0 % until a session admits it.
func NewFollower(m Member, s State) *Follower { return &Follower{m: m, state: s} }

// State returns what to continue from after a restart.
func (f *Follower) State() State {
	s := f.state
	s.Kills = slices.Clone(s.Kills)
	return s
}

// Session returns the session that has admitted the process; empty without one. It is also empty if a new admission may help,
// which the next report then requests: the last one was slow, which shortens every lease by its delay; the record has lapsed,
// perhaps because the operator's machine, and with it the session's uptime, was suspended; or it is unknown whether the session
// began after an abort of this executor.
func (f *Follower) Session(now time.Time) string {
	lapsed := f.record != nil && !Idle(f.record) && f.record.GetSession() == f.session && !now.Before(f.until(now))
	unsure := f.earliest.Before(f.since) && !f.latest.Before(f.since)
	if f.late || lapsed || unsure {
		return ""
	}
	return f.session
}

// earlier reports whether the session may have begun before this executor was aborted. If the operator's machine was suspended,
// the two bounds contradict each other.
func (f *Follower) earlier() bool { return f.earliest.Before(f.since) || f.latest.Before(f.since) }

// Idle reports whether a record leaves every executor idle.
func Idle(r *fleetv1.Record) bool {
	return r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF || r.GetPercent() == 0 && r.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_GATED
}

// until returns when the lease of the record ends.
func (f *Follower) until(now time.Time) time.Time {
	return f.zeroAt(now).Add(f.record.GetUptime().AsDuration() + f.record.GetLease().AsDuration())
}

// Lease returns the lease of the newest record; 0 without one.
func (f *Follower) Lease() time.Duration { return f.record.GetLease().AsDuration() }

// Nonce returns a new nonce for a report created now.
func (f *Follower) Nonce(now time.Time) string {
	f.forget(now)
	n := nonce{text: rand.Text(), made: now}
	f.nonces = append(f.nonces, n)
	return n.text
}

// forget drops nonces that are too old to be answered, and the oldest if there are too many.
func (f *Follower) forget(now time.Time) {
	f.nonces = slices.DeleteFunc(f.nonces, func(n nonce) bool { return now.Sub(n.made) > nonceLife })
	f.nonces = f.nonces[max(0, len(f.nonces)-maxNonces):]
}

// zeroAt returns a time, by the clock of now, at which the uptime of the session was not above zero.
func (f *Follower) zeroAt(now time.Time) time.Time { return f.zero.Add(-now.Sub(f.made) / maxDrift) }

// Record takes a signed record. The error is a [*RefusedError]. A record that was seen before is not an error and renews nothing.
func (f *Follower) Record(envelope []byte) error {
	r, err := OpenRecord(f.m.Keys, envelope, f.m.Group)
	if err != nil {
		return err
	}
	at, seen, body := positionOf(r), position{f.state.Revision, f.state.Renewal}, bodyOf(r)
	switch {
	case at.revision == seen.revision && body != f.state.Body:
		return refuse(Conflict, "another record of revision %d was seen before: two controllers have signed it, or the operator's key was stolen", at.revision)
	case at == seen && f.record != nil:
		return nil
	case at == seen: // after a restart, it may still be obeyed
	case at.before(seen):
		return refuse(Old, "record %d.%d: %d.%d was seen before", at.revision, at.renewal, seen.revision, seen.renewal)
	}
	f.state.Revision, f.state.Renewal, f.state.Body = at.revision, at.renewal, body
	f.record = r
	return nil
}

// Admission takes a signed admission, now, and returns it if it is a command: a reset, which it has obeyed, or a command for the
// gate. The error is a [*RefusedError].
func (f *Follower) Admission(envelope []byte, now time.Time) (*fleetv1.Admission, error) {
	a := &fleetv1.Admission{}
	if err := open(f.m.Keys, envelope, admissionType, a); err != nil {
		return nil, err
	}
	f.forget(now)
	if a.GetGroup() != f.m.Group || a.GetExecutorId() != f.m.Executor || a.GetInstanceId() != f.m.Instance {
		return nil, refuse(OtherGroup, "the admission is for another process")
	}
	i := slices.IndexFunc(f.nonces, func(n nonce) bool { return n.text == a.GetNonce() })
	command, err := checkCommand(a)
	switch {
	case i < 0:
		return nil, refuse(Old, "the admission answers no report of the last %v", nonceLife)
	case err != nil:
		return nil, refuse(Invalid, "%w", err)
	case command && f.nonces[i].commanded:
		return nil, refuse(Old, "a command that answers this report was taken before")
	case a.GetReset_() && !f.nonces[i].made.After(f.stopped):
		return nil, refuse(Old, "the reset answers a report from before an abort or a kill: it would lift a stop that its sender has not seen")
	case a.GetReset_() && f.Orders(now).Record != nil:
		return nil, refuse(NotIdle, "the executor is not at 0 %%: abort the rollout first")
	case a.GetReset_():
		*f = Follower{m: f.m, state: State{Kills: f.state.Kills}} // without nonces: it is obeyed once
		return a, nil
	case command:
		f.nonces[i].commanded = true
		return a, nil
	case !validSession(a.GetSession()) || !validUptime(a.GetUptime()) || a.GetRevision() < 1 || a.GetRevision() > MaxRevision:
		return nil, refuse(Invalid, "the admission has a value out of range")
	case f.record != nil && a.GetSession() != f.record.GetSession() && a.GetRevision() < f.record.GetRevision():
		return nil, refuse(Old, "the admission is for revision %d of another session: revision %d was seen before", a.GetRevision(), f.record.GetRevision())
	}
	made := f.nonces[i].made
	uptime := a.GetUptime().AsDuration()
	zero := made.Add(-uptime)
	late := now.Sub(made) > ReportPeriod
	// The session has signed between the nonce and now, and its clock may have drifted since it began.
	earliest, latest := zero.Add(-uptime/maxDrift), now.Add(uptime/maxDrift-uptime)
	if a.GetSession() == f.session {
		late = late && f.late
		if earliest.Before(f.earliest) {
			earliest = f.earliest
		}
		if latest.After(f.latest) {
			latest = f.latest
		}
		// Both answers bound the same instant, so the later bound is better.
		if best := f.zeroAt(now); zero.Add(-now.Sub(made) / maxDrift).Before(best) {
			zero, made = best, now
		}
		f.least = max(f.least, a.GetRevision())
	} else {
		f.least = a.GetRevision()
	}
	f.session, f.made, f.zero, f.late, f.earliest, f.latest = a.GetSession(), made, zero, late, earliest, latest
	return nil, nil //nolint:nilnil // not a command
}

// Stop takes a signed stop, now, and returns it if it is new. The error is a [*RefusedError].
func (f *Follower) Stop(envelope []byte, now time.Time) (*fleetv1.Stop, error) {
	s := &fleetv1.Stop{}
	if err := open(f.m.Keys, envelope, stopType, s); err != nil {
		return nil, err
	}
	kill := s.GetKind() == fleetv1.StopKind_STOP_KIND_KILL
	switch {
	case s.GetGroup() != f.m.Group:
		return nil, refuse(OtherGroup, "the stop is of group %.80q", s.GetGroup())
	case checkStop(s) != nil:
		return nil, refuse(Invalid, "%w", checkStop(s))
	case kill && slices.Contains(f.state.Kills, s.GetId()), !kill && s.GetRevision() <= f.state.Held:
		return nil, refuse(Old, "the stop was obeyed before")
	}
	f.state.Held, f.stopped = max(f.state.Held, s.GetRevision()), now
	if kill {
		f.state.Kills = append(f.state.Kills, s.GetId())
		f.state.Kills = f.state.Kills[max(0, len(f.state.Kills)-MaxKills):]
	}
	return s, nil
}

// Hold stops all sessions that began before now: this executor alone was aborted. Their records may still be in transit, with
// revisions that were not seen yet. It uses no time of day, so that a wrong clock cannot lock an executor out.
func (f *Follower) Hold(now time.Time) {
	f.state.Held, f.state.Aborted, f.since, f.stopped = max(f.state.Held, f.state.Revision), true, now, now
}

// Orders are what an executor must do.
type Orders struct {
	// Record is the record to obey; nil at 0 %.
	Record *fleetv1.Record
	// Percent is the record's percentage, 0 without a record.
	Percent float64
	// Until is when the lease ends.
	Until time.Time
	// Why is why the executor is at 0 %; empty if it obeys a record, or if the record says 0 %.
	Why string
}

// Orders returns what to do now.
func (f *Follower) Orders(now time.Time) Orders {
	f.forget(now)
	r := f.record
	if r == nil {
		return Orders{Why: "no record of the group was seen"}
	}
	until := f.until(now)
	switch {
	case Idle(r):
		return Orders{}
	case f.session == r.GetSession() && f.earlier():
		return Orders{Why: "this executor was aborted: only a run that began later is obeyed"}
	case r.GetRevision() <= f.state.Held:
		return Orders{Why: fmt.Sprintf("revision %d was aborted: only a higher one is obeyed", r.GetRevision())}
	case f.session != r.GetSession() || r.GetRevision() < f.least:
		return Orders{Why: "the operator has not admitted this process yet"}
	case !now.Before(until):
		return Orders{Why: fmt.Sprintf("record %d was not renewed for %v", r.GetRevision(), r.GetLease().AsDuration())}
	}
	f.state.Aborted = false
	return Orders{Record: r, Percent: r.GetPercent(), Until: until}
}

// IsRefused returns the reason if err is a [*RefusedError].
func IsRefused(err error) (Reason, bool) {
	var r *RefusedError
	if errors.As(err, &r) {
		return r.Reason, true
	}
	return "", false
}
