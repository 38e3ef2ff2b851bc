package marketfile

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// message is one message of a Binance stream. encoding/json ignores the case of names unless there is an exact match,
// so both cases of every letter are spelled out.
type message struct {
	Stream string `json:"stream"`
	Data   struct {
		Symbol   string          `json:"s"`
		Bid      string          `json:"b"`
		BidSize  string          `json:"B"`
		Ask      string          `json:"a"`
		AskSize  string          `json:"A"`
		Quantity string          `json:"q"`
		Upper    json.RawMessage `json:"Q"`
		UpperSym json.RawMessage `json:"S"`
	} `json:"data"`
}

// isCapture reports whether a line looks like a captured message: nanoseconds, a space, a JSON object.
func isCapture(line string) bool {
	digits, rest, ok := strings.Cut(line, " ")
	return ok && len(digits) >= 16 && len(digits) <= 19 && allDigits(digits) && strings.HasPrefix(rest, "{")
}

var errNotCapture = errors.New(`want lines like: 1723161256207640365 {"stream":"btcusdt@bookTicker","data":{...}}`)

// recogniseCapture takes symbol and time from the first line.
func (s *stored) recogniseCapture(line string) error {
	at, m, err := parseMessage(line)
	if err != nil || m.Data.Symbol == "" {
		return errNotCapture
	}
	s.symbol, s.first, s.skip = m.Data.Symbol, at, 0
	return nil
}

// parseMessage reads a line: the receive time in Unix milliseconds, rounded down, and the message.
func parseMessage(line string) (int64, message, error) {
	var m message
	digits, text, _ := strings.Cut(line, " ")
	ns, err := strconv.ParseInt(digits, 10, 64)
	ms := ns / 1e6
	if err != nil || !market.IsTime(ms) {
		return 0, m, badCell(ReasonTime, "receive time", digits, "is not a time: want the epoch in ns")
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return 0, m, badRow(ReasonColumns, "is not a message of a stream: "+err.Error())
	}
	return ms, m, nil
}

// quoteCapture returns a function that reads a bookTicker message as a quote and passes trades on. It uses the receive
// time: that is what a trader could have known, and spot quotes have no other. Messages of other streams are skipped.
func (r *reading) quoteCapture(f stored, trade func(time int64, size float64)) func(line string) (market.Quote, bool, error) {
	ahead := r.opts.clock(0).ahead
	return func(line string) (q market.Quote, ok bool, err error) {
		at, m, err := parseMessage(line)
		if err != nil {
			return q, false, err
		}
		at -= ahead
		if m.Data.Symbol != f.symbol {
			return q, false, badCell(ReasonSymbol, "s", m.Data.Symbol, "is another instrument than "+f.symbol)
		}
		switch {
		case strings.HasSuffix(m.Stream, "@trade"):
			if at < r.last {
				return q, false, backwardsRow(at, r.last)
			}
			size, err := parseSize("q", m.Data.Quantity)
			if err == nil && trade != nil {
				trade(at, size)
			}
			return q, false, err
		case !strings.HasSuffix(m.Stream, "@bookTicker"):
			return q, false, nil
		}
		q.Time = at
		if q.Bid, err = parsePrice("b", m.Data.Bid); err != nil {
			return q, false, err
		}
		if q.Ask, err = parsePrice("a", m.Data.Ask); err != nil {
			return q, false, err
		}
		if q.BidSize, err = parseSize("B", m.Data.BidSize); err != nil {
			return q, false, err
		}
		if q.AskSize, err = parseSize("A", m.Data.AskSize); err != nil {
			return q, false, err
		}
		err = checkQuote("b", q.Bid, q.Ask, false)
		return q, err == nil, err
	}
}
