// Package parquetbound checks Parquet files before they are decoded. A file of a few hundred bytes can claim lists, pages
// and runs of two billion values each, and the decoder allocates what is claimed before it checks the data.
package parquetbound

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Limits bounds what is read from a file.
type Limits struct {
	// Footer limits the bytes of the metadata, Items the items of all its lists together.
	Footer, Items int64
	// Rows limits the rows of a file.
	Rows int64
	// Page limits the bytes of a page, stored and unpacked.
	Page int64
	// Value limits the bytes of a string.
	Value int64
	// Foreign reports whether the file may come from programs other than executor, which use more encodings.
	Foreign bool
	// Advice is what to do about a file that exceeds a limit; errors of such files wrap it.
	Advice error
}

// maxWindow limits the memory of a zstd decoder, in bytes. Every encoder must keep to it unless a page is larger (RFC 8878).
const maxWindow = 8 << 20

// maxPageHeader limits the bytes of a page's header.
const maxPageHeader = 64 << 10

// plainDictionary is the older name of both encodings of a dictionary's pages, which common writers use to this day.
const plainDictionary = format.PlainDictionary //nolint:staticcheck // deprecated for writers only

// errNotRead marks a valid file in an unsupported form.
var errNotRead = errors.New("is not supported")

// beyond returns the error for n above limit; what names the quantity in the message.
func (l *Limits) beyond(what string, n, limit int64) error {
	return fmt.Errorf("%s: %d, but at most %d are read; %w", what, n, limit, l.Advice)
}

// Open checks the footer of a file, and opens it without its page index and Bloom filters, which are not checked.
func (l *Limits) Open(f io.ReaderAt, size int64) (_ *parquet.File, err error) {
	defer func() { Damaged(&err, recover()) }()
	err = l.checkFooter(f, size)
	if errors.Is(err, l.Advice) {
		return nil, err
	}
	var p *parquet.File
	if err == nil {
		p, err = parquet.OpenFile(f, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	}
	if err != nil {
		return nil, fmt.Errorf("not a whole Parquet file (truncated, or another kind): %w", err)
	}
	return p, nil
}

// Damaged turns a panic of the decoder, which damaged pages can cause, into an error.
func Damaged(err *error, panicked any) {
	if panicked != nil {
		*err = fmt.Errorf("damaged: %v", panicked)
	}
}

// checkFooter checks the metadata before it is decoded.
func (l *Limits) checkFooter(f io.ReaderAt, size int64) error {
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
	case n > l.Footer:
		return l.beyond("bytes of metadata", n, l.Footer)
	}
	raw := make([]byte, n)
	if _, err := f.ReadAt(raw, size-8-n); err != nil {
		return err
	}
	s := skim{Limits: l, rest: raw}
	return s.fields(0)
}

// CheckPages walks through the pages of a file of flat columns and unpacks each of them before anything is decoded.
func (l *Limits) CheckPages(f io.ReaderAt, size int64, meta *format.FileMetaData) (err error) {
	defer func() {
		Damaged(&err, recover())
		if err != nil && !errors.Is(err, l.Advice) && !errors.Is(err, errNotRead) {
			err = fmt.Errorf("damaged: %w", err)
		}
	}()
	var rows, stored int64
	p := pages{Limits: l, r: bufio.NewReaderSize(nil, maxPageHeader)}
	for _, g := range meta.RowGroups {
		if g.NumRows < 0 {
			return fmt.Errorf("%d rows", g.NumRows)
		}
		// The sums cannot overflow: each is checked as it grows.
		if g.NumRows > l.Rows || rows+g.NumRows > l.Rows {
			return l.beyond("rows", rows+g.NumRows, l.Rows)
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
			switch {
			case c.Codec == format.Snappy:
			case !l.Foreign:
				return fmt.Errorf("column %s is compressed as %v: only SNAPPY, which executor writes, is supported", nameOf(c), c.Codec)
			case c.Codec != format.Uncompressed && c.Codec != format.Gzip && c.Codec != format.Zstd:
				return fmt.Errorf("column %s is compressed as %v, which %w: write it as SNAPPY, GZIP, ZSTD or UNCOMPRESSED", nameOf(c), c.Codec, errNotRead)
			}
			p.r.Reset(io.NewSectionReader(f, from, n))
			p.left, p.rows, p.kind, p.codec = n, g.NumRows, c.Type, c.Codec
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
	*Limits
	r        *bufio.Reader
	left     int64 // bytes not read yet
	rows     int64 // rows that no page has covered yet
	kind     format.Type
	codec    format.CompressionCodec
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
		case p.Foreign && h.Type == format.DataPageV2 && h.DataPageHeaderV2.Valid && !h.DataPageHeader.Valid && !h.DictionaryPageHeader.Valid:
			err = p.dataV2(&h.DataPageHeaderV2.V)
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
	case stored > p.Page:
		return p.beyond("bytes of a page", stored, p.Page)
	case n > p.Page:
		return p.beyond("bytes of a page, unpacked", n, p.Page)
	case stored < 0 || n < 0 || stored > p.left:
		return fmt.Errorf("a page of %d bytes, %d unpacked, where %d are left", stored, n, p.left)
	}
	p.left -= stored
	p.stored = sized(p.stored, int(stored))
	if _, err := io.ReadFull(p.r, p.stored); err != nil {
		return err
	}
	p.unpacked = sized(p.unpacked, int(n))
	packed, into := p.stored, p.unpacked
	if h.Type == format.DataPageV2 && h.DataPageHeaderV2.Valid { // its levels are not compressed
		v := &h.DataPageHeaderV2.V
		levels := int64(v.RepetitionLevelsByteLength) + int64(v.DefinitionLevelsByteLength)
		if levels < 0 || v.RepetitionLevelsByteLength < 0 || levels > min(stored, n) {
			return fmt.Errorf("levels of %d bytes in a page of %d", levels, stored)
		}
		copy(into, packed[:levels])
		packed, into = packed[levels:], into[levels:]
		if v.IsCompressed.Valid && !v.IsCompressed.V {
			return unpack(format.Uncompressed, into, packed)
		}
	}
	return unpack(p.codec, into, packed)
}

// unpack unpacks exactly as many bytes as the page claims.
func unpack(codec format.CompressionCodec, into, packed []byte) error {
	var r io.Reader
	switch codec {
	case format.Uncompressed:
		r = bytes.NewReader(packed)
	case format.Gzip:
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return err
		}
		r = z
	case format.Zstd:
		z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(max(uint64(len(into)), maxWindow)))
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	default:
		// Snappy data starts with its unpacked length.
		if claimed, k := binary.Uvarint(packed); k <= 0 || claimed != uint64(len(into)) {
			return fmt.Errorf("a page claims %d unpacked bytes, but its data claim %d", len(into), claimed)
		}
		_, err := (&snappy.Codec{}).Decode(into, packed)
		return err
	}
	if _, err := io.ReadFull(r, into); err != nil {
		return err
	}
	if n, err := io.CopyN(io.Discard, r, 1); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("a page claims %d unpacked bytes, but has more", len(into))
	}
	return nil
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

