package fleetgroup

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/text"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

const (
	// maxMembers bounds the executors of a group.
	maxMembers = 10_000
	// maxFormer bounds how many former processes of an executor are remembered, to ignore their old reports.
	maxFormer = 8
	// maxName and maxHost bound texts in a report, in bytes.
	maxName = 128
	maxHost = 253
)

// Member is an executor of the group, as described by its newest report.
type Member struct {
	// ID is its executor id.
	ID string
	// Report is the newest report, which must not be changed. At is when it was received.
	Report *fleetv1.Report
	At     time.Time
	// Err is why the report must not be used for a judgment: it contradicts itself, or two processes have the id. Twins reports
	// the latter.
	Err   error
	Twins bool
}

// Trouble is why the executor does not follow the record; empty if it does.
func (m *Member) Trouble() string {
	if m.Err != nil {
		return text.Clean(m.Err.Error(), maxTrouble)
	}
	return text.Clean(m.Report.GetTrouble(), maxTrouble)
}

// maxTrouble bounds the trouble that is shown, in bytes.
const maxTrouble = 400

// Presence tracks which executors of a group report. It is safe for concurrent use.
type Presence struct {
	group string

	mu      sync.Mutex
	members map[string]*member
	// news is closed when a report is taken.
	news chan struct{}
	// refused counts messages that are not reports of the group.
	refused uint64
}

// member is an executor with its processes.
type member struct {
	Member

	// invalid is the error in the newest report.
	invalid error
	// former has the last sequence numbers of former processes and their instance ids, in the order in which they were replaced.
	former []process
	// twin is when a former process last reported, and twinName is which one.
	twin     time.Time
	twinName string
}

type process struct {
	instance string
	sequence uint64
}

// NewPresence returns the presence of a group without executors.
func NewPresence(group string) *Presence {
	return &Presence{group: group, members: map[string]*member{}, news: make(chan struct{})}
}

// Take takes a report that was received now, and returns the id of its executor; empty if the report is not new.
func (p *Presence) Take(raw []byte, now time.Time) string {
	r, err := p.parse(raw)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refused++
		return ""
	}
	invalid := errors.Join(fleet.CheckReport(r.GetShadow(), now), fleet.CheckRollout(r.GetRollout().GetInstanceId(), r.GetRollout().GetRollout()),
		fleet.CheckGate(r.GetRollout().GetGate()))
	if invalid != nil {
		invalid = fmt.Errorf("%w: %w", fleet.ErrContradicts, invalid)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.members[r.GetExecutorId()]
	switch {
	case m == nil && len(p.members) >= maxMembers:
		if p.forget(now); len(p.members) >= maxMembers {
			p.refused++
			return ""
		}
		fallthrough
	case m == nil:
		m = &member{Member: Member{ID: r.GetExecutorId()}}
		p.members[m.ID] = m
	case !m.next(r, now):
		return ""
	}
	m.Report, m.At, m.invalid = r, now, invalid
	close(p.news)
	p.news = make(chan struct{})
	return m.ID
}

// parse returns a report of the group.
func (p *Presence) parse(raw []byte) (*fleetv1.Report, error) {
	r := &fleetv1.Report{}
	if len(raw) > group.MaxReport {
		return nil, errors.New("too long")
	}
	if err := proto.Unmarshal(raw, r); err != nil {
		return nil, err
	}
	named := func(s string) bool { return s != "" && len(s) <= maxName && text.Clean(s, maxName) == s }
	switch {
	case r.GetGroup() != p.group, group.CheckName(r.GetExecutorId()) != nil, !named(r.GetInstanceId()), !named(r.GetNonce()),
		r.GetSequence() == 0, len(r.GetHost()) > maxHost, len(r.GetSession()) > maxName:
		return nil, errors.New("not a report of the group")
	}
	return r, nil
}

// next reports whether the report follows the newest one.
func (m *member) next(r *fleetv1.Report, now time.Time) bool {
	if r.GetInstanceId() == m.Report.GetInstanceId() {
		return r.GetSequence() > m.Report.GetSequence()
	}
	i := slices.IndexFunc(m.former, func(f process) bool { return f.instance == r.GetInstanceId() })
	if i >= 0 {
		if r.GetSequence() <= m.former[i].sequence {
			return false
		}
		m.former[i].sequence = r.GetSequence()
		if now.Sub(m.At) <= group.Presence { // both are alive
			m.twin, m.twinName = now, r.GetInstanceId()
			return false
		}
		m.former = slices.Delete(m.former, i, i+1)
	}
	m.former = append(m.former, process{m.Report.GetInstanceId(), m.Report.GetSequence()})
	m.former = m.former[max(0, len(m.former)-maxFormer):]
	return true
}

// forget removes the executors that have not reported for longer than [group.Presence].
func (p *Presence) forget(now time.Time) {
	maps.DeleteFunc(p.members, func(_ string, m *member) bool { return now.Sub(m.At) > group.Presence })
}

// Members returns the executors that are present now, ordered by id.
func (p *Presence) Members(now time.Time) []Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(now)
	all := make([]Member, 0, len(p.members))
	for _, m := range p.members {
		all = append(all, m.seen(now))
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Member returns an executor that is present now.
func (p *Presence) Member(id string, now time.Time) (Member, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.members[id]
	if m == nil || now.Sub(m.At) > group.Presence {
		return Member{ID: id}, false
	}
	return m.seen(now), true
}

// seen returns the executor with its current error.
func (m *member) seen(now time.Time) Member {
	s := m.Member
	s.Err = m.invalid
	if !m.twin.IsZero() && now.Sub(m.twin) <= group.Presence {
		s.Twins, s.Err = true, fmt.Errorf("processes %s and %s have the same executor id: one has a copy of the other's state folder", m.Report.GetInstanceId(), m.twinName)
	}
	return s
}

// News returns a channel that is closed when the next report is taken.
func (p *Presence) News() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.news
}

// Refused returns how many messages were not reports of the group, or came from more executors than a group may have.
func (p *Presence) Refused() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}
