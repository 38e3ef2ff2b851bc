package evidence

// Source says where the figures of a file come from. Nothing simulated is reported as live.
type Source string

// The sources.
const (
	// Live: measured on running services under real or test load.
	Live Source = "live"
	// Replay: computed from recorded market data.
	Replay Source = "replay"
	// Simulated: computed from data that a simulator made.
	Simulated Source = "simulated"
)

// Valid reports whether s is one of the sources.
func (s Source) Valid() bool { return s == Live || s == Replay || s == Simulated }
