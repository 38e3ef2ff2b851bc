package page

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counting makes distinct statuses and counts them.
func counting(made *atomic.Int64) func(context.Context) (*Status, error) {
	return func(context.Context) (*Status, error) {
		return &Status{MatchTarget: float64(made.Add(1))}, nil
	}
}

func TestHubWorksOnlyWithViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int64
		h := startHub(counting(&made), slog.New(slog.DiscardHandler))
		defer h.stop()
		time.Sleep(time.Hour)
		if n := made.Load(); n != 0 {
			t.Errorf("%d statuses for nobody", n)
		}
		v, began := h.subscribe(), time.Now()
		<-v
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the first status came after %v, want at once", waited)
		}
		for range 10 {
			<-v
		}
		if waited := time.Since(began); waited != 10*interval {
			t.Errorf("10 more statuses came after %v, want %v", waited, 10*interval)
		}
		h.unsubscribe(v)
		time.Sleep(time.Hour)
		if n := made.Load(); n != 11 {
			t.Errorf("%d statuses for one viewer of 11", n)
		}
	})
}

func TestHubMakesOneStatusForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int64
		h := startHub(counting(&made), slog.New(slog.DiscardHandler))
		defer h.stop()
		var viewers []chan []byte
		for range maxViewers {
			viewers = append(viewers, h.subscribe())
		}
		if h.subscribe() != nil {
			t.Errorf("viewer %d was let in", maxViewers+1)
		}
		for _, v := range viewers {
			<-v
		}
		// Repeated requests within the second make no more statuses.
		for range 100 {
			h.unsubscribe(viewers[0])
			viewers[0] = h.subscribe()
			if got := decoded(t, <-viewers[0]).MatchTarget; got != 1 {
				t.Errorf("got status %v, want the one there is", got)
			}
		}
		if n := made.Load(); n != 1 {
			t.Errorf("%d statuses in one second, want 1", n)
		}
	})
}

// A viewer that receives nothing for a minute gets the latest status, and the other misses none.
func TestHubGivesTheLatestToTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int64
		h := startHub(counting(&made), slog.New(slog.DiscardHandler))
		defer h.stop()
		slow, fast := h.subscribe(), h.subscribe()
		for i := range 61 {
			if got := decoded(t, <-fast).MatchTarget; got != float64(i+1) {
				t.Fatalf("got status %v, want %d", got, i+1)
			}
		}
		if got := decoded(t, <-slow).MatchTarget; got != 61 {
			t.Errorf("the slow viewer got status %v, want the latest, 61", got)
		}
	})
}

func TestHubStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int64
		h := startHub(counting(&made), slog.New(slog.DiscardHandler))
		v := h.subscribe()
		<-v
		h.stop()
		h.stop()
		if raw, open := <-v; open {
			t.Errorf("got %s after the end", raw)
		}
		if h.subscribe() != nil {
			t.Error("a viewer was let in after the end")
		}
		h.unsubscribe(v)
	})
}

// A status that cannot be made does not end the stream.
func TestHubGoesOnAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := 3
		h := startHub(func(context.Context) (*Status, error) {
			if fails--; fails >= 0 {
				return nil, errors.New("made up")
			}
			return &Status{}, nil
		}, slog.New(slog.DiscardHandler))
		defer h.stop()
		began := time.Now()
		<-h.subscribe()
		if waited := time.Since(began); waited != 3*interval {
			t.Errorf("the first status came after %v, want %v", waited, 3*interval)
		}
	})
}
