package drift

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrState is returned for a ring state that cannot be used.
var ErrState = errors.New("drift state cannot be used")

const (
	ringFormat = "greenlight/drift_state/v1"

	// lastHour is the last hour of the year 9999, the limit of timestamps.
	lastHour = 70_389_527
	// maxHourRows is more than an hour can have, and small enough that no sum over a ring overflows.
	maxHourRows = 1 << 48
)

// Owner is the model to which the counts of a ring belong, as its artifact names it.
type Owner struct {
	// Schema is the name of the feature schema.
	Schema string `json:"schema"`
	// Model and Reference are the SHA-256 of the model and of the profile, in hexadecimal.
	Model     string `json:"model"`
	Reference string `json:"reference"`
}

// String describes the owner for messages.
func (o Owner) String() string {
	return fmt.Sprintf("model %.12s (schema %s) by reference %.12s", o.Model, o.Schema, o.Reference)
}

// ringFile is the state of a ring: its body, with the SHA-256 that detects corruption. It is JSON without spaces, about
// 200 kB for a full ring with eleven features and a row a minute.
type ringFile struct {
	Format string          `json:"format"`
	SHA256 string          `json:"sha256"`
	Body   json.RawMessage `json:"body"`
}

type ringBody struct {
	Owner

	Present int64 `json:"present"`
	// Hours are the hours with a row, ascending. If a clock ran ahead, some may be older than the ring reaches: the
	// clock may come back.
	Hours []ringHour `json:"hours"`
}

type ringHour struct {
	Hour   int64    `json:"hour"`
	Rows   uint64   `json:"rows"`
	Inputs uint64   `json:"inputs"`
	Bins   []uint64 `json:"bins"`
	Mark   uint8    `json:"mark,omitempty"`
}

// State returns the ring for a file.
func (r *Ring) State(of Owner) ([]byte, error) {
	body := ringBody{Owner: of, Present: r.present, Hours: []ringHour{}}
	for i := range r.slots {
		if s := &r.slots[i]; s.rows > 0 {
			body.Hours = append(body.Hours, ringHour{s.hour, s.rows, s.inputs, s.bins, s.mark})
		}
	}
	slices.SortFunc(body.Hours, func(a, b ringHour) int { return cmp.Compare(a.Hour, b.Hour) })
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	return json.Marshal(ringFile{ringFormat, hex.EncodeToString(sum[:]), raw})
}

// RestoreRing returns the ring from its state. It returns [ErrProfile] if the state has another owner, whose counts use
// other bins or another model, and [ErrState] if anything in it is invalid.
func RestoreRing(p *Profile, of Owner, state []byte) (*Ring, error) {
	var file ringFile
	if err := strictly(state, &file); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(file.Body)
	switch {
	case file.Format != ringFormat:
		return nil, fmt.Errorf("%w: format %q: want %q", ErrState, file.Format, ringFormat)
	case file.SHA256 != hex.EncodeToString(sum[:]):
		return nil, fmt.Errorf("%w: its content does not match its digest", ErrState)
	}
	var body ringBody
	if err := strictly(file.Body, &body); err != nil {
		return nil, err
	}
	switch {
	case body.Owner != of:
		return nil, fmt.Errorf("%w: of %v, not of %v", ErrProfile, body.Owner, of)
	case body.Present < 0 || body.Present > lastHour:
		return nil, fmt.Errorf("%w: hour %d as the present", ErrState, body.Present)
	}
	r := NewRing(p)
	r.Tick(body.Present)
	last := int64(math.MinInt64)
	for _, h := range body.Hours {
		if h.Hour <= last || h.Hour > body.Present || h.Hour < 0 {
			return nil, fmt.Errorf("%w: hour %d after %d, with %d as the present", ErrState, h.Hour, last, body.Present)
		}
		last = h.Hour
		if err := r.check(h); err != nil {
			return nil, fmt.Errorf("%w: hour %d: %w", ErrState, h.Hour, err)
		}
		s := r.slot(h.Hour)
		s.rows, s.inputs, s.mark = h.Rows, h.Inputs, h.Mark
		copy(s.bins, h.Bins)
	}
	return r, nil
}

// check returns an error if the hour's slot is taken, or if its rows are not in the bins of every feature exactly once.
func (r *Ring) check(h ringHour) error {
	if s := r.place(h.Hour); s.rows > 0 {
		return fmt.Errorf("its place has the rows of hour %d", s.hour)
	}
	if h.Rows == 0 || h.Rows > maxHourRows || h.Inputs > h.Rows || len(h.Bins) != len(r.totals) {
		return fmt.Errorf("%d rows, %d with inputs, in %d bins of %d", h.Rows, h.Inputs, len(h.Bins), len(r.totals))
	}
	for i := range r.profile.Features {
		rows, want := uint64(0), h.Rows
		if i >= r.profile.scored {
			want = h.Inputs
		}
		for _, n := range h.Bins[r.profile.offsets[i]:r.profile.offsets[i+1]] {
			rows += min(n, want+1) // prevents overflow of the sum
		}
		if rows != want {
			return fmt.Errorf("%d rows or more of feature %q: want %d", rows, r.profile.Features[i].Name, want)
		}
	}
	return nil
}

// strictly decodes exactly one JSON value.
func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if d.More() {
		return fmt.Errorf("%w: more data after its end", ErrState)
	}
	return nil
}
