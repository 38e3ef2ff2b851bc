// Package fleettest has executors of a group in memory, for tests of the operator's side.
package fleettest

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Executor is what obeys and reports.
type Executor interface {
	// Obey puts the record in force until then; nil is 0 %.
	Obey(r *fleetv1.Record, until time.Time)
	// Kill kills the gate.
	Kill(reason string)
	// Report returns counts, rollout and gate.
	Report(ctx context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error)
}

// Member is an executor of a group in memory: it keeps the rules of package group.
type Member struct {
	Executor

	Group, ID string
	Carrier   group.Carrier
	Keys      dsse.Keys

	mu       sync.Mutex
	follower *group.Follower
	state    group.State
	instance string
	sequence uint64
}

// Start runs one process of the executor until the function that it returns is called. What it has seen outlives it.
func (m *Member) Start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	m.mu.Lock()
	m.instance, m.sequence = rand.Text(), 0
	m.follower = group.NewFollower(group.Member{Group: m.Group, Executor: m.ID, Instance: m.instance, Keys: m.Keys}, m.state)
	m.mu.Unlock()
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			_ = m.Carrier.Watch(ctx, m.ID, m.take)
			sleep(ctx, 200*time.Millisecond)
		}
	})
	done.Go(func() {
		for ctx.Err() == nil {
			m.obey()
			m.report(ctx)
			sleep(ctx, group.ReportPeriod)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (m *Member) take(kind group.Kind, envelope []byte) {
	m.mu.Lock()
	switch kind {
	case group.RecordMessage:
		_ = m.follower.Record(envelope)
	case group.AdmissionMessage:
		_ = m.follower.Admission(envelope, time.Now())
	case group.StopMessage:
		if s, err := m.follower.Stop(envelope); err == nil && s.GetKind() == fleetv1.StopKind_STOP_KIND_KILL {
			m.Kill(s.GetReason())
		}
	}
	m.state = m.follower.State()
	m.mu.Unlock()
	m.obey()
}

// obey puts the orders in force.
func (m *Member) obey() {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.follower.Orders(time.Now())
	m.Obey(o.Record, o.Until)
}

func (m *Member) report(ctx context.Context) {
	shadow, rollout, err := m.Report(ctx)
	if err != nil {
		return
	}
	m.mu.Lock()
	m.sequence++
	now := time.Now()
	r := &fleetv1.Report{
		Group: m.Group, ExecutorId: m.ID, InstanceId: m.instance, Sequence: m.sequence, Nonce: m.follower.Nonce(now), Host: "host-of-" + m.ID,
		Revision: m.state.Revision, Renewal: m.state.Renewal, Session: m.follower.Session(), Trouble: m.follower.Orders(now).Why, Shadow: shadow, Rollout: rollout,
	}
	m.mu.Unlock()
	raw, err := proto.Marshal(r)
	if err == nil {
		_ = m.Carrier.PublishReport(ctx, m.ID, raw)
	}
}

// Signer returns a new key of an operator.
func Signer(t testing.TB) *dsse.Signer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := dsse.NewKey(path); err != nil {
		t.Fatal(err)
	}
	s, err := dsse.ReadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
