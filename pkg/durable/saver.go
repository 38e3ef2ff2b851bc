package durable

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Saver writes the state in memory to a file in the background, so that no change of the state waits for the disk. Its
// goroutine saves periodically, on request, and when it stops. A nil Saver saves nothing.
type Saver struct {
	opts     SaverOptions
	requests chan chan error
	// turn is a semaphore for saving.
	turn    chan struct{}
	failing atomic.Bool
	stop    func()
	done    chan struct{}
	// last is the error of the final save; valid once done is closed.
	last error
}

// SaverOptions configures a [Saver]. All fields are required.
type SaverOptions struct {
	// Save writes the file unless it is up to date. Only one call runs at a time.
	Save func() error
	// Period is the time between saves, and between retries.
	Period time.Duration
	// Subject is what is saved, with a verb, for example "the rollout is". In logs "not written" follows.
	Subject string
	// Risk describes for the log what a failed save can cause.
	Risk   string
	Logger *slog.Logger
}

// StartSaver starts a saver. The caller must call Stop.
func StartSaver(opts SaverOptions) *Saver {
	stop := make(chan struct{})
	s := &Saver{
		opts: opts, requests: make(chan chan error), turn: make(chan struct{}, 1),
		stop: sync.OnceFunc(func() { close(stop) }), done: make(chan struct{}),
	}
	go s.run(stop)
	return s
}

func (s *Saver) run(stop <-chan struct{}) {
	defer close(s.done)
	tick := time.NewTicker(s.opts.Period)
	defer tick.Stop()
	for {
		select {
		case answer := <-s.requests:
			answer <- s.save()
		case <-tick.C:
			_ = s.save() // logged
		case <-stop:
			s.last = s.save()
			return
		}
	}
}

func (s *Saver) save() error {
	s.turn <- struct{}{}
	defer s.Release()
	return s.SaveHeld()
}

// Save saves now. It returns an error if that fails or takes longer than wait. The saver then retries.
func (s *Saver) Save(wait time.Duration) error {
	if s == nil {
		return nil
	}
	slow := time.NewTimer(wait)
	defer slow.Stop()
	answer := make(chan error, 1)
	for requests := s.requests; ; {
		select {
		case requests <- answer:
			requests = nil
		case err := <-answer:
			return err
		case <-slow.C:
			return s.report(slowError(wait))
		}
	}
}

// Hold keeps the saver from saving until [Saver.Release], for a caller that writes the file itself. It returns an error if a
// save takes longer than wait.
func (s *Saver) Hold(wait time.Duration) error {
	slow := time.NewTimer(wait)
	defer slow.Stop()
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-slow.C:
		return slowError(wait)
	}
}

// Release ends a [Saver.Hold].
func (s *Saver) Release() { <-s.turn }

// SaveHeld is [Saver.Save] for a caller that holds the saver, without a time limit.
func (s *Saver) SaveHeld() error { return s.report(s.opts.Save()) }

func slowError(wait time.Duration) error { return fmt.Errorf("the disk has not answered for %s", wait) }

// report logs the first failure in a row, and the recovery.
func (s *Saver) report(err error) error {
	switch failing := s.failing.Swap(err != nil); {
	case err != nil && !failing:
		s.opts.Logger.Error(s.opts.Subject+" not written: "+s.opts.Risk, "error", err) //nolint:sloglint // the texts are constants of the caller
	case err == nil && failing:
		s.opts.Logger.Info(s.opts.Subject + " written again") //nolint:sloglint // as above
	}
	return err
}

// Trouble describes a failing disk. It is empty if the last save succeeded.
func (s *Saver) Trouble() string {
	if s == nil || !s.failing.Load() {
		return ""
	}
	return s.opts.Subject + " not written"
}

// Stop saves one last time. It returns an error if that fails or ctx ends first.
func (s *Saver) Stop(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.stop()
	select {
	case <-s.done:
	case <-ctx.Done():
		return fmt.Errorf("%s not written: %w", s.opts.Subject, ctx.Err())
	}
	if s.last != nil {
		return fmt.Errorf("%s not written: %w", s.opts.Subject, s.last)
	}
	return nil
}
