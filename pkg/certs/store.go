package certs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/greenlight-ml/greenlight/pkg/lifecycle"
)

const (
	// interval is how often the files are looked at when nobody shakes hands, so that what is wrong with them is said at
	// once and not when the next connection is made.
	interval = 10 * time.Second
	// nag is the time between two warnings about the same end.
	nag = time.Hour
	// lastPart is the part of a certificate's life in which its end is warned of. Those who renew certificates by machine
	// do it in the last third.
	lastPart = 5
)

// Store is the certificates of one end, as they are in their files. A nil Store is an end without TLS.
type Store struct {
	files  Files
	end    string
	logger *slog.Logger

	current atomic.Pointer[material]
	failing atomic.Bool
	errors  atomic.Uint64
	// refusals are logged, and not so often that they fill the log.
	refusals rate.Sometimes

	mu      sync.Mutex // one look at a time
	seen    contents   // what the last look found, whether it was taken over or not
	refused string     // why it was not, if so
	warned  time.Time  // when an end was warned of last, and in which words
	warning string

	stop chan struct{}
	once sync.Once
}

// Open reads the files, and fails when they do not belong together. end is whose certificates they are, for the log and the
// metrics: "server", or the name of the server that a client connects to. Without any file it returns nil.
func Open(files Files, end string, logger *slog.Logger) (*Store, error) {
	if files == (Files{}) {
		return nil, nil //nolint:nilnil // nil is an end without TLS
	}
	raw, err := files.read()
	if err != nil {
		return nil, err
	}
	m, err := files.parse(raw)
	if err != nil {
		return nil, err
	}
	s := &Store{files: files, end: end, logger: logger, seen: raw, stop: make(chan struct{}), refusals: rate.Sometimes{Interval: time.Second}}
	s.current.Store(m)
	s.warn(time.Now())
	return s, nil
}

// Keep has the stack run the Store until it stops. A nil Store needs none.
func (s *Store) Keep(stack *lifecycle.Stack) {
	if s != nil {
		stack.OnStop("certificates of "+s.end, s.Stop)
		stack.Serve("certificates of "+s.end, s.Run)
	}
}

// Run looks at the files from time to time until Stop is called, and returns nil then.
func (s *Store) Run() error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return nil
		case <-ticker.C:
			s.refresh()
		}
	}
}

// Stop ends Run.
func (s *Store) Stop(context.Context) error {
	s.once.Do(func() { close(s.stop) })
	return nil
}

// refresh takes over files that have changed, if they are good, and returns what is in use.
func (s *Store) refresh() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	defer s.warn(now)
	raw, err := s.files.read()
	if err != nil {
		s.refuse(err)
		return s.current.Load()
	}
	// What was refused is judged again: files that were away are back, or a certificate has become valid.
	if raw.equal(s.seen) && !s.failing.Load() {
		return s.current.Load()
	}
	m, err := s.files.parse(raw)
	if err == nil {
		err = s.outdated(m, now)
	}
	if s.seen = raw; err != nil {
		s.refuse(err)
		return s.current.Load()
	}
	s.current.Store(m)
	s.failing.Store(false)
	s.refused, s.warning = "", ""
	s.logger.Info("certificates were read again", "end", s.end, "names", m.names, "not_after", m.own.to, "ca_not_after", m.trusted.to)
	return m
}

// outdated refuses a certificate that is not valid now while the one in use is.
func (s *Store) outdated(m *material, now time.Time) error {
	before := s.current.Load()
	if m.cert != nil && !m.own.at(now) && before.own.at(now) {
		return fmt.Errorf("%s is valid from %s to %s, which is not now", s.files.Cert, m.own.from.UTC().Format(time.RFC3339), m.own.to.UTC().Format(time.RFC3339))
	}
	if m.pool != nil && !m.trusted.at(now) && before.trusted.at(now) {
		return fmt.Errorf("%s has no authority that is valid now", s.files.CA)
	}
	return nil
}

// refuse keeps what is in use, and says so once for each reason.
func (s *Store) refuse(err error) {
	s.failing.Store(true)
	if err.Error() == s.refused {
		return
	}
	s.refused = err.Error()
	s.errors.Add(1)
	s.logger.Error("certificates were NOT read again: the old ones stay in use", "end", s.end, "error", err)
}

// warn says when an end is near or past: at once, and then once an hour.
func (s *Store) warn(now time.Time) {
	m := s.current.Load()
	for _, v := range []struct {
		file string
		validity
		there bool
	}{{s.files.Cert, m.own, m.cert != nil}, {s.files.CA, m.trusted, m.pool != nil}} {
		left, life := v.to.Sub(now), v.to.Sub(v.from)
		if !v.there || left > life/lastPart {
			continue
		}
		level, warning := slog.LevelWarn, "a certificate expires soon"
		if left < 0 {
			level, warning = slog.LevelError, "a certificate has EXPIRED: the other end refuses it"
		}
		if warning == s.warning && now.Sub(s.warned) < nag {
			continue
		}
		s.warning, s.warned = warning, now
		//nolint:sloglint // one of the two constants above
		s.logger.Log(context.Background(), level, warning, "end", s.end, "file", v.file, "not_after", v.to, "left", left.Round(time.Minute))
	}
}
