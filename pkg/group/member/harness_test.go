package member

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

const (
	name  = "desk-a"
	lease = 30 * time.Second
)

func newSigner(t *testing.T) *dsse.Signer {
	t.Helper()
	s, _ := keytest.New(t)
	return s
}

// fake is an executor that remembers its orders.
type fake struct {
	mu     sync.Mutex
	record *fleetv1.Record
	until  time.Time
	why    string
	refuse error
	kills  []string
	// killing, which may be nil, is called at a kill, and returns its error.
	killing func() error
	// commands are those that were obeyed, failing is the error of the next ones.
	commands []*fleetv1.Admission
	failing  error
	blocks   []*executorv1.GetQualityReportResponse
}

func (f *fake) Obey(r *fleetv1.Record, until time.Time, why string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record, f.until, f.why = r, until, why
	if r != nil && f.refuse != nil {
		f.record = nil
		return f.refuse
	}
	return nil
}

func (f *fake) Kill(by, _, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kills = append(f.kills, by+" "+reason)
	if f.killing != nil {
		return f.killing()
	}
	return nil
}

func (f *fake) Command(c *fleetv1.Admission) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failing == nil {
		f.commands = append(f.commands, c)
	}
	return f.failing
}

func (f *fake) Report(context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error) {
	return &executorv1.GetShadowReportResponse{SamplePercent: f.percent()}, &executorv1.GetRolloutResponse{}, nil
}

func (f *fake) Blocks(after uint64) (*executorv1.GetQualityReportResponse, uint64, int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if uint64(len(f.blocks)) <= after {
		return nil, 0, 0, nil
	}
	return f.blocks[after], after + 1, len(f.blocks) - int(after), nil
}

func (f *fake) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record = nil
}

// close closes a block.
func (f *fake) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blocks = append(f.blocks, &executorv1.GetQualityReportResponse{
		Records: []*executorv1.QualityRecord{{ExecutorId: "executor-1", Block: int64(len(f.blocks))}},
	})
}

// percent is what is in force now.
func (f *fake) percent() float64 {
	r := f.inForce()
	return r.GetPercent()
}

func (f *fake) inForce() *fleetv1.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.record == nil || !time.Now().Before(f.until) {
		return nil
	}
	return f.record
}

// issued is a revision that was issued.
type issued struct {
	percent float64
	last    time.Time
}

// operator renews a record, and admits executors, until it is ended.
type operator struct {
	t       *testing.T
	carrier *grouptest.Carrier
	signer  *dsse.Signer
	session *group.Session
	end     context.CancelFunc
	running sync.WaitGroup

	// turn is a lock that is also held while a call waits, as a mutex in a bubble must not be.
	turn    chan struct{}
	all     map[uint64]issued
	version uint64
	reports map[string]*fleetv1.Report
}

// operate starts an operator, which knows what was issued before.
func operate(t *testing.T, n *grouptest.Network, signer *dsse.Signer, all map[uint64]issued) *operator {
	ctx, cancel := context.WithCancel(t.Context())
	o := &operator{
		t: t, carrier: n.Carrier(), signer: signer, session: group.NewSession(name, "test", signer, time.Now()), end: cancel, all: all,
		reports: map[string]*fleetv1.Report{}, turn: make(chan struct{}, 1),
	}
	o.running.Go(func() {
		for ctx.Err() == nil {
			_ = o.carrier.Reports(ctx, func(raw []byte) { o.take(ctx, raw) })
			pause(ctx, time.Second)
		}
	})
	o.running.Go(func() {
		for pause(ctx, lease/group.PollsPerLease) {
			o.lock()
			if o.session.Last() != nil {
				o.put(ctx, o.session.Renew)
			}
			o.unlock()
		}
	})
	t.Cleanup(o.stop)
	return o
}

func (o *operator) lock()   { o.turn <- struct{}{} }
func (o *operator) unlock() { <-o.turn }

// begin begins another session.
func (o *operator) begin() {
	o.lock()
	defer o.unlock()
	o.session = group.NewSession(name, "test", o.signer, time.Now())
}

