package drift

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// ErrState is the error of a state of a ring that cannot be used.
var ErrState = errors.New("drift state cannot be used")

const ringFormat = "greenlight/drift_state/v1"

// ringFile is the state of a ring: its body, and the SHA-256 of it, so that a flipped bit is found.
type ringFile struct {
	Format string          `json:"format"`
	SHA256 string          `json:"sha256"`
	Body   json.RawMessage `json:"body"`
}

type ringBody struct {
	// Reference is the digest of the profile.
	Reference string     `json:"reference"`
	Present   int64      `json:"present"`
	Hours     []ringHour `json:"hours"`
}

type ringHour struct {
	Hour   int64    `json:"hour"`
	Rows   uint32   `json:"rows"`
	Inputs uint32   `json:"inputs"`
	Bins   []uint32 `json:"bins"`
}

// State is the ring for a file. reference is the digest of its profile.
func (r *Ring) State(reference string) ([]byte, error) {
	body := ringBody{Reference: reference, Present: r.present, Hours: []ringHour{}}
	for hour := r.present - RingHours + 1; r.began && hour <= r.present; hour++ {
		if s := &r.slots[(hour%RingHours+RingHours)%RingHours]; s.hour == hour && s.rows > 0 {
			body.Hours = append(body.Hours, ringHour{s.hour, s.rows, s.inputs, s.bins})
		}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	return json.Marshal(ringFile{ringFormat, hex.EncodeToString(sum[:]), raw})
}

// RestoreRing is the ring that a state was made of. It fails with [ErrProfile] when that was of another profile than p, of
// the digest reference, and with [ErrState] when anything in it cannot be.
func RestoreRing(p *Profile, reference string, state []byte) (*Ring, error) {
	var file ringFile
	if err := strictly(state, &file); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(file.Body)
	switch {
	case file.Format != ringFormat:
		return nil, fmt.Errorf("%w: format %q: want %q", ErrState, file.Format, ringFormat)
	case file.SHA256 != hex.EncodeToString(sum[:]):
		return nil, fmt.Errorf("%w: its content has not the digest that it says", ErrState)
	}
	var body ringBody
	if err := strictly(file.Body, &body); err != nil {
		return nil, err
	}
	if body.Reference != reference {
		return nil, fmt.Errorf("%w: %.12s, not %.12s", ErrProfile, body.Reference, reference)
	}
	r := NewRing(p)
	r.Tick(body.Present)
	last := int64(math.MinInt64)
	for _, h := range body.Hours {
		if h.Hour <= last || h.Hour > body.Present || h.Hour <= body.Present-RingHours {
			return nil, fmt.Errorf("%w: hour %d after %d, with %d as the present", ErrState, h.Hour, last, body.Present)
		}
		last = h.Hour
		if err := r.check(h); err != nil {
			return nil, fmt.Errorf("%w: hour %d: %w", ErrState, h.Hour, err)
		}
		s := r.slot(h.Hour)
		s.rows, s.inputs = h.Rows, h.Inputs
		copy(s.bins, h.Bins)
	}
	return r, nil
}

// check says whether the rows of an hour are in the bins of every feature once.
func (r *Ring) check(h ringHour) error {
	if h.Rows == 0 || h.Inputs > h.Rows || len(h.Bins) != len(r.totals) {
		return fmt.Errorf("%d rows, %d with inputs, in %d bins of %d", h.Rows, h.Inputs, len(h.Bins), len(r.totals))
	}
	for i := range r.profile.Features {
		rows := uint64(0)
		for _, n := range h.Bins[r.profile.offsets[i]:r.profile.offsets[i+1]] {
			rows += uint64(n)
		}
		want := uint64(h.Rows)
		if i >= r.profile.scored {
			want = uint64(h.Inputs)
		}
		if rows != want {
			return fmt.Errorf("%d rows of feature %q: want %d", rows, r.profile.Features[i].Name, want)
		}
	}
	return nil
}

// strictly decodes one JSON value and nothing after it.
func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if d.More() {
		return fmt.Errorf("%w: more after its end", ErrState)
	}
	return nil
}
