package certs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// interval is how often the files are checked without handshakes, so that problems are logged before the next connection.
	interval = 10 * time.Second
	// warningPause is the time between two warnings about the same expiry.
	warningPause = time.Hour
	// Warnings start in the last 1/lastPart of a certificate's lifetime. Automatic renewal is earlier: in the last third.
	lastPart = 5
)

// Store holds the certificates of one end and re-reads their files. A nil Store means no TLS.
type Store struct {
	files  Files
	end    string
	logger *slog.Logger

	current atomic.Pointer[material]
	failing atomic.Bool
	errors  atomic.Uint64
	// refusals limits the log lines about refused clients.
	refusals rate.Sometimes

	mu      sync.Mutex // held during a check
	seen    contents   // the files at the last check, used or refused
	refused string     // why they were refused, or empty
	warned  time.Time  // the last warning about an expiry, and its text
	warning string

	stop chan struct{}
	once sync.Once
}

// Open reads the files. It returns an error if they do not match each other. end names the certificates in the log and the
// metrics: "server", or the server that a client connects to. Without files the store is nil.
func Open(files Files, end string, logger *slog.Logger) (*Store, error) {
	if files == (Files{}) {
		return nil, nil //nolint:nilnil // nil means no TLS
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

// End names the certificates in the log and the metrics.
func (s *Store) End() string { return s.end }

// Run checks the files periodically until Stop is called, and then returns nil.
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

// refresh starts using changed files if they are valid, and returns the material in use.
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
	// Refused files are checked again: a missing file may be back, or a certificate may have become valid.
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
	s.logger.Info("certificates reloaded", "end", s.end, "names", m.names, "not_after", m.own.to, "ca_not_after", m.trusted.to)
	return m
}

// outdated returns an error if a new certificate is not valid now, but the one in use is.
func (s *Store) outdated(m *material, now time.Time) error {
	before := s.current.Load()
	if m.cert != nil && !m.own.at(now) && before.own.at(now) {
		return fmt.Errorf("%s is not valid now: only from %s to %s", s.files.Cert, m.own.from.UTC().Format(time.RFC3339), m.own.to.UTC().Format(time.RFC3339))
	}
	if m.pool != nil && !m.trusted.at(now) && before.trusted.at(now) {
		return fmt.Errorf("%s has no CA that is valid now", s.files.CA)
	}
	return nil
}

// refuse keeps the material in use, and logs each reason once.
func (s *Store) refuse(err error) {
	s.failing.Store(true)
	if err.Error() == s.refused {
		return
	}
	s.refused = err.Error()
	s.errors.Add(1)
	s.logger.Error("certificates NOT reloaded: the old ones stay in use", "end", s.end, "error", err)
}

// warn logs an approaching or past expiry, immediately and then once an hour.
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
		log, warning := s.logger.Warn, "a certificate expires soon"
		if left < 0 {
			log, warning = s.logger.Error, "a certificate has EXPIRED: peers refuse it"
		}
		if warning == s.warning && now.Sub(s.warned) < warningPause {
			continue
		}
		s.warning, s.warned = warning, now
		log(warning, "end", s.end, "file", v.file, "not_after", v.to, "left", left.Round(time.Minute))
	}
}