func (o *operator) stop() {
	o.end()
	o.running.Wait()
}

// take answers a report.
func (o *operator) take(ctx context.Context, raw []byte) {
	r := &fleetv1.Report{}
	if err := proto.Unmarshal(raw, r); err != nil {
		o.t.Errorf("a report: %v", err)
		return
	}
	o.lock()
	defer o.unlock()
	o.reports[r.GetExecutorId()] = r
	if !o.session.Due(r, time.Now()) {
		return
	}
	a, err := o.session.Admit(r, time.Now())
	if err != nil {
		o.t.Error(err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = o.carrier.Admit(ctx, r.GetExecutorId(), a)
}

// put issues a record and stores it, even if somebody else has stored another. The caller holds the lock.
func (o *operator) put(ctx context.Context, issue func(time.Time) (*fleetv1.Record, []byte, error)) {
	r, data, err := issue(time.Now())
	if err != nil {
		o.t.Error(err)
		return
	}
	o.all[r.GetRevision()] = issued{r.GetPercent(), time.Now()}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	version, err := o.carrier.Put(ctx, data, o.version)
	if errors.Is(err, group.ErrVersion) {
		if _, o.version, err = o.carrier.Record(ctx); err == nil {
			version, err = o.carrier.Put(ctx, data, o.version)
		}
	}
	if err == nil {
		o.version = version
	}
}

// change issues a record with a percentage.
func (o *operator) change(percent float64) {
	o.lock()
	defer o.unlock()
	terms := &fleetv1.Record{Percent: percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(lease)}
	if percent == 0 {
		terms.Mode = executorv1.RolloutMode_ROLLOUT_MODE_OFF
	}
	above := uint64(0)
	for revision := range o.all {
		above = max(above, revision)
	}
	o.put(o.t.Context(), func(now time.Time) (*fleetv1.Record, []byte, error) { return o.session.Change(terms, above, now) })
}

// revision returns that of the last record.
func (o *operator) revision() uint64 {
	o.lock()
	defer o.unlock()
	return o.session.Last().GetRevision()
}

// reported returns the last report of an executor.
func (o *operator) reported(id string) *fleetv1.Report {
	o.lock()
	defer o.unlock()
	return o.reports[id]
}

// running is a member with a fake executor.
type running struct {
	*Member

	t       *testing.T
	fake    *fake
	carrier *grouptest.Carrier
	stopped bool
}

// start starts an executor in the folder.
func start(t *testing.T, n *grouptest.Network, keys dsse.Keys, id, dir string) *running {
	t.Helper()
	r := &running{t: t, fake: &fake{}, carrier: n.Carrier()}
	r.open(keys, id, dir)
	return r
}

func (r *running) open(keys dsse.Keys, id, dir string) {
	r.t.Helper()
	var err error
	r.Member, err = Open(Options{
		Group: name, Keys: keys, Carrier: r.carrier, ID: id, Instance: time.Now().String(), Host: "host", Dir: dir, Executor: r.fake,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.stopped = false
	r.Start()
	r.t.Cleanup(r.stop)
}

func (r *running) stop() {
	if r.stopped {
		return
	}
	r.stopped = true
	if err := r.Stop(context.WithoutCancel(r.t.Context())); err != nil {
		r.t.Error(err)
	}
}

// restart starts another process. It begins at 0 %.
func (r *running) restart() {
	r.t.Helper()
	r.stop()
	r.fake.rest()
	time.Sleep(time.Second)
	r.open(r.opts.Keys, r.opts.ID, r.opts.Dir)
}

// abort aborts this executor alone, as its rollout does.
func (r *running) abort() {
	r.t.Helper()
	r.Hold()
	r.fake.rest()
	if err := r.Keep(time.Second); err != nil {
		r.t.Error(err)
	}
}

// wants fails the test unless the percentage is in force.
func (r *running) wants(percent float64) {
	r.t.Helper()
	synctest.Wait()
	if got := r.fake.percent(); got != percent {
		r.t.Errorf("%g %% are in force (%q), want %g %%", got, r.Trouble(), percent)
	}
}
