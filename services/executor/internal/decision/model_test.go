package decision_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rollout"
)

// seedsEnv is the number of sequences to try, from seed 0; seedEnv is the seed of a single one.
const seedsEnv, seedEnv = "MODEL_SEEDS", "MODEL_SEED"

// TestModel compares the executor's decisions, dispatcher, breaker and rollout with simple models, over random sequences of
// requests, faults of ml-engine, rollout changes and passing time. For a sequence with a disagreement it prints the seed
// and the fewest steps that still disagree.
func TestModel(t *testing.T) {
	// These eight seeds reach the coverage that is required below; so do any sixteen from 0.
	from, to, covered := 8, 16, true
	if n, err := strconv.Atoi(os.Getenv(seedsEnv)); err == nil {
		from, to, covered = 0, n, n >= 16
	}
	if n, err := strconv.Atoi(os.Getenv(seedEnv)); err == nil {
		from, to, covered = n, n+1, false
	}
	var all coverage
	for seed := from; seed < to; seed++ {
		steps := sequence(uint64(seed))
		fault := play(t, uint64(seed), steps, &all)
		if fault == "" {
			continue
		}
		steps, fault = shrink(t, uint64(seed), steps, fault)
		var list strings.Builder
		for _, s := range steps {
			fmt.Fprintf(&list, "\n  %+v", s)
		}
		t.Fatalf("seed %d: %s, after %d steps:%s", seed, fault, len(steps), list.String())
	}
	t.Logf("%d sequences: %d requests, outcomes %v, trips %d, closings %d, lapses %d, refusals %v", to-from, all.requests, all.outcomes, all.trips,
		all.closings, all.lapses, all.refusals)
	if covered && (all.trips < 10 || all.closings < 2 || all.lapses < 5 || len(all.outcomes) < 10 || len(all.refusals) < 2) {
		t.Error("the sequences cover too little")
	}
}

// coverage counts what the sequences have reached.
type coverage struct {
	requests, trips, closings, lapses int
	outcomes                          map[shadow.Outcome]int
	refusals                          map[codes.Code]int
}

// step is one event. The kind defines the meaning of the numbers.
type step struct {
	Kind    string
	N       int
	Percent float64
	Wait    time.Duration
	Holder  string
	Reason  string
	Fault   int
	Settle  bool
}

// sequence returns a random sequence of steps.
func sequence(seed uint64) []step {
	rng := rand.New(rand.NewPCG(seed, 99))
	percents := []float64{0, 1, 5, 10, 25, 50, 100, 100, 100, 100, 100, 100, 100, 100, rng.Float64() * 100}
	steps := []step{{Kind: "set", Percent: 100}}
	for range 60 {
		s := step{Settle: rng.IntN(3) > 0}
		switch k := rng.IntN(100); {
		case k < 50:
			s.Kind, s.N = "requests", []int{1, 1, 2, 5, 12, 40, 110}[rng.IntN(7)]
		case k < 60:
			s.Kind, s.N = "wait", 1
		case k < 76:
			s.Kind, s.Fault = "fault", rng.IntN(len(faults))
		case k < 80:
			s.Kind, s.N, s.Fault = "recover", 1+rng.IntN(7), rng.IntN(len(faults))
			if rng.IntN(2) == 0 {
				s.Fault = 0
			}
		case k < 83:
			s.Kind = "edge"
		case k < 90:
			s.Kind = "time"
			s.Wait = []time.Duration{time.Millisecond, time.Second, 7 * time.Second, 16 * time.Second, 61 * time.Second, 5 * time.Minute}[rng.IntN(6)]
			s.Wait += time.Duration(rng.IntN(1e6)) // never exactly on an edge
		case k < 98:
			s.Kind, s.Percent, s.Reason = "set", percents[rng.IntN(len(percents))], []string{"", "phase"}[rng.IntN(2)]
			s.N = rng.IntN(4) // selects the expected revision
			if rng.IntN(2) == 0 {
				s.Holder, s.Wait = []string{"a", "b"}[rng.IntN(2)], time.Duration(1+rng.IntN(600))*time.Second
			}
		default:
			s.Kind = "abort"
		}
		steps = append(steps, s)
	}
	return append(steps, step{Kind: "stop", N: 5})
}

