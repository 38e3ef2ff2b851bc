package feature

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// A snapshot is little-endian: the mark (8 bytes), version and kind (4 bytes each), records with their length before them
// (4 bytes), and the SHA-256 of everything before it. The first record has the counts and the number of symbols, then comes
// one per symbol in order.
const (
	snapshotMark = "GLFEATUR"
	// snapshotVersion changes with the layout, and with any change to Builder that changes the meaning of its state.
	snapshotVersion = 2
	// oldestVersion is the oldest readable version. It lacks Ahead, the waiting observation and the lengths of days.
	oldestVersion = 1
	// kindBuilders is the kind of a snapshot of all symbols.
	kindBuilders = 2

	// maxRecord is longer than any record: the rings of a full builder take 24 kB.
	maxRecord = 32 << 10
)

var (
	// ErrSnapshot is returned for data that is not a snapshot, or is damaged.
	ErrSnapshot = errors.New("not a usable snapshot")
	// ErrSnapshotVersion is returned for a snapshot of another version. Its features must be recomputed from the market.
	ErrSnapshotVersion = errors.New("snapshot of another version")
)

// sealWriter writes a snapshot.
type sealWriter struct {
	w   io.Writer
	sum hash.Hash
	err error
}

func newSealWriter(w io.Writer, kind uint32) *sealWriter {
	s := &sealWriter{w: w, sum: sha256.New()}
	head := binary.LittleEndian.AppendUint32([]byte(snapshotMark), snapshotVersion)
	s.write(binary.LittleEndian.AppendUint32(head, kind))
	return s
}

func (s *sealWriter) write(p []byte) {
	if s.err != nil {
		return
	}
	s.sum.Write(p) // a hash never fails
	_, s.err = s.w.Write(p)
}

func (s *sealWriter) record(p []byte) {
	s.write(binary.LittleEndian.AppendUint32(nil, uint32(len(p))))
	s.write(p)
}

func (s *sealWriter) close() error {
	s.write(s.sum.Sum(nil))
	if s.err != nil {
		return fmt.Errorf("write snapshot: %w", s.err)
	}
	return nil
}

// sealReader reads exactly one snapshot, and no byte after it.
type sealReader struct {
	r       io.Reader
	sum     hash.Hash
	version uint32
}

func newSealReader(r io.Reader, kind uint32) (*sealReader, error) {
	s := &sealReader{r: r, sum: sha256.New()}
	head := make([]byte, len(snapshotMark)+8)
	if err := s.read(head); err != nil {
		return nil, err
	}
	mark, head := head[:len(snapshotMark)], head[len(snapshotMark):]
	version, found := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	switch {
	case string(mark) != snapshotMark:
		return nil, fmt.Errorf("%w: does not begin with %s", ErrSnapshot, snapshotMark)
	case version < oldestVersion || version > snapshotVersion:
		return nil, fmt.Errorf("%w: it has version %d, this program reads %d to %d", ErrSnapshotVersion, version, oldestVersion, snapshotVersion)
	case found != kind:
		return nil, fmt.Errorf("%w: it is of kind %d, want %d", ErrSnapshot, found, kind)
	}
	s.version = version
	return s, nil
}

func (s *sealReader) read(p []byte) error {
	_, err := io.ReadFull(s.r, p)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it is truncated", ErrSnapshot)
	case err != nil:
		return fmt.Errorf("read snapshot: %w", err)
	}
	s.sum.Write(p) // a hash never fails
	return nil
}

// record reads the next record.
func (s *sealReader) record() (*decoder, error) {
	var length [4]byte
	if err := s.read(length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > maxRecord {
		return nil, fmt.Errorf("%w: a record of %d bytes: want at most %d", ErrSnapshot, n, maxRecord)
	}
	p := make([]byte, n)
	if err := s.read(p); err != nil {
		return nil, err
	}
	return &decoder{data: p, version: s.version}, nil
}

// close compares what was read with the checksum.
func (s *sealReader) close() error {
	want := s.sum.Sum(nil)
	got := make([]byte, len(want))
	if err := s.read(got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: the checksum does not match: it is damaged", ErrSnapshot)
	}
	return nil
}

// Snapshot writes the state of every symbol without the options. Equal states give equal bytes. Each symbol is as it
// was at one instant; concurrent observations of other symbols may be missing. [RestoreBuilders] reads it.
func (b *Builders) Snapshot(w io.Writer) error {
	symbols := b.Symbols()
	pages := make([]*page, 0, len(symbols))
	names := symbols[:0]
	for _, symbol := range symbols {
		if p := b.page(symbol); p != nil {
			pages, names = append(pages, p), append(names, symbol)
		}
	}
	s := newSealWriter(w, kindBuilders)
	var e encoder
	for n := range b.counts {
		e.uint(b.counts[n].Load())
	}
	e.uint(uint64(len(pages)))
	s.record(e.data)
	for i, p := range pages {
		e.data = e.data[:0]
		e.text(names[i])
		p.mu.Lock()
		e.live(p.live)
		p.mu.Unlock()
		s.record(e.data)
	}
	return s.close()
}

// RestoreBuilders reads what [Builders.Snapshot] wrote, and no byte after it. The errors are [ErrSnapshot],
// [ErrSnapshotVersion], errors of r, and [ErrTooManySymbols] if it holds more symbols than opts allows. It needs no more
// memory than the result.
func RestoreBuilders(r io.Reader, opts BuildersOptions) (*Builders, error) {
	b, err := NewBuilders(opts)
	if err != nil {
		return nil, err
	}
	s, err := newSealReader(r, kindBuilders)
	if err != nil {
		return nil, err
	}
	d, err := s.record()
	if err != nil {
		return nil, err
	}
	for n := range d.notes() {
		b.counts[n].Store(d.uint())
	}
	symbols := d.uint()
	if err := d.end(); err != nil {
		return nil, err
	}
	if symbols > uint64(b.opts.MaxSymbols) {
		return nil, fmt.Errorf("%w: the snapshot holds %d, the limit is %d", ErrTooManySymbols, symbols, b.opts.MaxSymbols)
	}
	last := ""
	for range symbols {
		d, err := s.record()
		if err != nil {
			return nil, err
		}
		symbol := d.text()
		d.check(symbol > last && len(symbol) <= MaxSymbolBytes, "symbols out of order")
		last = symbol
		live := d.live(b.opts.Live)
		if err := d.end(); err != nil {
			return nil, fmt.Errorf("symbol %q: %w", symbol, err)
		}
		b.add(symbol, live)
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	return b, nil
}
