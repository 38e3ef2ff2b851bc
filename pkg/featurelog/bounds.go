package featurelog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Limits on what is read from a file. A Parquet file of a few hundred bytes can claim lists, pages and runs of two
// billion values each, and the decoder allocates what is claimed before it checks the data. [Logger] writes far less
// than these limits.
const (
	// maxFooter limits the bytes of the metadata, maxItems the items of all its lists together.
	maxFooter, maxItems = 1 << 20, 1 << 16
	// maxFileRows limits the rows of a file. A flush writes no more rows than may wait.
	maxFileRows = 1 << 20
	// maxPage limits the bytes of a page, stored and unpacked; maxPageHeader limits its header.
	maxPage, maxPageHeader = 16 << 20, 64 << 10
	// maxValue limits the bytes of a text: maxText bytes, each of which may have been replaced by three.
	maxValue = 3 * maxText
)

// errBeyond tells the reader what to do about a file that exceeds a limit.
var errBeyond = errors.New("executor never writes such a file: move it out of the folder and find out where it comes from")

// beyond returns the error for a file whose what is n, above limit.
func beyond(what string, n, limit int64) error {
	return fmt.Errorf("%s: %d, but at most %d are read; %w", what, n, limit, errBeyond)
}

// checkFooter checks the metadata before it is decoded.
func checkFooter(f io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < int64(len(tail)) {
		return io.ErrUnexpectedEOF
	}
	if _, err := f.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	switch {
	case string(tail[4:]) != "PAR1":
		return fmt.Errorf("it ends with %q", tail[4:])
	case n > size-12: // both ends have a magic number
		return fmt.Errorf("metadata of %d bytes in a file of %d", n, size)
	case n > maxFooter:
		return beyond("bytes of metadata", n, maxFooter)
	}
	raw := make([]byte, n)
	if _, err := f.ReadAt(raw, size-8-n); err != nil {
		return err
	}
	s := skim{rest: raw}
	return s.fields(0)
}

// checkPages walks through the pages of a file of flat columns and unpacks each of them before anything is decoded.
func checkPages(f io.ReaderAt, size int64, meta *format.FileMetaData) (err error) {
	defer func() {
		damaged(&err, recover())
		if err != nil && !errors.Is(err, errBeyond) {
			err = fmt.Errorf("damaged: %w", err)
		}
	}()
	var rows, stored int64
	p := pages{r: bufio.NewReaderSize(nil, maxPageHeader)}
	for _, g := range meta.RowGroups {
		if g.NumRows < 0 {
			return fmt.Errorf("%d rows", g.NumRows)
		}
		// The sums cannot overflow: each is checked as it grows.
		if g.NumRows > maxFileRows || rows+g.NumRows > maxFileRows {
			return beyond("rows", rows+g.NumRows, maxFileRows)
		}
		rows += g.NumRows
		for i := range g.Columns {
			c := &g.Columns[i].MetaData
			from, n := c.DataPageOffset, c.TotalCompressedSize
			if c.DictionaryPageOffset != 0 {
				from = c.DictionaryPageOffset
			}
			if from < 0 || n < 0 || from > size || n > size-from || stored+n > size {
				return fmt.Errorf("column %s: %d bytes at %d, in a file of %d", nameOf(c), n, from, size)
			}
			stored += n
			if c.Codec != format.Snappy {
				return fmt.Errorf("column %s is compressed as %v: only SNAPPY is read, which is what executor writes", nameOf(c), c.Codec)
			}
			p.r.Reset(io.NewSectionReader(f, from, n))
			p.left, p.rows, p.kind = n, g.NumRows, c.Type
			p.nullable = i < len(meta.Schema)-1 && meta.Schema[i+1].RepetitionType.V == format.Optional // the first element is the root
			if err := p.check(); err != nil {
				return fmt.Errorf("column %s: %w", nameOf(c), err)
			}
		}
	}
	return nil
}

func nameOf(c *format.ColumnMetaData) string {
	name := strings.Join(c.PathInSchema, ".")
	return fmt.Sprintf("%.64q", name)
}

// pages are the pages of one column of a row group.
type pages struct {
	r        *bufio.Reader
	left     int64 // bytes not read yet
	rows     int64 // rows that no page has covered yet
	kind     format.Type
	nullable bool
	// stored and unpacked hold the last page; their memory is reused for the next.
	stored, unpacked []byte
}

