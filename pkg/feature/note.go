package feature

// Note is how an observation was judged. The set is closed; its words are the metric labels and the log fields.
type Note uint8

// The notes. Only an observation that is taken changes features.
const (
	// Accepted observations are part of their minute.
	Accepted Note = iota
	// CrossedKept is an accepted observation with its bid above its ask: see LiveOptions.KeepCrossed.
	CrossedKept
	// Duplicate repeats the last one in every field. Taking it would change nothing.
	Duplicate
	// OutOfOrder is earlier than the last one.
	OutOfOrder
	// Crossed has its bid above its ask.
	Crossed
	// BadPrice has a price that is zero, negative, not finite or outside 1e-12 to 1e12.
	BadPrice
	// BadTime is before 1973 or after 2199, for example seconds instead of milliseconds.
	BadTime
	// Jump is later than the last one by more than an hour, or as much earlier than one that is in
	// question. It waits: if the next observation agrees with it, both are taken.
	Jump
	// Ahead is later than LiveOptions.Latest: the clock of the feed or of this machine is wrong.
	Ahead

	// noteEnd is one past the last note.
	noteEnd
)

var noteNames = [noteEnd]string{
	Accepted: "accepted", CrossedKept: "crossed_kept", Duplicate: "duplicate", OutOfOrder: "out_of_order",
	Crossed: "crossed", BadPrice: "bad_price", BadTime: "bad_time", Jump: "jump",
	Ahead: "ahead",
}

// Notes returns all notes.
func Notes() []Note {
	all := make([]Note, noteEnd)
	for n := range all {
		all[n] = Note(n)
	}
	return all
}

// String returns the word of the note, for example "out_of_order".
func (n Note) String() string {
	if n >= noteEnd {
		return "unknown"
	}
	return noteNames[n]
}

// Taken reports whether the observation became part of the features.
func (n Note) Taken() bool { return n == Accepted || n == CrossedKept }
