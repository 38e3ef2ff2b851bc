// Package market holds what the programs know of a market: quotes and one-minute bars, readers for the files in which
// exchanges and archives keep them, and a seeded simulator for when there are none.
package market

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
)

// MinuteMS is the length of a bar in milliseconds.
const MinuteMS = 60_000

// Bar is one observed minute of one instrument. All prices are > 0 and finite, Low <= Open, Close <= High.
//
// Where the source has quotes, the four prices are those of mid = (bid + ask)/2 and Bid and Ask hold the closing quote;
// where it has trades alone, the four prices are trade prices and Bid and Ask are 0.
type Bar struct {
	// Start is the first instant of the minute, Unix milliseconds UTC, a multiple of MinuteMS. The decision that a bar
	// allows is made at its end.
	Start                  int64
	Open, High, Low, Close float64
	Bid, Ask               float64
	// Volume is in the source's own unit, 0 when it is not known.
	Volume float64
}

// End is the decision instant of the bar, Unix milliseconds UTC: the end of its minute.
func (b Bar) End() int64 { return b.Start + MinuteMS }

// Quoted says whether the bar has a closing bid and ask.
func (b Bar) Quoted() bool { return b.Bid > 0 && b.Ask > 0 }

// Quote is a change of the top of the book of one instrument.
type Quote struct {
	// Time is Unix milliseconds UTC.
	Time             int64
	Bid, Ask         float64
	BidSize, AskSize float64
}

// Series is the bars of one instrument in ascending order of Start, without duplicates. Minutes may be missing.
type Series struct {
	// Symbol is the instrument, for example "BTC-PERP".
	Symbol string
	Bars   []Bar
	// Simulated says that no market made these numbers.
	Simulated bool
	// Files are the files that were read, with their digests, in the order of reading.
	Files []File
	// Dropped counts the rows that were left out, by reason (the Reason constants); nil when none was.
	Dropped map[string]int
	// Ignored are the columns of CSV files that were not read, as their headers name them, each once: features and labels of
	// other programs among them.
	Ignored []string
	// Crossed counts the bars that were kept although their closing bid is above their closing ask: see CrossedPolicy.
	Crossed int
}

// Digest names the data set: the SHA-256, lower-case hexadecimal, over the SHA256 fields of Files in their order, each
// followed by a line feed. Paths have no part in it, so a data set keeps its digest when it is moved. It is empty when
// no file was read.
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
	// SHA256 is of the bytes as stored (compressed files are not opened for it), lower-case hexadecimal.
	SHA256 string `json:"sha256"`
}