// shrink removes steps as long as the disagreement remains, for a limited number of tries.
func shrink(t *testing.T, seed uint64, steps []step, fault string) ([]step, string) {
	tries := 300
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(steps) && tries > 0; tries-- {
			fewer := slices.Concat(steps[:at], steps[at+size:])
			if f := play(t, seed, fewer, &coverage{}); f != "" {
				steps, fault = fewer, f
			} else {
				at += size
			}
		}
	}
	return steps, fault
}

// faults are faults of ml-engine, each with the outcome of a shadow whose healthy score is given.
var faults = []struct {
	name    string
	fault   enginetest.Fault
	outcome func(score, baseline float64) shadow.Outcome
}{
	{"health", enginetest.Fault{}, compared},
	{"health", enginetest.Fault{}, compared},
	{"shift", enginetest.Shift(0.3), func(s, b float64) shadow.Outcome { return compared(max(0, min(1, s+0.3)), b) }},
	{"slow", enginetest.Delay(40 * time.Millisecond), compared},
	{"too slow", enginetest.Delay(90 * time.Millisecond), always(shadow.Deadline)},
	{"hang", enginetest.Hang(), always(shadow.Deadline)},
	{"internal", enginetest.Fail(codes.Internal), always(shadow.Internal)},
	{"unavailable", enginetest.Fail(codes.Unavailable), always(shadow.Unavailable)},
	{"refusing", enginetest.Fail(codes.InvalidArgument), always(shadow.Rejected)},
	{"no score", enginetest.Answer(math.NaN()), always(shadow.InvalidScore)},
}

const slow = 3

func always(o shadow.Outcome) func(float64, float64) shadow.Outcome {
	return func(float64, float64) shadow.Outcome { return o }
}

func compared(s, b float64) shadow.Outcome {
	if math.Abs(s-b) <= 0.05 {
		return shadow.Match
	}
	return shadow.Mismatch
}

// failure reports whether the breaker counts the outcome as a failure of ml-engine. excluded reports whether the breaker
// ignores it.
func failure(o shadow.Outcome) bool {
	switch o {
	case shadow.Deadline, shadow.Unavailable, shadow.Internal, shadow.InvalidScore:
		return true
	}
	return false
}

func excluded(o shadow.Outcome) bool { return !failure(o) && o != shadow.Match && o != shadow.Mismatch }

// breakerModel is the default breaker. It opens at more than 2 % of at least 100 in 60 s, or 10 in a row. It is open
// for 15 s, doubled up to 240 s, minus up to a quarter, and needs 5 probes. At the edge of the window or of a random time
// both results are allowed.
type breakerModel struct {
	state    string // closed, open, half-open, or unsure between the last two
	results  []result
	reopened int
	probes   int
	// early and late are when probes may begin at the earliest and at the latest.
	early, late time.Time
}

type result struct {
	at      time.Time
	outcome shadow.Outcome
}

// stateAt returns the state at that time.
func (b *breakerModel) stateAt(now time.Time) string {
	if b.state == "open" || b.state == "unsure" {
		switch {
		case now.After(b.late):
			b.state, b.probes = "half-open", 0
		case !now.Before(b.early):
			b.state = "unsure"
		}
	}
	return b.state
}

// seen resolves an unsure state of the model by the observed state.
func (b *breakerModel) seen(state string) {
	if b.state == "unsure" && state == "half-open" {
		b.state, b.probes = "half-open", 0
	}
}

// trips reports whether the failures in the window must open the breaker, and whether they may.
func (b *breakerModel) trips(now time.Time) (must, may bool) {
	judge := func(window time.Duration, inRowWindow time.Duration) bool {
		failed, all, row := 0, 0, 0
		for _, r := range b.results {
			if now.Sub(r.at) <= inRowWindow {
				if row++; !failure(r.outcome) {
					row = 0
				}
			}
			if now.Sub(r.at) <= window {
				all++
				if failure(r.outcome) {
					failed++
				}
			}
			if row >= 10 {
				return true
			}
		}
		return all >= 100 && float64(failed) > 0.02*float64(all)
	}
	const surely, perhaps = 58 * time.Second, 61 * time.Second
	short, long := judge(surely, surely), judge(perhaps, time.Hour)
	return short && long, short || long
}

