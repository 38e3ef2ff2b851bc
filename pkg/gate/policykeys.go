package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// setting is a value of a document with its key.
type setting struct {
	key   []string // "slo", "p95_ms" for a key within a section
	value *yaml.Node
}

// settings returns the settings of the document; a list is one value.
func settings(raw []byte) ([]setting, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return nil, err
	}
	var all []setting
	var visit func(key []string, n *yaml.Node)
	visit = func(key []string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			all = append(all, setting{key, n})
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			visit(append(slices.Clone(key), n.Content[i].Value), n.Content[i+1])
		}
	}
	for _, n := range document.Content {
		visit(nil, n)
	}
	return all, nil
}

// unreadable returns an error for values that do not fit their keys, with an example of a valid value. The decoder's
// own errors name the line and the Go type, and the decoder silently takes null for the default.
func unreadable(raw []byte) error {
	written, err := settings(raw)
	if err != nil {
		return err
	}
	example, err := DefaultPolicy().YAML()
	if err != nil {
		return err
	}
	known, err := settings(example)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range written {
		i := slices.IndexFunc(known, func(k setting) bool { return len(s.key) > 0 && k.in(s.key) })
		switch {
		case i < 0: // the decoder reports it
		case len(s.key) < len(known[i].key):
			errs = append(errs, fmt.Errorf("%s is %s: want keys like %s", strings.Join(s.key, "."), text(s.value), known[i].key[len(s.key)]))
		case !s.readable():
			errs = append(errs, fmt.Errorf("%s is %s: want a value like %s", strings.Join(s.key, "."), text(s.value), text(known[i].value)))
		}
	}
	return errors.Join(errs...)
}

// in reports whether the setting has this key or is in the section of this key.
func (s setting) in(key []string) bool {
	return len(key) <= len(s.key) && slices.Equal(key, s.key[:len(key)])
}

// readable reports whether the value fits its key. The decoder would silently cut the fraction from a count.
func (s setting) readable() bool {
	cut := s.key[0] == "min_comparisons" && s.value.Tag == "!!float"
	return !cut && s.value.Tag != "!!null" && s.alone().Decode(&Policy{}) == nil
}

// alone returns a document with only this setting.
func (s setting) alone() *yaml.Node {
	n := s.value
	for _, key := range slices.Backward(s.key) {
		n = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: key}, n}}
	}
	return n
}

// text formats a value on one line.
func text(n *yaml.Node) string {
	if n.Tag == "!!null" {
		return "null"
	}
	line := *n
	line.Style |= yaml.FlowStyle
	raw, err := yaml.Marshal(&line)
	if err != nil {
		return n.Value
	}
	return strings.TrimSpace(string(raw))
}
