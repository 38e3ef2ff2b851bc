package rowlog

import (
	"log/slog"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
)

// watchPeriod is how often the log is polled.
const watchPeriod = 10 * time.Second

// watch logs when the feature log is not written. The feature log itself only counts.
type watch struct {
	stats    func() featurelog.Stats
	logger   *slog.Logger
	failing  bool
	lost     uint64
	quit, ok chan struct{}
}

func startWatch(stats func() featurelog.Stats, logger *slog.Logger) *watch {
	w := &watch{stats: stats, logger: logger, quit: make(chan struct{}), ok: make(chan struct{})}
	go w.run()
	return w
}

func (w *watch) run() {
	defer close(w.ok)
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.poll()
		case <-w.quit:
			w.poll()
			return
		}
	}
}

func (w *watch) poll() {
	s := w.stats()
	failing := failing(s)
	switch {
	case failing && !w.failing:
		w.logger.Error("the feature log is not written: rows wait, and are dropped if there are too many", "error", s.LastError, "waiting", s.Pending)
	case !failing && w.failing:
		w.logger.Info("the feature log is written again", "waiting", s.Pending)
	}
	w.failing = failing
	if lost := lostOf(s); lost > w.lost {
		w.logger.Warn("rows of the feature log are lost", "rows", lost-w.lost, "rows_lost_total", lost)
		w.lost = lost
	}
}

// failing reports whether the last write failed.
func failing(s featurelog.Stats) bool { return s.LastErrorTime.After(s.LastWriteTime) }

// lostOf returns how many rows were lost and will never be written.
func lostOf(s featurelog.Stats) uint64 { return s.Dropped + s.Invalid }

func (w *watch) stop() {
	close(w.quit)
	<-w.ok
}
