package fleetsim

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// slack is how long a share may last after the end of a lease.
const slack = time.Second

// Rule must hold at every moment. The set is closed.
type Rule string

// The rules.
const (
	// AfterLease means that a share lasts longer than the last renewal that the executor was given.
	AfterLease Rule = "share after the lease"
	// OlderRecord means that a record is obeyed although a higher one was given.
	OlderRecord Rule = "older record obeyed"
	// Forged means that a record is obeyed although no controller has issued it.
	Forged Rule = "forged record obeyed"
	// OtherBody means that a record is obeyed after another record of the same revision.
	OtherBody Rule = "other body obeyed"
	// NotAdmitted means that a record is obeyed although its session has not admitted the process.
	NotAdmitted Rule = "obeyed without admission"
	// Held means that an aborted record is obeyed.
	Held Rule = "aborted record obeyed"
	// NotReached means that an executor is not at the share of the record although nothing goes wrong.
	NotReached Rule = "share not reached"
)

// truth knows what was issued, when, and what each executor was given. It shares no code with [group.Follower]: it identifies
// every message by its bytes.
type truth struct {
	keys dsse.Keys
	// settle is how long an executor may take to act on what it was given: 0 if the caller waits until all have acted.
	settle time.Duration
	lease  time.Duration

	mu sync.Mutex
	// sent holds all messages by their bytes, nil for those that nobody has issued; payloads holds them by their signed part.
	// log has them in order.
	sent, payloads map[string]*message
	log            []*message
	// begun is the time at which each session issued its first message.
	begun map[string]time.Time
	// highest is the highest issued revision.
	highest uint64
	began   time.Time
	kind    string
	res     *Result
}

// message is a message signed with the operator's key.
type message struct {
	kind     group.Kind
	at       time.Time
	envelope []byte
	// executor, nonce, session and reset belong to an admission, record is the record, revision belongs to a stop or an
	// admission, stop is its kind.
	executor, nonce, session string
	reset                    bool
	record                   *fleetv1.Record
	revision                 uint64
	stop                     fleetv1.StopKind
	body                     string
}

func newTruth(keys dsse.Keys, lease, settle time.Duration, seed uint64) *truth {
	t := &truth{keys: keys, lease: lease, settle: settle, sent: map[string]*message{}, payloads: map[string]*message{}, begun: map[string]time.Time{}, began: time.Now(), res: newResult()}
	t.res.seed = seed
	return t
}

// result returns the result once the schedule is over.
func (t *truth) result() *Result {
	t.res.SimulatedS = time.Since(t.began).Seconds()
	return t.res
}

// event begins an event of the given kind: from now on, results are counted for it.
func (t *truth) event(kind, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kind = kind
	t.res.kind(kind).Events++
	t.res.Schedule = append(t.res.Schedule, fmt.Sprintf("%7.2fs  %s: %s", time.Since(t.began).Seconds(), kind, what))
}

