package netfault

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// Toxics that the library lacks.
const (
	CutKind    = "greenlight_cut"
	VanishKind = "greenlight_vanish"
)

// registerToxics registers the toxics of this file with the library, once.
var registerToxics = sync.OnceFunc(func() {
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics log traces to the global logger
	toxics.Register(CutKind, new(cutToxic))
	toxics.Register(VanishKind, new(vanishToxic))
})

// vanishing reports whether packets vanish. It is shared by all proxies, because the library creates the toxics.
var vanishing atomic.Bool

// cutToxic closes the connection with a given probability per piece of data. The library's own reset draws once per
// connection, but a connection between the services lasts for days.
type cutToxic struct {
	// Chance is in [0,1].
	Chance float64 `json:"chance"`
}

// Pipe implements toxics.Toxic.
func (t *cutToxic) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil || rand.Float64() < t.Chance {
				stub.Close()
				return
			}
			stub.Output <- c
		}
	}
}

// vanishToxic drops all data of connections that were used while packets vanished, and keeps dropping it afterwards: the other
// end gets no signal, as when a host loses power. New connections work once packets no longer vanish.
type vanishToxic struct{}

// deaf is the state of a connection.
type deaf struct{ now bool }

// NewState implements toxics.StatefulToxic.
func (*vanishToxic) NewState() any { return new(deaf) }

// Pipe implements toxics.Toxic.
func (*vanishToxic) Pipe(stub *toxics.ToxicStub) {
	state, _ := stub.State.(*deaf)
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			if state.now = state.now || vanishing.Load(); !state.now {
				stub.Output <- c
			}
		}
	}
}
