package feature

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// maxKnown limits the schemas of a [Known]. A process adds one for each schema that its models need.
const maxKnown = 64

// Known is the set of schemas whose vectors a process can read: the built-in ones and those added. A name keeps its
// first meaning, so that no later schema changes how vectors are read. It is safe for concurrent use.
type Known struct {
	mu   sync.Mutex // for writers
	list atomic.Pointer[[]*Schema]
}

// NewKnown returns a set of the built-in schemas.
func NewKnown() *Known {
	k := &Known{}
	list := Schemas()
	k.list.Store(&list)
	return k
}

// Add adds a schema and returns it, or returns the equal one that is already known. It returns an error if the name has
// another meaning, or if there are too many schemas.
func (k *Known) Add(s *Schema) (*Schema, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.All()
	if old, ok := k.Lookup(s.Name); ok {
		if old.Hash() != s.Hash() {
			return nil, fmt.Errorf("schema %s differs from the known schema of this name (hash %.12s, not %.12s): give a changed schema a new name",
				s.Name, old.Hash(), s.Hash())
		}
		return old, nil
	}
	if len(list) >= maxKnown {
		return nil, fmt.Errorf("schema %s: %d schemas are known, and no more fit: restart the process to forget those of past models", s.Name, len(list))
	}
	list = append(list[:len(list):len(list)], s)
	k.list.Store(&list)
	return s, nil
}

// All returns the schemas, in the order in which they were added. The slice must not be changed.
func (k *Known) All() []*Schema { return *k.list.Load() }

// Lookup returns the schema of that name.
func (k *Known) Lookup(name string) (*Schema, bool) {
	for _, s := range k.All() {
		if s.Name == name {
			return s, true
		}
	}
	return nil, false
}

// Names returns the names of the schemas.
func (k *Known) Names() []string {
	var names []string
	for _, s := range k.All() {
		names = append(names, s.Name)
	}
	return names
}

// Defines reports whether the feature is in the catalogue or in one of the schemas.
func (k *Known) Defines(name string) bool {
	if _, ok := byName[name]; ok {
		return true
	}
	for _, s := range k.All() {
		if s.own > 0 && s.Index(name) >= 0 {
			return true
		}
	}
	return false
}
