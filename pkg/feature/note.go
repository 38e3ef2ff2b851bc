package feature

// Note is how an observation was judged. The set is closed; the same word is the metric label and the log field.
type Note uint8

// The notes. An observation that is not taken changes no feature.
const (
	// Accepted observations are part of their minute.
	Accepted Note = iota
	// CrossedKept is an accepted observation with its bid above its ask: see LiveOptions.KeepCrossed.
	CrossedKept
	// Duplicate repeats the last one in every field. Taking it would change nothing.
	Duplicate
	// OutOfOrder is earlier than the last one; for a bar also of a minute that quotes have begun.
	OutOfOrder
	// Crossed has its bid above its ask.
	Crossed
	// BadPrice has a price that is zero, negative, not finite or outside 1e-12 to 1e12; or a bar whose prices do not fit
	// together or that has only one side of a quote.
	BadPrice
	// BadTime is before 1973 or after 2199 (an epoch in seconds, say, for one in milliseconds), or of a bar that does not
	// start on a whole minute.
	BadTime
	// Jump is later than the last one by more than LiveOptions.MaxJump, or as much earlier than one that is in question. It
	// waits: when the next observation agrees with it, both are taken.
	Jump
	// Ahead is later than LiveOptions.Latest: a clock is wrong, of the feed or of this machine.
	Ahead

	// noteEnd is one past the last note.
	noteEnd
)

var noteNames = [noteEnd]string{
	Accepted: "accepted", CrossedKept: "crossed_kept", Duplicate: "duplicate", OutOfOrder: "out_of_order",
	Crossed: "crossed", BadPrice: "bad_price", BadTime: "bad_time", Jump: "jump",
	Ahead: "ahead",
}

// Notes lists all notes.
func Notes() []Note {
	all := make([]Note, noteEnd)
	for n := range all {
		all[n] = Note(n)
	}
	return all
}

// String is the word of the note, for example "out_of_order".
func (n Note) String() string {
	if n >= noteEnd {
		return "unknown"
	}
	return noteNames[n]
}

// Taken reports whether the observation became part of the features.
func (n Note) Taken() bool { return n == Accepted || n == CrossedKept }
