// Package fleettest has in-memory executors of a group, for tests of the operator's side.
package fleettest

import (
	"context"
	"crypto/rand"
	"log/slog"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/member"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Member is an executor of the group "desk-a".
type Member struct {
	Executor member.Executor
	ID       string
	Carrier  group.Carrier
	Keys     dsse.Keys

	dir string
}

// Start runs one process of the executor until the function that it returns is called. What the executor has seen outlives the
// process.
func (m *Member) Start(t testing.TB) (stop func()) {
	t.Helper()
	if m.dir == "" {
		m.dir = t.TempDir()
	}
	process, err := member.Open(member.Options{
		Group: "desk-a", Keys: m.Keys, Carrier: m.Carrier, ID: m.ID, Instance: rand.Text(), Host: "host-of-" + m.ID, Dir: m.dir,
		Executor: m.Executor, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	process.Start()
	return func() {
		if err := process.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// NoBlocks implements the part of [member.Executor] for closed blocks and gates, for an executor that has neither.
type NoBlocks struct{}

// Command implements [member.Executor].
func (NoBlocks) Command(*fleetv1.Admission) error { return nil }

// Blocks implements [member.Executor].
func (NoBlocks) Blocks(uint64) (*executorv1.GetQualityReportResponse, uint64, int, error) {
	return nil, 0, 0, nil
}
