package group

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// modelLease is the lease of all records of the model.
const modelLease = 5 * time.Second

// world is a group that keeps all its messages, so that a schedule can deliver any of them at any time. It knows the true time.
// The clock of the executor is days away from it, and drifts.
type world struct {
	signer *dsse.Signer
	truth  time.Duration
	began  time.Time
	drift  float64
	s      *Session
	f      *Follower
	// revision is the highest issued revision. sessions is when each session began, in true time.
	revision uint64
	sessions map[string]time.Duration

	records    []sentRecord
	admissions []sentAdmission
	stops      []sentStop
	// seen is what the executor has done and taken, in order.
	seen []seen
}

type sentRecord struct {
	record *fleetv1.Record
	issued time.Duration // true time
	data   []byte
}

type sentAdmission struct {
	nonce    string
	session  string
	uptime   time.Duration
	revision uint64
	reset    bool
	data     []byte
}

type sentStop struct {
	revision uint64
	data     []byte
}

// seen is one event. One field is set, or none: the executor has restarted.
type seen struct {
	at        time.Time // by the executor's clock
	record    *sentRecord
	admission *sentAdmission
	stop      *sentStop
	nonce     string
	// held is an abort of this executor alone, in true time. obeyed is set if a share was in force then.
	held   *time.Duration
	obeyed bool
	// forgot is set if the executor has lost its state in a restart or a reset.
	forgot bool
}

func newWorld(signer *dsse.Signer, drift float64) *world {
	w := &world{signer: signer, began: time.Now().Add(-50 * 24 * time.Hour), drift: drift, sessions: map[string]time.Duration{}}
	w.session()
	w.start(State{})
	return w
}

// now is the time of the executor's clock.
func (w *world) now() time.Time {
	return w.began.Add(w.truth + time.Duration(float64(w.truth)*w.drift))
}

// operator is the time of the operator's clock.
func (w *world) operator() time.Time { return time.Unix(1_800_000_000, 0).Add(w.truth) }

func (w *world) session() {
	w.s = NewSession("g", "", w.signer, w.operator())
	w.sessions[w.s.ID()] = w.truth
}

func (w *world) start(s State) {
	w.f = NewFollower(Member{Group: "g", Executor: "e", Instance: fmt.Sprint(len(w.seen)), Keys: w.signer.Public()}, s)
	if s.Aborted {
		w.f.Hold(w.now())
	}
}

// issue keeps a new record.
func (w *world) issue(r *fleetv1.Record, data []byte, err error) {
	if err != nil {
		panic(err)
	}
	w.revision = max(w.revision, r.GetRevision())
	w.records = append(w.records, sentRecord{r, w.truth, data})
}

// answer keeps an admission that answers a report made now.
func (w *world) answer(reset bool) {
	n := w.f.Nonce(w.now())
	w.seen = append(w.seen, seen{at: w.now(), nonce: n})
	report := &fleetv1.Report{ExecutorId: "e", InstanceId: w.f.m.Instance, Nonce: n}
	if w.s.Last() == nil {
		return
	}
	a := sentAdmission{nonce: n, session: w.s.ID(), uptime: w.operator().Sub(w.s.began), revision: w.s.Last().GetRevision(), reset: reset}
	var err error
	if reset {
		a.data, err = w.s.Command(&fleetv1.Admission{Reset_: true}, report, w.operator())
	} else {
		a.data, err = w.s.Admit(report, w.operator())
	}
	if err != nil {
		panic(err)
	}
	w.admissions = append(w.admissions, a)
}

// steps are what can happen. from returns the place of an element of a list with n elements, which is not empty.
var steps = []struct {
	name string
	do   func(w *world, from func(n int) int)
}{
	{"1 s", func(w *world, _ func(int) int) { w.truth += time.Second }},
	{"4 s", func(w *world, _ func(int) int) { w.truth += 4 * time.Second }},
	{"change", func(w *world, from func(int) int) {
		r, data, err := w.s.Change(observe(float64(10*(1+from(9))), modelLease), w.revision, w.operator())
		w.issue(r, data, err)
	}},
	{"off", func(w *world, _ func(int) int) {
		r, data, err := w.s.Change(observe(0, modelLease), w.revision, w.operator())
		w.issue(r, data, err)
	}},
	{"renew", func(w *world, _ func(int) int) {
		if w.s.Last() != nil {
			r, data, err := w.s.Renew(w.operator())
			w.issue(r, data, err)
		}
	}},
	{"record comes", func(w *world, from func(int) int) {
		if len(w.records) > 0 {
			r := &w.records[from(len(w.records))]
			_ = w.f.Record(r.data)
			w.seen = append(w.seen, seen{at: w.now(), record: r})
		}
	}},
	{"report", func(w *world, _ func(int) int) { w.answer(false) }},
	{"admission comes", func(w *world, from func(int) int) {
		if len(w.admissions) > 0 {
			a := &w.admissions[from(len(w.admissions))]
			_, err := w.f.Admission(a.data, w.now())
			w.seen = append(w.seen, seen{at: w.now(), admission: a, forgot: a.reset && err == nil})
		}
	}},
	{"controller restarts", func(w *world, _ func(int) int) { w.session() }},
	{"abort comes", func(w *world, from func(int) int) {
		if w.revision == 0 {
			return
		}
		if len(w.stops) == 0 || from(2) == 0 {
			data, err := Stop(w.signer, "g", "", abort, w.revision, "", w.operator())
			if err != nil {
				panic(err)
			}
			w.stops = append(w.stops, sentStop{w.revision, data})
		}
		s := &w.stops[from(len(w.stops))]
		_, _ = w.f.Stop(s.data, w.now())
		w.seen = append(w.seen, seen{at: w.now(), stop: s})
	}},
	{"abort of this one", func(w *world, _ func(int) int) {
		at := w.truth
		w.f.Hold(w.now())
		w.seen = append(w.seen, seen{at: w.now(), held: &at})
	}},
	{"restart", func(w *world, _ func(int) int) {
		w.seen = append(w.seen, seen{at: w.now()})
		w.start(w.f.State())
	}},
	{"restart without state", func(w *world, _ func(int) int) {
		w.seen = append(w.seen, seen{at: w.now(), forgot: true})
		w.start(State{})
	}},
	{"reset", func(w *world, _ func(int) int) { w.answer(true) }},
}

