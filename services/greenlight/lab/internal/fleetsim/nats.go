package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/natshost"
)

const (
	// natsLease is the lease of records on real servers, natsTick the time between two checks.
	natsLease = 3 * time.Second
	natsTick  = 100 * time.Millisecond
	// natsSettle is how long an executor on a busy machine may take to act on what it was given. No lease depends on it.
	natsSettle = 3 * time.Second
	// natsEvents is the number of events in a schedule, natsGap the longest time between two.
	natsEvents = 6
	natsGap    = 4 * time.Second
	// natsReach is how long all executors may take to reach a share after servers were restarted.
	natsReach = 90 * time.Second
	// natsAtOnce is the number of schedules that run in parallel: they mostly wait.
	natsAtOnce = 4
)

// OnNATS runs groups of executors with real NATS servers, each with a schedule determined by its seed.
func OnNATS(ctx context.Context, o Options) (*Result, error) {
	return o.schedules(ctx, natsAtOnce, natsLease, func(seed uint64) (*Result, error) {
		return onNATS(ctx, o, seed, filepath.Join(o.Dir, fmt.Sprint("seed-", seed)))
	})
}

// onNATS runs one group.
func onNATS(ctx context.Context, o Options, seed uint64, dir string) (*Result, error) {
	t := newTruth(o.Keys.Operator.Public(), natsLease, natsSettle, seed)
	err := natshost.With(ctx, filepath.Join(dir, "nats"), func(s *natshost.Servers) (err error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var carriers []*natsgroup.Carrier
		w := &world{
			ctx: ctx, t: t, rng: random(seed), keys: o.Keys, lease: natsLease, tick: natsTick, busy: true, dir: filepath.Join(dir, "executors"),
			carrier: func() (group.Carrier, error) {
				c, err := natsgroup.Open(natsgroup.Options{URL: s.URL(), Group: groupName, Name: "lab", Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					return nil, err
				}
				carriers = append(carriers, c)
				return c, nil
			},
			heal: s.Heal, settle: func() {},
		}
		defer func() {
			cancel()
			err = errors.Join(err, w.close())
			for _, c := range carriers {
				c.Close()
			}
		}()
		return w.play(o.Executors, natsReach, append(controllerEvents(), serverEvents(s)...), natsEvents, natsGap)
	})
	return t.result(), err
}

// serverEvents are the faults of servers.
func serverEvents(s *natshost.Servers) []event {
	all := func(do func(i int)) func(*world) string {
		return func(*world) string {
			for i := range natshost.N {
				do(i)
			}
			return "all"
		}
	}
	freeze := func(i int) { _ = s.Freeze(i) }
	return []event{
		{"server killed", func(w *world) string {
			i := w.rng.IntN(natshost.N)
			s.Kill(i)
			return fmt.Sprint("server ", i)
		}},
		{"servers killed", all(s.Kill)},
		{"server frozen", func(w *world) string {
			i := w.rng.IntN(natshost.N)
			freeze(i)
			return fmt.Sprint("server ", i)
		}},
		{"servers frozen", all(freeze)},
		{"servers back", func(*world) string { s.Heal(); return "all" }},
		{"store wiped", func(*world) string {
			for i := range natshost.N {
				s.Wipe(i)
			}
			s.Heal()
			return "all servers"
		}},
	}
}
