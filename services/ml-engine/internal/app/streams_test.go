package app_test

import "testing"

// Streams that are given up at any moment leave nothing behind.
func TestStreamsThatAreGivenUpLeaveNothing(t *testing.T) {
	s := start(t, options(t))
	s.WantStreamsEnd(t, s.Streams())
}