// take processes the results since the last call, in order. It returns what is wrong with the observed state.
func (b *breakerModel) take(results []result, now time.Time, state string, all *coverage) string {
	before := b.stateAt(now)
	for _, r := range results {
		if excluded(r.outcome) {
			continue
		}
		switch b.state {
		case "closed":
			b.results = append(b.results, r)
		case "half-open", "unsure":
			if failure(r.outcome) {
				b.reopened++
				wait := min(15*time.Second<<min(b.reopened, 10), 240*time.Second)
				// After the open time ml-engine may have been seen to recover, which skips the rest of the backoff.
				b.state, b.early, b.late = "open", r.at.Add(15*time.Second), r.at.Add(wait)
				all.trips++
				continue
			}
			b.state = "half-open" // it let one through
			if b.probes++; b.probes == 5 {
				b.state, b.results, b.reopened = "closed", nil, 0
				all.closings++
			}
		}
	}
	if before == "closed" && len(results) > 0 && slices.ContainsFunc(results, func(r result) bool { return failure(r.outcome) }) {
		must, may := b.trips(results[len(results)-1].at)
		switch {
		case must && state == "closed":
			return fmt.Sprintf("the breaker is closed after %s", tail(b.results))
		case !may && state != "closed":
			return fmt.Sprintf("the breaker is %s after %s", state, tail(b.results))
		case state != "closed":
			b.state, b.early, b.late = "open", results[0].at.Add(15*time.Second), results[len(results)-1].at.Add(15*time.Second)
			b.results = nil
			all.trips++
		}
	}
	b.stateAt(now)
	b.seen(state)
	if b.state != state && !(b.state == "unsure" && state == "open") {
		return fmt.Sprintf("the breaker is %s, want %s", state, b.state)
	}
	return ""
}

func tail(results []result) string {
	failed := 0
	for _, r := range results {
		if failure(r.outcome) {
			failed++
		}
	}
	return fmt.Sprintf("%d failures of %d results, the last %v", failed, len(results), results[max(0, len(results)-12):])
}

// rolloutModel is the rollout as the contract defines it.
type rolloutModel struct {
	percent       float64
	revision      uint64
	holder, ended string
	reason        string
	expires       time.Time
}

func (r *rolloutModel) lapse(now time.Time, all *coverage) {
	if r.holder != "" && !now.Before(r.expires) {
		*r = rolloutModel{revision: r.revision + 1}
		all.lapses++
	}
}

// set applies a change and returns the expected status code.
func (r *rolloutModel) set(now time.Time, s step, expected uint64) codes.Code {
	switch {
	case expected != 0 && expected != r.revision:
		return codes.Aborted
	case r.holder != "" && r.holder != s.Holder:
		return codes.FailedPrecondition
	case expected == 0 && s.Holder != "" && r.ended == s.Holder:
		return codes.Aborted
	}
	next := rolloutModel{percent: s.Percent, revision: r.revision + 1, holder: s.Holder, reason: s.Reason}
	if s.Holder != "" {
		next.expires = now.Add(s.Wait)
		if r.holder == s.Holder && r.percent == s.Percent && r.reason == s.Reason {
			next.revision = r.revision
		}
	}
	*r = next
	return codes.OK
}

func (r *rolloutModel) abort() {
	ended := r.holder
	if ended == "" {
		ended = r.ended
	}
	*r = rolloutModel{revision: r.revision + 1, ended: ended, reason: "abort"}
}

// game is one run of a sequence.
type game struct {
	*executor

	service      *rollout.Service
	breaker      breakerModel
	rollout      rolloutModel
	fault, queue int
	// disagreement is the first one found.
	disagreement string
	requests     int
	// stream is the one that half of the requests go over; nil before the first.
	stream decideStream
	// hurry is set if no request may wait for earlier ones.
	hurry bool

	mu      sync.Mutex
	settled map[string][]shadow.Outcome
	results []result
	open    map[string][]shadow.Outcome // the allowed outcomes of unsettled requests
	// sampled are the lowest percentages at which an id was sampled, unsampled the highest at which it was not.
	sampled, unsampled        map[string]float64
	drawn, expected, variance float64
	all                       *coverage
}

