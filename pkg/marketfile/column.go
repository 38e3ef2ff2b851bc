package marketfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// role is what a column means.
type role int

const (
	roleTime role = iota
	roleDay       // the day, where the time is only that of the day
	roleOpen
	roleHigh
	roleLow
	roleClose
	roleBidOpen
	roleBidHigh
	roleBidLow
	roleBid
	roleAskOpen
	roleAskHigh
	roleAskLow
	roleAsk
	roleBidSize
	roleAskSize
	roleVolume
	roleSymbol
	roles
)

var (
	pricesOfBar = []role{roleOpen, roleHigh, roleLow, roleClose}
	pricesOfBid = []role{roleBidOpen, roleBidHigh, roleBidLow, roleBid}
	pricesOfAsk = []role{roleAskOpen, roleAskHigh, roleAskLow, roleAsk}
)

// known holds for each role its name in Options.Columns, and the names of such columns in exports, the preferred one
// first, in lower case and without anything but letters and digits: see plain.
var known = [roles]struct {
	name  string
	names []string
}{
	roleTime: {"time", []string{
		"tsms", "timestamp", "ts", "opentime", "unix", "unixtime", "unixtimestamp", "time", "datetime", "date", "timestamputc",
		"timestampms", "timeutc", "utctime", "utc", "datetimeutc", "gmttime", "localtime", "epoch", "mts", "starttime", "startat", "start",
		"windowstart", "timeperiodstart", "candlebegintime", "klinestarttime", "bartime", "transactiontime", "eventtime", "tsevent", "t",
		"", "indexlevel0", "unnamed0",
	}},
	roleDay:  {"date", []string{"date", "day", "dtyyyymmdd"}},
	roleOpen: {"open", []string{"open", "openprice", "priceopen", "mido", "midopen", "first", "o"}},
	roleHigh: {"high", []string{"high", "highprice", "pricehigh", "midh", "midhigh", "max", "h"}},
	roleLow:  {"low", []string{"low", "lowprice", "pricelow", "midl", "midlow", "min", "l"}},
	roleClose: {"close", []string{
		"close", "closeprice", "priceclose", "midc", "midclose", "last", "closelast", "c",
	}},
	roleBidOpen: {"bid_open", []string{"bidopen", "openbid", "bido", "bidopenprice"}},
	roleBidHigh: {"bid_high", []string{"bidhigh", "highbid", "bidh", "bidhighprice"}},
	roleBidLow:  {"bid_low", []string{"bidlow", "lowbid", "bidl", "bidlowprice"}},
	roleBid: {"bid", []string{
		"bid", "bidprice", "bestbidprice", "bestbid", "bidclose", "closebid", "bidc", "bidcloseprice", "bidpx00", "pricebid", "bidp",
	}},
	roleAskOpen: {"ask_open", []string{"askopen", "openask", "asko", "askopenprice"}},
	roleAskHigh: {"ask_high", []string{"askhigh", "highask", "askh", "askhighprice"}},
	roleAskLow:  {"ask_low", []string{"asklow", "lowask", "askl", "asklowprice"}},
	roleAsk: {"ask", []string{
		"ask", "askprice", "bestaskprice", "bestask", "askclose", "closeask", "askc", "askcloseprice", "askpx00", "priceask", "askp",
		"offer", "offerprice",
	}},
	roleBidSize: {"bid_size", []string{"bidsize", "bidqty", "bestbidqty", "bestbidsize", "bidvolume", "bidamount", "bidquantity", "bidsz00"}},
	roleAskSize: {"ask_size", []string{"asksize", "askqty", "bestaskqty", "bestasksize", "askvolume", "askamount", "askquantity", "asksz00"}},
	roleVolume:  {"volume", []string{"volume", "tickvol", "tickvolume", "vol", "basevolume", "volumetraded", "v"}},
	roleSymbol:  {"symbol", []string{"symbol", "instrument", "ticker", "pair", "instrumentname", "instid", "rawsymbol", "sym"}},
}

// plain reduces a column's name to its lower-case letters and digits: "<OPEN>", "Bid.o", "Gmt time".
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r > 127 {
			return r
		}
		return -1
	}, strings.ToLower(name))
}

// layout is how the rows of a file are to be read.
type layout struct {
	// names are the names in the header; without a header, the names of the roles.
	names  []string
	headed bool
	// at holds the position of each role; -1 means missing.
	at [roles]int
	// guessed are the roles that were assigned by the shape of the numbers.
	guessed   []role
	separator byte
	// comma reports whether decimals follow a comma.
	comma bool
	// monthFirst reports whether 01/02/2024 is in January.
	monthFirst bool
	// newestFirst reports whether times descend.
	newestFirst bool
}

func newLayout(names []string, headed bool, separator byte) layout {
	l := layout{names: names, headed: headed, separator: separator}
	for r := range l.at {
		l.at[r] = -1
	}
	return l
}

// fixedLayout returns the layout of a text without a header whose columns are known.
func fixedLayout(names []string, columns ...role) layout {
	l := newLayout(names, false, ',')
	for i, r := range columns {
		l.at[r] = i
	}
	return l
}

