package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/member"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup/fleettest"
)

// executor has no ml-engine: it only remembers what it obeys. A member drives it, and a witness sees everything between the
// member and its carrier.
type executor struct {
	*witness
	keys    dsse.Keys
	carrier group.Carrier
	// dir is its state folder.
	dir string
	p   *process
}

// process is one process of an executor.
type process struct {
	fleettest.NoBlocks

	e      *executor
	number int
	m      *member.Member
	// dead is set when the process has ended: what it does then has no effect.
	mu   sync.Mutex
	dead bool
}

// stateFile is the file in which a member stores what it has seen.
const stateFile = "fleet.json"

// start starts a process with what remains of the state.
func (e *executor) start(left state) error {
	path := filepath.Join(e.dir, stateFile)
	var err error
	switch left {
	case lost:
		err = os.RemoveAll(e.dir)
	case damaged:
		err = os.WriteFile(path, []byte("{"), 0o600)
	case kept, stale:
	}
	if err = errors.Join(err, os.MkdirAll(e.dir, 0o700)); err != nil {
		return err
	}
	e.restart(left)
	p := &process{e: e, number: 1}
	if e.p != nil {
		p.number = e.p.number + 1
	}
	p.m, err = member.Open(member.Options{
		Group: groupName, Keys: e.keys, Carrier: &witnessed{e.carrier, p}, ID: e.id, Instance: p.instance(), Dir: e.dir, Executor: p,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	e.p = p
	p.m.Start()
	return nil
}

// instance is the id of the process.
func (p *process) instance() string { return fmt.Sprint(p.e.id, "-", p.number) }

// maxState bounds the state of an executor, in bytes.
const maxState = 1 << 20

// kill ends the process. A crash leaves the state as it was on disk.
func (e *executor) kill(ctx context.Context, crash bool) error {
	e.p.mu.Lock()
	e.p.dead = true
	e.p.mu.Unlock()
	path := filepath.Join(e.dir, stateFile)
	before, unread := durable.ReadFile(path, maxState)
	err := e.p.m.Stop(context.WithoutCancel(ctx))
	e.obeys(nil, time.Time{})
	switch {
	case !crash:
	case errors.Is(unread, fs.ErrNotExist):
		err = errors.Join(err, os.RemoveAll(path))
	case unread != nil:
		err = errors.Join(err, unread)
	default:
		err = errors.Join(err, os.WriteFile(path, before, 0o600))
	}
	return err
}

// abort aborts this executor alone, like its own RPC.
func (e *executor) abort() error {
	e.holds()
	e.p.m.Hold()
	return e.p.m.Keep(time.Minute)
}

// alive calls do unless the process has ended.
func (p *process) alive(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		do()
	}
}

// Obey implements [member.Executor].
func (p *process) Obey(r *fleetv1.Record, until time.Time, _ string) error {
	p.alive(func() { p.e.obeys(r, until) })
	return nil
}

// Kill implements [member.Executor]. There is no gate.
func (p *process) Kill(string, string, string) error { return nil }

// Command implements [member.Executor]. There is no gate.
func (p *process) Command(*fleetv1.Admission) error { return nil }

// Report implements [member.Executor]. Controllers of the lab read no counts.
func (p *process) Report(context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error) {
	return nil, nil, nil
}

// witnessed is a carrier that shows the witness what it delivers.
type witnessed struct {
	group.Carrier
	p *process
}

// Watch implements [group.Carrier].
func (c *witnessed) Watch(ctx context.Context, executor string, take func(group.Kind, []byte)) error {
	return c.Carrier.Watch(ctx, executor, func(k group.Kind, data []byte) {
		c.p.alive(func() { c.p.e.takes(data) })
		take(k, data)
	})
}

// Record implements [group.Carrier].
func (c *witnessed) Record(ctx context.Context) ([]byte, uint64, error) {
	data, version, err := c.Carrier.Record(ctx)
	if err == nil && data != nil {
		c.p.alive(func() { c.p.e.takes(data) })
	}
	return data, version, err
}

// Stops implements [group.Carrier].
func (c *witnessed) Stops(ctx context.Context) ([][]byte, error) {
	all, err := c.Carrier.Stops(ctx)
	for _, data := range all {
		c.p.alive(func() { c.p.e.takes(data) })
	}
	return all, err
}

// PublishReport implements [group.Carrier].
func (c *witnessed) PublishReport(ctx context.Context, executor string, report []byte) error {
	c.p.alive(func() { c.p.e.reports(report) })
	return c.Carrier.PublishReport(ctx, executor, report)
}