// play runs the steps. It returns the first disagreement between executor and models, empty if there is none.
func play(t *testing.T, seed uint64, steps []step, all *coverage) string {
	t.Helper()
	if all.outcomes == nil {
		all.outcomes, all.refusals = map[shadow.Outcome]int{}, map[codes.Code]int{}
	}
	var g *game
	synctest.Test(t, func(t *testing.T) {
		g = &game{
			breaker: breakerModel{state: "closed"}, rollout: rolloutModel{percent: 0, revision: 1}, queue: []int{1024, 6}[seed%2],
			settled: map[string][]shadow.Outcome{}, open: map[string][]shadow.Outcome{},
			sampled: map[string]float64{}, unsampled: map[string]float64{}, all: all,
		}
		g.executor = start(t, enginetest.Options{}, 0, func(s *setup) { s.settled, s.queue = g.told, g.queue })
		g.rng = rand.New(rand.NewPCG(seed, 7))
		g.service = rollout.NewService(g.rollouts)
		for i, s := range steps {
			if g.step(s); g.disagreement != "" {
				g.disagreement = fmt.Sprintf("step %d (%s): %s", i, s.Kind, g.disagreement)
				break
			}
		}
		g.engine.Heal()
	})
	return g.disagreement
}

func (g *game) wrong(format string, args ...any) {
	if g.disagreement == "" {
		g.disagreement = fmt.Sprintf(format, args...)
	}
}

func (g *game) told(r shadow.Request, res shadow.Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settled[r.ID] = append(g.settled[r.ID], res.Outcome)
	g.results = append(g.results, result{time.Now(), res.Outcome})
}

// known reports whether a request with the id is open or has ended.
func (g *game) known(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open[id]) > 0 || len(g.settled[id]) > 0
}

func (g *game) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.settled, id)
}

func (g *game) step(s step) {
	now := time.Now()
	g.rollout.lapse(now, g.all)
	g.breaker.stateAt(now)
	switch s.Kind {
	case "requests", "wait":
		n := s.N
		if g.breaker.state == "half-open" || g.breaker.state == "unsure" {
			g.settle() // concurrent probes are covered by the breaker's own tests
			n = 1
		}
		if g.fault == slow {
			g.settle()
			n = min(n, 4) // one per call, so that none waits for another
		}
		for range n {
			g.request(s.Kind == "wait", n)
			if g.breaker.state == "half-open" || g.breaker.state == "unsure" { // request may have settled an earlier one with the same id
				g.settle()
			}
		}
	case "fault":
		g.settle()
		g.fault = s.Fault
		g.engine.Break(faults[s.Fault].fault)
	case "recover": // one request at a time, once probes may begin
		g.settle()
		if g.breaker.state != "closed" {
			time.Sleep(time.Until(g.breaker.late) + time.Millisecond)
		}
		g.fault = s.Fault
		g.engine.Break(faults[s.Fault].fault)
		for range s.N {
			now := time.Now()
			g.rollout.lapse(now, g.all)
			g.breaker.stateAt(now)
			g.request(false, 1)
			g.settle()
		}
	case "edge": // the last nanosecond of a lease, and the first after it
		g.settle()
		if left := time.Until(g.rollout.expires); left > 0 {
			time.Sleep(left - 1)
			g.hurry = true
			for range 2 {
				g.breaker.stateAt(time.Now())
				g.request(false, 1)
				time.Sleep(time.Nanosecond)
				g.rollout.lapse(time.Now(), g.all)
			}
			g.hurry = false
			g.settle()
		}
	case "time":
		g.settle()
		time.Sleep(s.Wait)
	case "set":
		g.set(s)
	case "abort":
		g.rollout.abort()
		if _, err := g.service.AbortRollout(g.t.Context(), &executorv1.AbortRolloutRequest{Reason: "abort"}); err != nil {
			g.wrong("abort: %v", err)
		}
	case "stop":
		g.stop(s.N)
		return
	}
	if s.Settle || g.breaker.state != "closed" || g.fault == slow {
		g.settle()
	}
	now = time.Now()
	g.rollout.lapse(now, g.all)
	if r := g.rollouts.Report(); r.GetPercent() != g.rollout.percent || r.GetRevision() != g.rollout.revision || r.GetHolder() != g.rollout.holder {
		g.wrong("the rollout is %v, want %+v", r, g.rollout)
	}
}

