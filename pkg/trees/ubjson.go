package trees

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// maxJSON limits the JSON of a UBJSON file, in bytes. A one-byte number becomes up to five bytes.
const maxJSON = 5 * MaxFile

// maxNesting limits objects and arrays within others. XGBoost needs eight.
const maxNesting = 64

var errCut = errors.New("the file is truncated")

// fromUBJSON converts the binary form of XGBoost's save_model("model.ubj") to its JSON. Numbers keep their values: a
// float32 is written with digits that give the same float32.
//
// The format is ubjson.org (draft 12), as XGBoost writes it: src/common/json.cc, UBJWriter.
func fromUBJSON(raw []byte) ([]byte, error) {
	d := ubjson{rest: raw}
	marker, err := d.byte()
	if err == nil {
		err = d.value(marker, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("UBJSON, at byte %d: %w", len(raw)-len(d.rest), err)
	}
	if len(d.rest) > 0 {
		return nil, fmt.Errorf("UBJSON: %d bytes after the model", len(d.rest))
	}
	return d.out, nil
}

type ubjson struct{ rest, out []byte }

func (d *ubjson) take(n int) ([]byte, error) {
	if n > len(d.rest) {
		return nil, errCut
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b, nil
}

func (d *ubjson) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// integer reads an integer of the type.
func (d *ubjson) integer(marker byte) (int64, error) {
	width := map[byte]int{'i': 1, 'U': 1, 'I': 2, 'l': 4, 'L': 8}[marker]
	if width == 0 {
		return 0, fmt.Errorf("type %q: want an integer", marker)
	}
	b, err := d.take(width)
	switch {
	case err != nil:
		return 0, err
	case marker == 'U':
		return int64(b[0]), nil
	}
	var wide [8]byte
	copy(wide[8-width:], b)
	return int64(binary.BigEndian.Uint64(wide[:])) << (64 - 8*width) >> (64 - 8*width), nil // extends the sign
}

// count reads a length with its type.
func (d *ubjson) count() (int, error) {
	marker, err := d.byte()
	if err != nil {
		return 0, err
	}
	n, err := d.integer(marker)
	if err == nil && (n < 0 || n > MaxFile) {
		err = fmt.Errorf("length %d: want 0 to %d", n, MaxFile)
	}
	return int(n), err
}

// text reads a string after its marker.
func (d *ubjson) text() error {
	n, err := d.count()
	if err != nil {
		return err
	}
	b, err := d.take(n)
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("text %.40q is not UTF-8", b)
	}
	d.out = append(d.out, '"')
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			d.out = append(d.out, '\\', c)
		case c < ' ':
			d.out = fmt.Appendf(d.out, `\u%04x`, c)
		default:
			d.out = append(d.out, c)
		}
	}
	d.out = append(d.out, '"')
	return nil
}

func (d *ubjson) number(v float64, bits int) {
	switch {
	case math.IsNaN(v):
		d.out = append(d.out, "NaN"...)
	case math.IsInf(v, 0):
		if v < 0 {
			d.out = append(d.out, '-')
		}
		d.out = append(d.out, "Infinity"...)
	default:
		d.out = strconv.AppendFloat(d.out, v, 'g', -1, bits)
	}
}

// value reads the value after its marker.
func (d *ubjson) value(marker byte, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("more than %d levels", maxNesting)
	}
	if len(d.out) > maxJSON {
		return fmt.Errorf("more than %d bytes as JSON", maxJSON)
	}
	switch marker {
	case '{':
		return d.object(depth)
	case '[':
		return d.array(depth)
	case 'S':
		return d.text()
	case 'Z':
		d.out = append(d.out, "null"...)
	case 'T':
		d.out = append(d.out, "true"...)
	case 'F':
		d.out = append(d.out, "false"...)
	case 'd':
		b, err := d.take(4)
		if err != nil {
			return err
		}
		d.number(float64(math.Float32frombits(binary.BigEndian.Uint32(b))), 32)
	case 'D':
		b, err := d.take(8)
		if err != nil {
			return err
		}
		d.number(math.Float64frombits(binary.BigEndian.Uint64(b)), 64)
	default:
		n, err := d.integer(marker)
		if err != nil {
			return err
		}
		d.out = strconv.AppendInt(d.out, n, 10)
	}
	return nil
}

// items returns the type and number of the items of an array or object; 0 and -1 if they are not given.
func (d *ubjson) items() (marker byte, n int, err error) {
	if len(d.rest) > 0 && d.rest[0] == '$' {
		head, err := d.take(2)
		if err != nil {
			return 0, 0, err
		}
		if marker = head[1]; len(d.rest) == 0 || d.rest[0] != '#' {
			return 0, 0, errors.New("a type without a length")
		}
		switch marker {
		case 'Z', 'T', 'F': // they take no bytes, so the length is unbounded
			return 0, 0, fmt.Errorf("items of type %q", marker)
		}
	}
	if len(d.rest) == 0 || d.rest[0] != '#' {
		return marker, -1, nil
	}
	d.rest = d.rest[1:]
	n, err = d.count()
	return marker, n, err
}

// next returns the marker of the next item, and reports whether there is one.
func (d *ubjson) next(marker byte, n, i int, end byte) (byte, bool, error) {
	if n >= 0 && i == n {
		return 0, false, nil
	}
	if i > 0 {
		d.out = append(d.out, ',')
	}
	if marker != 0 {
		return marker, true, nil
	}
	if n < 0 && len(d.rest) > 0 && d.rest[0] == end {
		d.rest = d.rest[1:]
		if i > 0 {
			d.out = d.out[:len(d.out)-1]
		}
		return 0, false, nil
	}
	if end == '}' { // a key comes first
		return 0, true, nil
	}
	b, err := d.byte()
	return b, true, err
}

func (d *ubjson) array(depth int) error {
	marker, n, err := d.items()
	if err != nil {
		return err
	}
	d.out = append(d.out, '[')
	for i := 0; ; i++ {
		m, ok, err := d.next(marker, n, i, ']')
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := d.value(m, depth+1); err != nil {
			return err
		}
	}
	d.out = append(d.out, ']')
	return nil
}

func (d *ubjson) object(depth int) error {
	marker, n, err := d.items()
	if err != nil {
		return err
	}
	d.out = append(d.out, '{')
	for i := 0; ; i++ {
		m, ok, err := d.next(marker, n, i, '}')
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := d.text(); err != nil {
			return err
		}
		d.out = append(d.out, ':')
		if m == 0 {
			if m, err = d.byte(); err != nil {
				return err
			}
		}
		if err := d.value(m, depth+1); err != nil {
			return err
		}
	}
	d.out = append(d.out, '}')
	return nil
}
