package feature

import (
	"fmt"
	"strings"
)

// Readiness reports whether the vector of a schema is defined at the latest minute, and if not, what is missing.
type Readiness struct {
	Ready bool
	// AsOf is the end of the latest minute, Unix milliseconds UTC; 0 before the first.
	AsOf int64
	// Minutes is the number of grid minutes so far, including filled ones.
	Minutes int
	// Needs is empty if Ready.
	Needs []Need
	// Refused is how many observations in a row were left out, and Note is the reason for the last of them. They are 0
	// and Accepted if the last one was taken or repeated one that was, and always for a [Builder] alone.
	Refused int
	Note    Note
}

// Need is an input that is still undefined.
type Need struct {
	// Input is the name of the undefined input.
	Input string
	// Reason is for people, for example "needs 720 minutes of rsi14, has 300".
	Reason string
	// Have is how much is there of Want, the number >= 1 of minutes, returns or days needed.
	Have, Want int
	// Features are the features of the schema that are undefined because of it.
	Features []string
}

// Readiness reports whether the features of s are defined at the latest minute, and if not, what is missing.
func (b *Builder) Readiness(s *Schema) Readiness {
	r := Readiness{AsOf: b.End(), Minutes: b.Minutes()}
	at := map[*input]int{}
	for k, c := range s.columns {
		if c < 0 {
			continue // the caller sends it
		}
		for _, in := range definitions[c].needs {
			need, lacks := in.lacks(b)
			if !lacks {
				continue
			}
			i, known := at[in]
			if !known {
				i = len(r.Needs)
				at[in] = i
				need.Input = in.name
				r.Needs = append(r.Needs, need)
			}
			r.Needs[i].Features = append(r.Needs[i].Features, s.Features[k].Name)
		}
	}
	r.Ready = len(r.Needs) == 0
	return r
}

// String is one line for people: "ready", or what is missing, for example
//
//	not ready: rsi14_z needs 720 minutes of rsi14, has 300; sigma_ref needs one completed UTC day with 300 returns (today has 299 so far)
func (r Readiness) String() string {
	var b strings.Builder
	switch {
	case r.Ready:
		b.WriteString("ready")
	case r.Minutes == 0:
		b.WriteString("not ready: no minute is complete")
	default:
		b.WriteString("not ready: ")
		for i, n := range r.Needs {
			if i > 0 {
				b.WriteString("; ")
			}
			b.WriteString(n.Input + " " + n.Reason)
		}
	}
	switch {
	case r.Refused == 1:
		fmt.Fprintf(&b, "; the last observation was left out (%s)", r.Note)
	case r.Refused > 1:
		fmt.Fprintf(&b, "; the last %d observations were left out (%s)", r.Refused, r.Note)
	}
	return b.String()
}
