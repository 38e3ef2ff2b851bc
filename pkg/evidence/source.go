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

// Sources counts requests by their source.
type Sources map[Source]uint64

// Least returns the source of figures that rest on the requests and are claimed to come from claimed: the least live of
// them all. Simulated is less live than replay, and replay less than live.
func (s Sources) Least(claimed Source) Source {
	switch {
	case claimed == Simulated || s[Simulated] > 0:
		return Simulated
	case claimed == Replay || s[Replay] > 0:
		return Replay
	}
	return claimed
}
