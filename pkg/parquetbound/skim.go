package parquetbound

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/encoding/thrift"
)

// maxDepth limits the nesting of structures. Parquet needs seven.
const maxDepth = 16

// skim walks through metadata in Thrift's compact protocol without decoding it, and checks that the lists and strings it
// claims are there.
type skim struct {
	*Limits
	rest  []byte
	items int64
}

func (s *skim) skip(n uint64) error {
	if n > uint64(len(s.rest)) {
		return io.ErrUnexpectedEOF
	}
	s.rest = s.rest[n:]
	return nil
}

func (s *skim) byte() (byte, error) {
	if len(s.rest) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b, nil
}

func (s *skim) uvarint() (uint64, error) {
	u, n := binary.Uvarint(s.rest)
	if n <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	s.rest = s.rest[n:]
	return u, nil
}

// fields walks through a structure.
func (s *skim) fields(depth int) error {
	if depth > maxDepth {
		return s.beyond("nested structures", int64(depth), maxDepth)
	}
	for {
		b, err := s.byte()
		if err != nil || thrift.Type(b) == thrift.STOP {
			return err
		}
		if b>>4 == 0 { // otherwise it is the difference to the previous field number
			if _, err := s.uvarint(); err != nil {
				return err
			}
		}
		if t := thrift.Type(b & 0xf); t != thrift.TRUE && t != thrift.FALSE { // booleans have no further bytes
			if err := s.value(t, depth+1); err != nil {
				return err
			}
		}
	}
}

func (s *skim) value(t thrift.Type, depth int) error {
	switch t {
	case thrift.TRUE, thrift.FALSE, thrift.I8:
		return s.skip(1)
	case thrift.I16, thrift.I32, thrift.I64:
		_, err := s.uvarint()
		return err
	case thrift.DOUBLE:
		return s.skip(8)
	case thrift.BINARY:
		n, err := s.uvarint()
		if err != nil {
			return err
		}
		return s.skip(n)
	case thrift.LIST, thrift.SET:
		return s.list(depth)
	case thrift.STRUCT:
		return s.fields(depth)
	default: // Parquet has no maps
		return fmt.Errorf("metadata of type %v", t)
	}
}

func (s *skim) list(depth int) error {
	b, err := s.byte()
	if err != nil {
		return err
	}
	n, t := uint64(b>>4), thrift.Type(b&0xf)
	if n == 0xf {
		if n, err = s.uvarint(); err != nil {
			return err
		}
	}
	if left := s.Items - s.items; n > uint64(left) {
		return s.beyond("items of metadata", s.items+int64(min(n, 1<<32)), s.Items)
	}
	s.items += int64(n)
	for range n {
		if err := s.value(t, depth+1); err != nil {
			return err
		}
	}
	return nil
}
