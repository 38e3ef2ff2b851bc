// Package market has quotes and one-minute bars, and a seeded simulator for use without real data. Package marketfile
// reads them from files.
package market

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
)

// MinuteMS is the length of a bar in milliseconds.
const MinuteMS = 60_000

// Bar is one observed minute of one instrument. All prices are > 0 and finite, with Low <= Open, Close <= High.
//
// If the source has quotes, the four prices are prices of mid = (bid + ask)/2, and Bid and Ask hold the closing quote.
// If it has only trades, the four prices are trade prices, and Bid and Ask are 0.
type Bar struct {
	// Start is the first instant of the minute, Unix milliseconds UTC, a multiple of MinuteMS. A decision based on a
	// bar is made at its end.
	Start                  int64
	Open, High, Low, Close float64
	Bid, Ask               float64
	// Volume is in the source's own unit, 0 if unknown.
	Volume float64
}

// End returns the decision time of the bar, Unix milliseconds UTC: the end of its minute.
func (b Bar) End() int64 { return b.Start + MinuteMS }

// Quoted reports whether the bar has a closing bid and ask.
func (b Bar) Quoted() bool { return b.Bid > 0 && b.Ask > 0 }

// Quote is a change of the top of the book of one instrument.
type Quote struct {
	// Time is in Unix milliseconds UTC.
	Time             int64
	Bid, Ask         float64
	BidSize, AskSize float64
}

// Series holds the bars of one instrument in ascending order of Start, without duplicates. Minutes may be missing.
type Series struct {
	// Symbol is the instrument, for example "BTC-PERP".
	Symbol string
	Bars   []Bar
	// Simulated reports whether the numbers come from a simulator instead of a real market.
	Simulated bool
	// Files are the files that were read, with their digests, in reading order.
	Files []File
	// Dropped counts the rows left out, by reason (the Reason constants of marketfile); nil if there are none.
	Dropped map[string]int
	// Ignored are the CSV columns that were not read, as named in the headers, each once. They may include features and
	// labels of other programs.
	Ignored []string
	// Taken lists what was guessed about the files, each guess once: columns by their shape, the order of dates.
	Taken []string
	// Crossed counts the bars kept although their closing bid is above their closing ask: see marketfile.CrossedPolicy.
	Crossed int
}

// Digest identifies the data set. It is the SHA-256, in lower-case hexadecimal, over the SHA256 fields of Files in
// order, each followed by a line feed. Paths are not included, so a data set keeps its digest when it is moved. It is
// empty if no file was read.
func (s *Series) Digest() string {
	if len(s.Files) == 0 {
		return ""
	}
	h := sha256.New()
	for _, f := range s.Files {
		io.WriteString(h, f.SHA256+"\n")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// File is one file that was read.
type File struct {
	Path string `json:"path"`
	// SHA256 is the lower-case hexadecimal digest of the bytes as stored, without decompression.
	SHA256 string `json:"sha256"`
}