func (t *truth) issued(m *message) {
	m.at = time.Now()
	if m.record != nil {
		m.revision, m.body = m.record.GetRevision(), bodyOf(m.record)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	session := m.session
	if m.record != nil {
		session = m.record.GetSession()
	}
	if _, known := t.begun[session]; !known {
		t.begun[session] = m.at
	}
	t.sent[string(m.envelope)] = m
	if e, err := dsse.Parse(m.envelope); err == nil {
		t.payloads[string(e.Payload)] = m
	}
	t.log = append(t.log, m)
	t.highest = max(t.highest, m.revision)
	switch m.kind {
	case group.RecordMessage:
		t.res.Records++
	case group.AdmissionMessage:
		t.res.Admissions++
	default:
	}
}

// bodyOf returns what all records of a revision have in common.
func bodyOf(r *fleetv1.Record) string {
	return fmt.Sprint(r.GetSession(), r.GetMode(), r.GetPercent(), r.GetLease().AsDuration(), r.GetGate(), r.GetPlan(), r.GetModelDigest(), r.GetHolder(),
		r.GetReason(), r.GetIssuer())
}

// find returns the message with these bytes; nil if nobody has issued it. Bytes that are not signed may have been changed.
func (t *truth) find(envelope []byte) *message {
	m, ok := t.sent[string(envelope)]
	if ok {
		return m
	}
	if e, err := dsse.Parse(envelope); err == nil {
		if _, _, err := t.keys.Open(e, e.PayloadType); err == nil {
			m = t.payloads[string(e.Payload)]
		}
	}
	t.sent[string(envelope)] = m
	return m
}

// witness tracks what one executor was given and what it does. The lock of truth guards it.
type witness struct {
	t  *truth
	id string

	// highest is the highest given revision, first holds the first given records of each revision, obeyed the obeyed ones.
	// They and held survive a restart that keeps the state.
	highest uint64
	first   map[uint64]first
	obeyed  map[uint64]string
	held    uint64
	// aborted is when this executor alone was aborted: it obeys no session that began before. After a restart it is the time
	// of the start, if pending is set, until a later session is obeyed.
	aborted time.Time
	pending bool
	// stops holds those given but not yet certain to be on disk.
	stops []given

	// The rest belongs to one process. given holds messages that the executor may not have acted on yet.
	given  []given
	nonces map[string]time.Time
	// admitted holds the admissions that answer a nonce in time, newest the last given renewals, by session and revision.
	admitted []*message
	newest   map[term]*message
	// had holds the stops that this process was given, over holds those before the last reset: a reset ends aborts that are
	// still stored.
	had, over map[*message]bool
	record    *fleetv1.Record
	until     time.Time
}

type first struct {
	at   time.Time
	body string // empty if either of two may have come first
}

type given struct {
	at time.Time
	m  *message
}

func (t *truth) witness(id string) *witness {
	w := &witness{t: t, id: id}
	w.restart(lost)
	return w
}

// state is what remains of an executor's state when a process starts.
type state int

const (
	// kept is the whole state.
	kept state = iota
	// stale is the state on disk when the process crashed.
	stale
	// lost is a new folder.
	lost
	// damaged is a file that cannot be read: all sessions that began before are aborted.
	damaged
)

// writeTime is how long a member may take to write what it has seen.
const writeTime = 2 * time.Second

// restart starts a process.
func (w *witness) restart(left state) {
	now := time.Now()
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	w.apply(now)
	switch left {
	case kept:
	case stale:
		w.highest, w.held = 0, 0
		for revision, f := range w.first {
			if now.Sub(f.at) >= writeTime {
				w.highest = max(w.highest, revision)
			} else {
				delete(w.first, revision)
				delete(w.obeyed, revision)
			}
		}
		for _, g := range w.stops {
			if now.Sub(g.at) >= writeTime {
				w.held = max(w.held, g.m.revision)
			}
		}
	case damaged:
		w.forget()
		w.pending = true
	case lost:
		w.forget()
	}
	if w.aborted = (time.Time{}); w.pending {
		w.aborted = now
	}
	w.given, w.nonces, w.admitted, w.newest, w.record, w.had, w.over = nil, map[string]time.Time{}, nil, map[term]*message{}, nil, map[*message]bool{}, nil
}

func (w *witness) forget() {
	w.highest, w.held, w.stops, w.first, w.obeyed = 0, 0, nil, map[uint64]first{}, map[uint64]string{}
	w.aborted, w.pending = time.Time{}, false
}

// reports records the nonce of a report.
func (w *witness) reports(raw []byte) {
	r := &fleetv1.Report{}
	if err := proto.Unmarshal(raw, r); err != nil {
		return
	}
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	w.t.res.Reports++
	w.nonces[r.GetNonce()] = time.Now()
}

// maxAnswer is how long an admission may take to answer a report.
const maxAnswer = 30 * time.Second

// takes records that the executor is given a message.
func (w *witness) takes(envelope []byte) {
	now := time.Now()
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	w.t.res.Given++
	m := w.t.find(envelope)
	if m == nil {
		w.t.res.Forgeries++
		return
	}
	switch m.kind {
	case group.RecordMessage:
		key := termOf(m.record)
		if old := w.newest[key]; old == nil || old.record.GetRenewal() < m.record.GetRenewal() {
			w.newest[key] = m
		}
	case group.AdmissionMessage:
		made, ok := w.nonces[m.nonce]
		if !ok || m.executor != w.id || now.Sub(made) > maxAnswer+w.t.settle {
			return
		}
		if !m.reset {
			w.admitted = append(w.admitted, m)
			return
		}
		if w.share(now) == 0 { // otherwise it is refused
			w.forget()
			w.given, w.admitted, w.newest, w.over = nil, nil, map[term]*message{}, maps.Clone(w.had)
			clear(w.nonces)
		}
		return
	default:
		if w.had[m] = true; w.over[m] {
			return
		}
	}
	w.given = append(w.given, given{now, m})
}

// term is a revision of a session.
type term struct {
	session  string
	revision uint64
}

func termOf(r *fleetv1.Record) term { return term{r.GetSession(), r.GetRevision()} }

// apply applies messages given so long ago that the executor must have acted on them.
func (w *witness) apply(now time.Time) {
	for len(w.given) > 0 && now.Sub(w.given[0].at) >= w.t.settle {
		g := w.given[0]
		w.given = w.given[1:]
		if g.m.kind == group.StopMessage {
			w.held = max(w.held, g.m.revision)
			w.stops = append(w.stops, g)
			continue
		}
		w.highest = max(w.highest, g.m.revision)
		f, ok := w.first[g.m.revision]
		switch {
		case !ok:
			w.first[g.m.revision] = first{g.at, g.m.body}
		case f.body != g.m.body && g.at.Sub(f.at) <= w.t.settle: // either may have come first
			w.first[g.m.revision] = first{f.at, ""}
		}
	}
}

// holds records an abort of this executor alone.
func (w *witness) holds() {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	w.aborted, w.pending = time.Now(), true
	w.apply(w.aborted)
	w.held = max(w.held, w.highest)
	w.stops = append(w.stops, given{m: &message{revision: w.held}}) // it is stored before the abort returns
	w.record = nil
}

// obeys checks a record that the executor obeys from now on; nil means none.
func (w *witness) obeys(r *fleetv1.Record, until time.Time) {
	now := time.Now()
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	if r == w.record && until.Equal(w.until) {
		return
	}
	if r == nil || !now.Before(w.until) {
		w.ends(now)
	}
	if w.record, w.until = r, until; r == nil {
		return
	}
	w.t.res.Obeyed++
	if !w.t.begun[r.GetSession()].Before(w.aborted) {
		w.pending = false
	}
	m := w.newest[termOf(r)]
	if m == nil || m.record.GetPercent() != r.GetPercent() || m.record.GetMode() != r.GetMode() || m.record.GetLease().AsDuration() != r.GetLease().AsDuration() {
		w.t.violated(w.id, Forged, "%s: it was not issued, or not given to this process", describe(r))
		return
	}
	if body, ok := w.obeyed[r.GetRevision()]; ok && body != m.body {
		w.t.violated(w.id, OtherBody, "%s: %s was obeyed before", describe(r), body)
	}
	w.obeyed[r.GetRevision()] = m.body
	if over := until.Sub(m.at.Add(r.GetLease().AsDuration())); over > slack {
		w.t.violated(w.id, AfterLease, "%s: it was issued %v ago and is obeyed for %v more", describe(r), now.Sub(m.at), until.Sub(now))
	}
	for _, a := range w.admitted {
		if a.session == r.GetSession() && a.revision <= r.GetRevision() {
			return
		}
	}
	w.t.violated(w.id, NotAdmitted, "%s: no admission by its session answers a report of this process", describe(r))
}

// ends records that the record is no longer obeyed, and the age of its last renewal.
func (w *witness) ends(at time.Time) {
	if w.record == nil {
		return
	}
	if w.until.Before(at) {
		at = w.until
	}
	if m := w.newest[termOf(w.record)]; m != nil {
		k := w.t.res.kind(w.t.kind)
		k.Zeros++
		k.ToZero = max(k.ToZero, at.Sub(m.at).Seconds())
	}
	w.record = nil
}

// share returns the current share of requests that get a shadow, in percent.
func (w *witness) share(now time.Time) float64 {
	if w.record == nil || !now.Before(w.until) || w.record.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF {
		return 0
	}
	return w.record.GetPercent()
}

// check checks the current share, and returns it.
func (w *witness) check(now time.Time) float64 {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	w.apply(now)
	w.t.res.Checks++
	share := w.share(now)
	if share == 0 {
		w.ends(now)
		return 0
	}
	r := w.record
	f := w.first[w.highest]
	switch m := w.newest[termOf(r)]; {
	case m == nil: // forged: already recorded
	case now.Sub(m.at) > r.GetLease().AsDuration()+slack:
		w.t.violated(w.id, AfterLease, "%s: its last renewal was issued %v ago", describe(r), now.Sub(m.at))
	case r.GetRevision() <= w.held:
		w.t.violated(w.id, Held, "%s: records up to %d are aborted", describe(r), w.held)
	case w.t.begun[r.GetSession()].Before(w.aborted):
		w.t.violated(w.id, Held, "%s: its session began before this executor was aborted", describe(r))
	case r.GetRevision() < w.highest:
		w.t.violated(w.id, OlderRecord, "%s: %d was given", describe(r), w.highest)
	case r.GetRevision() == w.highest && f.body != "" && f.body != m.body:
		w.t.violated(w.id, OtherBody, "%s: %s was given first", describe(r), f.body)
	}
	return share
}

// violated records a violation, only the first of each rule in a schedule.
func (t *truth) violated(executor string, rule Rule, format string, args ...any) {
	for _, v := range t.res.Violations {
		if v.Rule == rule {
			return
		}
	}
	t.res.kind(t.kind).Violations++
	t.res.Violations = append(t.res.Violations, Violation{
		Rule: rule, Executor: executor, After: t.kind, At: time.Since(t.began).Seconds(), What: fmt.Sprintf(format, args...), Seed: t.res.seed,
	})
}

func describe(r *fleetv1.Record) string {
	return fmt.Sprintf("record %d.%d of %.6s at %g %%", r.GetRevision(), r.GetRenewal(), r.GetSession(), r.GetPercent())
}