// model computes from all that was seen what the executor must obey now. It shares no code with the follower.
func (w *world) model(upTo int, now time.Time) (percent float64, until time.Time) {
	var nonces map[string]time.Time
	restart := func() { nonces = map[string]time.Time{} }
	restart()
	var newest, here *sentRecord // of all time, and taken by this process
	var admitted []*sentAdmission
	var held uint64
	var stopped time.Time // the last stop of the group or of this executor
	// aborted is when this executor alone was aborted; pending is set until a later session is obeyed. A new process does not know
	// when.
	var aborted *time.Time
	pending := false
	newer := func(a, b *sentRecord) bool {
		if a.record.GetRevision() != b.record.GetRevision() {
			return a.record.GetRevision() > b.record.GetRevision()
		}
		return a.record.GetRenewal() > b.record.GetRenewal()
	}
	for i, e := range w.seen[:upTo] {
		switch {
		case e.nonce != "":
			nonces[e.nonce] = e.at
		case e.record != nil:
			if newest == nil || newer(e.record, newest) || e.record == newest {
				newest, here = e.record, e.record
			}
		case e.admission != nil && e.admission.reset:
			at, known := nonces[e.admission.nonce]
			if known && e.at.Sub(at) <= 30*time.Second && at.After(stopped) {
				if p, _ := w.model(i, e.at); p == 0 {
					newest, here, admitted, held, aborted, pending = nil, nil, nil, 0, nil, false
					restart()
				}
			}
		case e.admission != nil:
			at, known := nonces[e.admission.nonce]
			superseded := here != nil && here.record.GetSession() != e.admission.session && here.record.GetRevision() > e.admission.revision
			if known && e.at.Sub(at) <= 30*time.Second && !superseded {
				admitted = append(admitted, e.admission)
			}
		case e.stop != nil:
			if e.stop.revision > held {
				stopped = e.at
			}
			held = max(held, e.stop.revision)
		case e.obeyed:
			pending = false
		case e.held != nil:
			aborted, pending, stopped = &e.at, true, e.at
			if newest != nil {
				held = max(held, newest.record.GetRevision())
			}
		default:
			restart()
			here, admitted, aborted = nil, nil, nil
			if e.forgot {
				newest, held, pending = nil, 0, false
			}
			if pending {
				aborted, stopped = &e.at, e.at
			}
		}
	}
	if here == nil || here.record.GetPercent() == 0 || here.record.GetRevision() <= held {
		return 0, time.Time{}
	}
	later := aborted == nil
	// Only admissions of the newest session count, from the time that it became the newest.
	for i := len(admitted) - 1; i >= 0; i-- {
		a := admitted[i]
		if a.session != admitted[len(admitted)-1].session {
			break
		}
		if a.session != here.record.GetSession() || a.revision > here.record.GetRevision() {
			return 0, time.Time{}
		}
		if end := nonces[a.nonce].Add(here.record.GetUptime().AsDuration() - a.uptime + modelLease); end.After(until) {
			until = end
		}
		// The session has run for the uptime when the report was made, or less. Clocks may differ by 100 ppm.
		later = later || !nonces[a.nonce].Add(-a.uptime-a.uptime/10_000).Before(*aborted)
	}
	if !now.Before(until) || !later {
		return 0, time.Time{}
	}
	return here.record.GetPercent(), until
}

