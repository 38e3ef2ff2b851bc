package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Document encodes an evidence file like [Store.WriteJSON], for a file that is also kept elsewhere, such as with a
// model. The header must have the creation time.
func Document(h Header, body any) ([]byte, error) {
	h = h.complete(h.CreatedTime)
	if err := h.validate(); err != nil {
		return nil, err
	}
	return document(h, body)
}

// document returns one flat, indented JSON object: the header's keys, then the body's, each in their own order.
func document(h Header, body any) ([]byte, error) {
	head, err := members(h)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	rest, err := members(body)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	for i, m := range rest {
		for _, own := range head {
			// Ignore case, like encoding/json: "Source" in a body would hide the header's key from a reader.
			if strings.EqualFold(m.key, own.key) {
				return nil, fmt.Errorf("body: key %q belongs to the header", m.key)
			}
		}
		for _, earlier := range rest[:i] {
			if m.key == earlier.key {
				return nil, fmt.Errorf("body: key %q appears twice", m.key)
			}
		}
	}
	var flat bytes.Buffer
	flat.WriteByte('{')
	for i, m := range append(head, rest...) {
		if i > 0 {
			flat.WriteByte(',')
		}
		key, err := plainJSON(m.key)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", m.key, err)
		}
		flat.Write(key)
		flat.WriteByte(':')
		flat.Write(m.value)
	}
	flat.WriteByte('}')
	var out bytes.Buffer
	if err := json.Indent(&out, flat.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// member is one key of an object with its encoded value.
type member struct {
	key   string
	value json.RawMessage
}

// members encodes v and returns the keys of the object in order.
func members(v any) ([]member, error) {
	data, err := plainJSON(v)
	if err != nil {
		if key, number, found := notFinite(v); found {
			return nil, fmt.Errorf("key %q is %v: not a number that JSON can hold", key, number)
		}
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("%T is not a JSON object", v)
	}
	var list []member
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, errors.New("key is not a string")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, member{name, value})
	}
	return list, nil
}

// plainJSON encodes v on one line without HTML escapes: "<" stays "<" for people who read the file.
func plainJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