// byName finds the columns by the names of the header.
func (l *layout) byName(given map[string]string) error {
	reduced := make([]string, len(l.names))
	for i, n := range l.names {
		reduced[i] = plain(n)
	}
	err := l.byOption(given)
	for r := range roles {
		if l.at[r] >= 0 || r == roleDay {
			continue
		}
		for _, name := range known[r].names {
			if i := slices.Index(reduced, name); i >= 0 && !slices.Contains(l.at[:], i) {
				if name != "" && slices.ContainsFunc(l.names[i+1:], func(n string) bool { return strings.EqualFold(strings.TrimSpace(n), strings.TrimSpace(l.names[i])) }) {
					return fmt.Errorf("column %q is listed twice", l.names[i])
				}
				l.at[r] = i
				break
			}
		}
	}
	if l.at[roleVolume] < 0 { // "Volume BTC", "Volume USD"
		if i := slices.IndexFunc(reduced, func(n string) bool { return strings.HasPrefix(n, "volume") }); !slices.Contains(l.at[:], i) {
			l.at[roleVolume] = i
		}
	}
	return err
}

// byOption finds the columns that Options.Columns names, by name or by number from 1.
func (l *layout) byOption(given map[string]string) error {
	for r := range roles {
		column, ok := given[known[r].name]
		if !ok {
			continue
		}
		i := slices.Index(l.names, column)
		if !l.headed {
			i = -1
		}
		for _, same := range []func(string) bool{
			func(n string) bool { return strings.EqualFold(strings.TrimSpace(n), strings.TrimSpace(column)) },
			func(n string) bool { return plain(n) == plain(column) && plain(n) != "" },
		} {
			if i < 0 && l.headed {
				i = slices.IndexFunc(l.names, same)
			}
		}
		if n, err := strconv.Atoi(column); i < 0 && err == nil && n >= 1 && n <= len(l.names) {
			i = n - 1
		}
		if i < 0 {
			return fmt.Errorf("no column %q, which --columns names for %s; %s", column, known[r].name, l.found())
		}
		l.at[r] = i
	}
	return nil
}

// found lists the columns that a file has.
func (l *layout) found() string {
	if !l.headed {
		return fmt.Sprintf("there is no header, the columns are 1 to %d", len(l.names))
	}
	return "the header has: " + strings.Join(l.names, ", ")
}

func (l *layout) has(all ...role) bool {
	return !slices.ContainsFunc(all, func(r role) bool { return l.at[r] < 0 })
}

func (l *layout) hasAny(some ...role) bool {
	return slices.ContainsFunc(some, func(r role) bool { return l.at[r] >= 0 })
}

// bars reports whether rows have prices of bars, as one or as two sides.
func (l *layout) bars() bool { return l.has(pricesOfBar...) || l.sided() }

// sided reports whether rows are bars of both sides, and only that.
func (l *layout) sided() bool {
	return !l.hasAny(pricesOfBar...) && l.has(pricesOfBid...) && l.has(pricesOfAsk...)
}

// quoted reports whether rows have a bid and an ask, with or without prices.
func (l *layout) quoted() bool { return l.has(roleBid, roleAsk) }

// missing returns the missing roles for bars or for quotes, whichever the columns resemble more.
func (l *layout) missing() []role {
	lack := func(all []role) (none []role) {
		for _, r := range all {
			if l.at[r] < 0 {
				none = append(none, r)
			}
		}
		return none
	}
	bars, quotes := lack(pricesOfBar), lack([]role{roleBid, roleAsk})
	lacks := bars
	switch {
	case l.sided():
		lacks = nil
	case len(bars) == len(pricesOfBar) || len(quotes) == 1:
		lacks = quotes
	}
	if l.at[roleTime] < 0 {
		lacks = append([]role{roleTime}, lacks...)
	}
	return lacks
}

// complete returns an error that names the missing columns.
func (l *layout) complete() error {
	lacks := l.missing()
	if len(lacks) == 0 {
		return nil
	}
	if !l.hasAny(slices.Concat(pricesOfBar, pricesOfBid, pricesOfAsk)...) {
		return errUnknownFormat
	}
	names, mapping := make([]string, len(lacks)), make([]string, len(lacks))
	for i, r := range lacks {
		names[i], mapping[i] = strconv.Quote(known[r].name), known[r].name+"=..."
		if r == roleTime {
			names[i] = `"timestamp"`
		}
	}
	return fmt.Errorf("no column %s; %s; if it has another name, give --columns %s", strings.Join(names, ", "), l.found(), strings.Join(mapping, ","))
}

// ignored returns the header's columns that are not read.
func (l *layout) ignored() []string {
	var names []string
	for i, name := range l.names {
		if l.headed && !slices.Contains(l.at[:], i) {
			names = append(names, name)
		}
	}
	return names
}

// name returns the name of a role's column, for messages.
func (l *layout) name(r role) string { return l.names[l.at[r]] }