func (g *game) set(s step) {
	mode := executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	req := &executorv1.SetRolloutRequest{Percent: s.Percent, Mode: mode, Holder: s.Holder, Reason: s.Reason}
	if s.Holder != "" {
		req.Lease = durationpb.New(s.Wait)
	}
	switch s.N {
	case 1:
		req.ExpectedRevision = g.rollout.revision
	case 2:
		req.ExpectedRevision = g.rollout.revision + 3
	}
	_, err := g.service.SetRollout(g.t.Context(), req)
	if got, want := status.Code(err), g.rollout.set(time.Now(), s, req.GetExpectedRevision()); got != want {
		g.wrong("set %v: got %v (%v), want %v", req, got, err, want)
	} else if got != codes.OK {
		g.all.refusals[got]++
	}
}

// request asks for one decision, and may wait for its shadow. burst is the number of concurrent requests.
func (g *game) request(wait bool, burst int) {
	id := "r" + strconv.Itoa(g.requests)
	fresh := g.rng.IntN(4) > 0 || g.hurry
	if !fresh { // reuse an id
		id = "again" + strconv.Itoa(g.rng.IntN(20))
		if g.known(id) {
			g.settle()
			g.forget(id)
		}
	}
	g.requests++
	g.all.requests++
	s := schema(g.t, "v1.8.1")
	x := enginetest.Vector(g.rng, s)
	baseline := g.baselineOf(s, x)
	vector := &executorv1.FeatureVector{Schema: s.Name, Values: x}
	begin := time.Now()
	var score float64
	var sampled bool
	told := shadow.Outcome(0)
	if wait {
		resp, err := g.PredictWithShadow(g.t.Context(), &executorv1.PredictWithShadowRequest{RequestId: id, Vector: vector})
		if err != nil {
			g.wrong("%v", err)
			return
		}
		told = shadow.Outcome(resp.GetOutcome())
		score, sampled = resp.GetBaseline().GetScore(), told != shadow.NotSampled
		if took := time.Since(begin); took > 60*time.Millisecond {
			g.wrong("waited for %v", took)
		}
	} else {
		resp, err := g.predict(&executorv1.PredictRequest{RequestId: id, Vector: vector})
		if err != nil {
			g.wrong("%v", err)
			return
		}
		score, sampled = resp.GetScore(), resp.GetShadowSampled()
		if took := time.Since(begin); took != 0 {
			g.wrong("the decision took %v", took)
		}
	}
	if math.Float64bits(score) != math.Float64bits(baseline) {
		g.wrong("the decision is %v, want the baseline's %v", score, baseline)
	}
	g.share(id, sampled, fresh)
	may := []shadow.Outcome{shadow.NotSampled}
	if sampled {
		may = g.mayBe(faults[g.fault].outcome(g.engine.Model().Scorer.Score(x), baseline), burst)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[id] = may
	if told != 0 && !slices.Contains(may, told) {
		g.wrong("%s was told %v, want one of %v", id, told, may)
	}
}

// predict asks for a decision, in turn by a call and over a stream.
func (g *game) predict(req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	if g.requests%2 == 0 {
		return g.Predict(g.t.Context(), req)
	}
	if g.stream == nil {
		g.stream = g.decides(g.t.Context())
	}
	m := &executorv1.DecideRequest{Sequence: uint64(g.requests), Deadline: timestamppb.Now(), Request: req}
	if err := g.stream.Send(m); err != nil {
		return nil, err
	}
	got, err := g.stream.Recv()
	if err != nil {
		return nil, err
	}
	if f := got.GetError(); f != nil || got.GetSequence() != m.GetSequence() {
		return nil, fmt.Errorf("message %d: got %v", m.GetSequence(), got)
	}
	return got.GetResponse(), nil
}

// mayBe returns the allowed outcomes of a sampled request, given the outcome on the engine's side.
func (g *game) mayBe(engine shadow.Outcome, burst int) []shadow.Outcome {
	if g.breaker.state == "open" {
		return []shadow.Outcome{shadow.BreakerOpen}
	}
	may := []shadow.Outcome{engine}
	if g.breaker.state == "unsure" || failure(engine) {
		may = append(may, shadow.BreakerOpen) // earlier requests may have opened the breaker
	}
	if g.queue < 1000 && (burst > g.queue || len(g.open) > 0) {
		may = append(may, shadow.Shed)
	}
	return may
}

// share checks the sampling against the percentage in force: the right share, nested, and none at 0.
func (g *game) share(id string, sampled, fresh bool) {
	p := g.rollout.percent
	if sampled && p == 0 || !sampled && p == 100 {
		g.wrong("%s: sampled is %v at %v %%", id, sampled, p)
	}
	if sampled {
		if was, ok := g.unsampled[id]; ok && was >= p {
			g.wrong("%s is sampled at %v %%, and was not at %v %%", id, p, was)
		}
		if was, ok := g.sampled[id]; !ok || p < was {
			g.sampled[id] = p
		}
	} else {
		if was, ok := g.sampled[id]; ok && was <= p {
			g.wrong("%s is not sampled at %v %%, and was at %v %%", id, p, was)
		}
		if was, ok := g.unsampled[id]; !ok || p > was {
			g.unsampled[id] = p
		}
	}
	if fresh {
		if sampled {
			g.drawn++
		}
		g.expected += p / 100
		g.variance += p / 100 * (1 - p/100)
		if off := math.Abs(g.drawn - g.expected); off > 1+6*math.Sqrt(g.variance) {
			g.wrong("%v of the requests are sampled, want about %v", g.drawn, g.expected)
		}
	}
}

// settle waits until every shadow has ended, and compares the results with the models.
func (g *game) settle() {
	time.Sleep(100*time.Millisecond + time.Duration(g.rng.IntN(1e6)))
	synctest.Wait()
	g.mu.Lock()
	results := g.results
	g.results = nil
	for id, may := range g.open {
		got := g.settled[id]
		if len(got) != 1 || !slices.Contains(may, got[0]) {
			g.wrong("%s ended as %v, want one of %v", id, got, may)
		}
		for _, o := range got {
			g.all.outcomes[o]++
		}
	}
	clear(g.open)
	g.mu.Unlock()
	r := g.shadows.Report()
	sum := uint64(0)
	for _, o := range r.GetOutcomesTotal() {
		sum += o.GetCount()
	}
	if sum != uint64(g.requests) || r.GetRequestsTotal() != sum || r.GetInFlight() != 0 {
		g.wrong("%d requests: %d were counted, %d have ended, %d are in flight", g.requests, r.GetRequestsTotal(), sum, r.GetInFlight())
	}
	state := map[executorv1.BreakerState]string{
		executorv1.BreakerState_BREAKER_STATE_CLOSED: "closed", executorv1.BreakerState_BREAKER_STATE_OPEN: "open",
		executorv1.BreakerState_BREAKER_STATE_HALF_OPEN: "half-open",
	}[r.GetBreaker().GetState()]
	if why := g.breaker.take(results, time.Now(), state, g.all); why != "" {
		g.wrong("%s", why)
	}
}

// stop stops the dispatcher with shadows in flight: each has an outcome, and decisions continue without shadows.
func (g *game) stop(n int) {
	g.settle()
	g.hurry = true
	for range n {
		g.request(false, n)
	}
	for id, may := range g.open {
		g.open[id] = append(may, shadow.Canceled, shadow.BreakerOpen)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
	defer cancel()
	if err := g.shadows.Stop(ctx); err != nil {
		g.wrong("stop: %v", err)
	}
	for range n {
		g.request(false, n)
	}
	for id, may := range g.open {
		if len(may) == 1 && may[0] == shadow.NotSampled {
			continue
		}
		g.open[id] = append(may, shadow.Canceled)
	}
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, may := range g.open {
		if got := g.settled[id]; len(got) != 1 || !slices.Contains(may, got[0]) {
			g.wrong("%s ended as %v after the stop, want one of %v", id, got, may)
		} else {
			g.all.outcomes[got[0]]++
		}
	}
}
