package durable_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// saved is a file on a disk that may be full or hang.
type saved struct {
	hung chan struct{}

	mu    sync.Mutex
	fault error
	calls int
}

func (s *saved) save() error {
	s.mu.Lock()
	s.calls++
	err := s.fault
	s.mu.Unlock()
	if s.hung != nil {
		<-s.hung
	}
	return err
}

// then sets the result of the next saves.
func (s *saved) then(fault error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// count returns how many saves began.
func (s *saved) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func startSaver(s *saved) (*durable.Saver, *bytes.Buffer) {
	log := &bytes.Buffer{}
	return durable.StartSaver(durable.SaverOptions{
		Save: s.save, Period: time.Minute, Subject: "the numbers are", Risk: "a restart forgets them", Logger: slog.New(slog.NewTextHandler(log, nil)),
	}), log
}

const (
	trouble   = "the numbers are not written"
	recovered = "the numbers are written again"
)

// A saver saves every period, on request and when it stops. A series of failures is logged once, and so is the
// recovery.
func TestSaver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, disk := &saved{}, errors.New("no space left")
		s, log := startSaver(file)
		after := func(step string, calls int, failing bool) {
			t.Helper()
			synctest.Wait()
			if want := map[bool]string{true: trouble}[failing]; file.count() != calls || s.Trouble() != want {
				t.Errorf("%s: %d saves, trouble %q; want %d, %q", step, file.count(), s.Trouble(), calls, want)
			}
		}
		time.Sleep(2*time.Minute + time.Second)
		after("two periods", 2, false)
		if err := s.Save(time.Second); err != nil {
			t.Errorf("on request: %v", err)
		}
		after("on request", 3, false)
		file.then(disk)
		if err := s.Save(time.Second); !errors.Is(err, disk) {
			t.Errorf("a full disk: got %v, want %v", err, disk)
		}
		after("a full disk", 4, true)
		time.Sleep(2 * time.Minute)
		after("two retries", 6, true)
		file.then(nil)
		time.Sleep(time.Minute)
		after("space", 7, false)
		if a, b := strings.Count(log.String(), trouble+": a restart forgets them"), strings.Count(log.String(), recovered); a != 1 || b != 1 {
			t.Errorf("failures are logged %d times, the end %d times, want once each: %s", a, b, log)
		}
		file.then(disk)
		for range 2 {
			if err := s.Stop(t.Context()); !errors.Is(err, disk) || !strings.HasPrefix(err.Error(), trouble) {
				t.Errorf("stop: got %v, want %v", err, disk)
			}
		}
		after("stop", 8, true)
	})
}

// A hung disk delays a request and a stop only for the given time.
func TestSaverOnAHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &saved{hung: make(chan struct{})}
		s, log := startSaver(file)
		for range 2 { // while the first save hangs, the second cannot begin
			start := time.Now()
			if err := s.Save(2 * time.Second); err == nil || time.Since(start) != 2*time.Second || s.Trouble() != trouble {
				t.Errorf("got %v after %s, trouble %q", err, time.Since(start), s.Trouble())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: got %v", err)
		}
		close(file.hung)
		if err := s.Stop(t.Context()); err != nil || s.Trouble() != "" || file.count() != 2 {
			t.Errorf("after the disk is back: %v, trouble %q, %d saves", err, s.Trouble(), file.count())
		}
		if n := strings.Count(log.String(), "has not answered for 2s"); n != 1 {
			t.Errorf("logged %d times, want once: %s", n, log)
		}
	})
}

// Nothing is saved while a caller holds the saver, except by that caller.
func TestSaverHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &saved{}
		s, _ := startSaver(file)
		if err := s.Hold(time.Second); err != nil {
			t.Fatal(err)
		}
		if err := s.Hold(time.Second); err == nil {
			t.Error("two callers hold the saver")
		}
		if err := s.Save(5 * time.Minute); err == nil || file.count() != 0 {
			t.Errorf("saved %d times while it is held, %v", file.count(), err)
		}
		if err := s.SaveHeld(); err != nil || file.count() != 1 || s.Trouble() != "" {
			t.Errorf("by the holder: %v, %d saves, trouble %q", err, file.count(), s.Trouble())
		}
		s.Release()
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestNilSaver(t *testing.T) {
	var s *durable.Saver
	if err := errors.Join(s.Save(0), s.Stop(t.Context())); err != nil || s.Trouble() != "" {
		t.Errorf("got %v, trouble %q", err, s.Trouble())
	}
}