// check compares the follower with the model, and both with the truth.
func (w *world) check() error {
	now := w.now()
	o := w.f.Orders(now)
	percent, until := w.model(len(w.seen), now)
	// The follower ends a lease a little earlier, since clocks drift: by 100 ppm of a few minutes.
	const slack = 50 * time.Millisecond
	switch {
	case o.Percent == percent && (percent == 0 || !o.Until.After(until.Add(time.Millisecond)) && until.Sub(o.Until) < slack):
	case o.Percent == 0 && until.Sub(now) < slack:
	default:
		return fmt.Errorf("obeys %g %% for %v (%q), want %g %% for %v", o.Percent, o.Until.Sub(now), o.Why, percent, until.Sub(now))
	}
	if o.Percent == 0 {
		return nil
	}
	w.seen = append(w.seen, seen{at: now, obeyed: true})
	// The invariants: the share comes from the newest record that was seen, its session began after the last abort of this
	// executor alone, unless a reset has answered a later report, and its last renewal was issued within the lease.
	var seen *fleetv1.Record
	held := time.Duration(-1)
	answers := map[string]time.Duration{} // the abort before each report
	for _, e := range w.seen {
		if e.nonce != "" {
			answers[e.nonce] = held
		}
		if e.forgot {
			seen = nil
			if e.admission == nil || answers[e.admission.nonce] == held {
				held = -1
			}
		}
		if e.record != nil && (seen == nil || e.record.record.GetRevision() > seen.GetRevision()) {
			seen = e.record.record
		}
		if e.held != nil {
			held = *e.held
		}
	}
	if began := w.sessions[o.Record.GetSession()]; began < held {
		return fmt.Errorf("obeys a session that began %v before this executor was aborted", held-began)
	}
	if o.Percent > seen.GetPercent() {
		return fmt.Errorf("obeys %g %%, but the newest record that was seen has %g %%", o.Percent, seen.GetPercent())
	}
	last := -time.Hour
	for _, r := range w.records {
		if r.record.GetRevision() == o.Record.GetRevision() {
			last = max(last, r.issued)
		}
	}
	if age := w.truth - last; age > modelLease {
		return fmt.Errorf("obeys %g %%, but the last renewal was issued %v ago", o.Percent, age)
	}
	if left := time.Duration(float64(o.Until.Sub(now)) / (1 + w.drift)); w.truth+left > last+modelLease+time.Millisecond {
		return fmt.Errorf("the lease ends %v after it should", w.truth+left-last-modelLease)
	}
	return nil
}

// TestEverySchedule tries every short schedule after a share was reached, with the newest and the oldest message each time.
func TestEverySchedule(t *testing.T) {
	depth := 3 // a depth of 4 takes a minute
	if testing.Short() {
		depth = 2
	}
	signer := newSigner(t)
	oldest := func(int) int { return 0 }
	newest := func(n int) int { return n - 1 }
	type choice struct {
		step int
		from func(int) int
	}
	var choices []choice
	for i, s := range steps {
		choices = append(choices, choice{i, newest})
		if strings.HasSuffix(s.name, "comes") {
			choices = append(choices, choice{i, oldest})
		}
	}
	reached, tried := 0, 0
	path := make([]choice, depth)
	var walk func(at int)
	walk = func(at int) {
		if at < depth {
			for _, c := range choices {
				path[at] = c
				walk(at + 1)
			}
			return
		}
		w := newWorld(signer, 1e-4)
		names := []string{"change", "record comes", "report", "admission comes"}
		for _, name := range names {
			w.step(name, newest)
		}
		for _, c := range path {
			names = append(names, steps[c.step].name)
			steps[c.step].do(w, c.from)
			if err := w.check(); err != nil {
				t.Fatalf("after %s: %v", strings.Join(names, ", "), err)
			}
		}
		tried++
		if w.f.Orders(w.now()).Percent > 0 {
			reached++
		}
	}
	walk(0)
	if reached == 0 || reached == tried {
		t.Errorf("%d of %d schedules end with a share: the test shows nothing", reached, tried)
	}
	t.Logf("%d schedules, %d end with a share", tried, reached)
}

func (w *world) step(name string, from func(int) int) {
	for _, s := range steps {
		if s.name == name {
			s.do(w, from)
		}
	}
}

// TestRandomSchedules tries long schedules, with any message at any time.
func TestRandomSchedules(t *testing.T) {
	signer := newSigner(t)
	n := 400
	if testing.Short() {
		n = 50
	}
	reached := 0
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		w := newWorld(signer, []float64{1e-4, -1e-4, 0}[seed%3])
		var names []string
		// Most messages are new ones, so that shares are reached.
		from := func(n int) int {
			if rng.IntN(4) > 0 {
				return n - 1
			}
			return rng.IntN(n)
		}
		for range 80 {
			s := steps[rng.IntN(len(steps))]
			if rng.IntN(3) == 0 {
				s = steps[[]int{2, 4, 5, 6, 7}[rng.IntN(5)]]
			}
			names = append(names, s.name)
			s.do(w, from)
			if err := w.check(); err != nil {
				t.Fatalf("seed %d, after %s: %v", seed, strings.Join(names, ", "), err)
			}
			if w.f.Orders(w.now()).Percent > 0 {
				reached++
			}
		}
	}
	if reached < n {
		t.Errorf("a share is reached only %d times in %d schedules", reached, n)
	}
	t.Logf("%d schedules, %d steps with a share", n, reached)
}