func (p *pages) check() error {
	var protocol thrift.CompactProtocol
	for p.left > 0 {
		raw, err := p.r.Peek(int(min(p.left, maxPageHeader)))
		if err != nil {
			return err
		}
		in := protocol.NewReaderFromBytes(raw)
		var h format.PageHeader
		if err := thrift.NewDecoder(in).Decode(&h); err != nil {
			return fmt.Errorf("header of a page: %w", err)
		}
		p.left -= int64(in.BytesRead())
		if _, err := p.r.Discard(in.BytesRead()); err != nil {
			return err
		}
		if err := p.unpack(&h); err != nil {
			return err
		}
		switch {
		case h.Type == format.DictionaryPage && h.DictionaryPageHeader.Valid && !h.DataPageHeader.Valid && !h.DataPageHeaderV2.Valid:
			err = p.dictionary(&h.DictionaryPageHeader.V)
		case h.Type == format.DataPage && h.DataPageHeader.Valid && !h.DictionaryPageHeader.Valid && !h.DataPageHeaderV2.Valid:
			err = p.data(&h.DataPageHeader.V)
		default:
			err = fmt.Errorf("a page of type %v: not written by executor", h.Type)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unpack reads and unpacks the page after its header.
func (p *pages) unpack(h *format.PageHeader) error {
	stored, n := int64(h.CompressedPageSize), int64(h.UncompressedPageSize)
	switch {
	case stored > maxPage:
		return beyond("bytes of a page", stored, maxPage)
	case n > maxPage:
		return beyond("bytes of a page, unpacked", n, maxPage)
	case stored < 0 || n < 0 || stored > p.left:
		return fmt.Errorf("a page of %d bytes, %d unpacked, where %d are left", stored, n, p.left)
	}
	p.left -= stored
	p.stored = sized(p.stored, int(stored))
	if _, err := io.ReadFull(p.r, p.stored); err != nil {
		return err
	}
	// Snappy data starts with its unpacked length.
	if claimed, k := binary.Uvarint(p.stored); k <= 0 || claimed != uint64(n) {
		return fmt.Errorf("a page of %d bytes, unpacked, is packed as one of %d", n, claimed)
	}
	p.unpacked = sized(p.unpacked, int(n))
	_, err := (&snappy.Codec{}).Decode(p.unpacked, p.stored)
	return err
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

func (p *pages) dictionary(h *format.DictionaryPageHeader) error {
	if h.Encoding != format.Plain {
		return fmt.Errorf("a dictionary that is encoded as %v", h.Encoding)
	}
	if int64(h.NumValues) > maxFileRows {
		return beyond("values of a dictionary", int64(h.NumValues), maxFileRows)
	}
	return p.plain(p.unpacked)
}

func (p *pages) data(h *format.DataPageHeader) error {
	n := int64(h.NumValues)
	if n < 0 || n > p.rows {
		return fmt.Errorf("a page of %d values, where %d rows are left", n, p.rows)
	}
	p.rows -= n
	values := p.unpacked
	if p.nullable {
		if h.DefinitionLevelEncoding != format.RLE {
			return fmt.Errorf("levels that are encoded as %v", h.DefinitionLevelEncoding)
		}
		if len(values) < 4 {
			return io.ErrUnexpectedEOF
		}
		length := int64(binary.LittleEndian.Uint32(values))
		if values = values[4:]; length > int64(len(values)) {
			return io.ErrUnexpectedEOF
		}
		if err := checkRuns(values[:length], 1, n); err != nil {
			return err
		}
		values = values[length:]
	}
	switch h.Encoding {
	case format.Plain:
		return p.plain(values)
	case format.RLEDictionary:
		if len(values) == 0 {
			return nil
		}
		return checkRuns(values[1:], int64(values[0]), n)
	case format.DeltaBinaryPacked:
		return checkDeltas(values, n)
	default:
		return fmt.Errorf("values that are encoded as %v: not written by executor", h.Encoding)
	}
}

// plain checks the lengths of texts. Numbers cannot claim more than they have.
func (p *pages) plain(values []byte) error {
	if p.kind != format.ByteArray {
		return nil
	}
	for len(values) > 0 {
		if len(values) < 4 {
			return io.ErrUnexpectedEOF
		}
		n := int64(binary.LittleEndian.Uint32(values))
		if n > maxValue {
			return beyond("bytes of a text", n, maxValue)
		}
		if values = values[4:]; n > int64(len(values)) {
			return io.ErrUnexpectedEOF
		}
		values = values[n:]
	}
	return nil
}

// checkRuns checks that runs of width-bit values hold at most n values, apart from the padding of the last.
func checkRuns(raw []byte, width, n int64) error {
	if width > 32 {
		return fmt.Errorf("values of %d bits", width)
	}
	var sum int64
	for len(raw) > 0 {
		u, k := binary.Uvarint(raw)
		if k <= 0 {
			return io.ErrUnexpectedEOF
		}
		raw = raw[k:]
		count, length := u>>1, (width+7)/8
		if count > maxFileRows {
			return beyond("values of a run", int64(min(count, 1<<62)), maxFileRows)
		}
		sum += int64(count)
		if u&1 != 0 { // bit-packed, in groups of eight
			sum += 7 * int64(count)
			length = int64(count) * width
		}
		if sum > n+7 {
			return fmt.Errorf("runs of %d values in a page of %d", sum, n)
		}
		if length > int64(len(raw)) {
			return io.ErrUnexpectedEOF
		}
		raw = raw[length:]
	}
	return nil
}

// checkDeltas checks that a delta sequence has at most n values.
func checkDeltas(raw []byte, n int64) error {
	var count uint64
	for range 3 { // block size, number of parts, number of values
		u, k := binary.Uvarint(raw)
		if k <= 0 {
			return io.ErrUnexpectedEOF
		}
		raw, count = raw[k:], u
	}
	if count > uint64(n) {
		return fmt.Errorf("%d differences in a page of %d values", count, n)
	}
	return nil
}

// options skip what rows do not need and what would be read without checks.
var options = []parquet.FileOption{parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true)}
