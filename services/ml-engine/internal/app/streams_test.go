package app_test

import "testing"

// Streams that are canceled at any moment leave nothing behind.
func TestCanceledStreamsLeaveNothing(t *testing.T) {
	s := start(t, options(t))
	s.WantStreamsEnd(t, s.Streams())
}

// A client that keeps a stream open, for example to watch the health, does not delay a stop.
func TestAStopDoesNotWaitForStreams(t *testing.T) {
	s := start(t, options(t))
	for name, open := range s.Streams() {
		if err := open(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