func (p *pages) dictionary(h *format.DictionaryPageHeader) error {
	if h.Encoding != format.Plain && !(p.Foreign && h.Encoding == plainDictionary) {
		return fmt.Errorf("a dictionary that is encoded as %v", h.Encoding)
	}
	if int64(h.NumValues) > p.Rows {
		return p.beyond("values of a dictionary", int64(h.NumValues), p.Rows)
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
		if err := p.checkRuns(values[:length], 1, n); err != nil {
			return err
		}
		values = values[length:]
	}
	return p.values(values, h.Encoding, n)
}

// dataV2 checks a page whose levels come first, without their lengths.
func (p *pages) dataV2(h *format.DataPageHeaderV2) error {
	n := int64(h.NumValues)
	if n < 0 || n > p.rows || int64(h.NumRows) != n || h.NumNulls < 0 || int64(h.NumNulls) > n {
		return fmt.Errorf("a page of %d values in %d rows, where %d rows are left", n, h.NumRows, p.rows)
	}
	p.rows -= n
	levels, values := p.unpacked[h.RepetitionLevelsByteLength:], p.unpacked[h.RepetitionLevelsByteLength+h.DefinitionLevelsByteLength:]
	if err := p.checkRuns(levels[:h.DefinitionLevelsByteLength], 1, n); err != nil {
		return err
	}
	return p.values(values, h.Encoding, n)
}

// values checks the values of a page.
func (p *pages) values(values []byte, encoding format.Encoding, n int64) error {
	switch {
	case encoding == format.Plain:
		return p.plain(values)
	case encoding == format.RLEDictionary, p.Foreign && encoding == plainDictionary:
		if len(values) == 0 {
			return nil
		}
		return p.checkRuns(values[1:], int64(values[0]), n)
	case encoding == format.DeltaBinaryPacked, p.Foreign && encoding == format.DeltaLengthByteArray: // the lengths come first
		return checkDeltas(values, n)
	case p.Foreign && encoding == format.ByteStreamSplit && p.kind != format.ByteArray:
		return nil
	case p.Foreign && encoding == format.RLE && p.kind == format.Boolean:
		if len(values) < 4 {
			return io.ErrUnexpectedEOF
		}
		return p.checkRuns(values[4:], 1, n)
	case p.Foreign:
		return fmt.Errorf("values that are encoded as %v, which %w: write them as PLAIN or RLE_DICTIONARY", encoding, errNotRead)
	default:
		return fmt.Errorf("values that are encoded as %v: not written by executor", encoding)
	}
}

// plain checks the lengths of strings. Numbers have fixed sizes.
func (p *pages) plain(values []byte) error {
	if p.kind != format.ByteArray {
		return nil
	}
	for len(values) > 0 {
		if len(values) < 4 {
			return io.ErrUnexpectedEOF
		}
		n := int64(binary.LittleEndian.Uint32(values))
		if n > p.Value {
			return p.beyond("bytes of a text", n, p.Value)
		}
		if values = values[4:]; n > int64(len(values)) {
			return io.ErrUnexpectedEOF
		}
		values = values[n:]
	}
	return nil
}

// checkRuns checks that runs of width-bit values hold at most n values, apart from the padding of the last.
func (p *pages) checkRuns(raw []byte, width, n int64) error {
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
		if count > uint64(p.Rows) {
			return p.beyond("values of a run", int64(min(count, 1<<62)), p.Rows)
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
