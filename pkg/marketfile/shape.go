package marketfile

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/tabular"
)

// table is the start of a file, from which the meaning of its columns is guessed if their names are not known.
type table struct {
	*layout
	ahead int64
	rows  [][]string
}

// split splits a line; a line with a quotation mark out of place has no cells.
func split(line string, separator byte) []string {
	cells, err := tabular.Split(line, separator, nil)
	if err != nil {
		return nil
	}
	return cells
}

// recognised returns how many columns of a header are known, or 0 if they are too few to be a table.
func (l *layout) recognised() int {
	n, prices := 0, 0
	for r, i := range l.at {
		if i < 0 {
			continue
		}
		n++
		if r := role(r); r >= roleOpen && r <= roleAsk {
			prices++
		}
	}
	if n < 2 || prices == 0 {
		return 0
	}
	return n
}

// isValue reports whether a cell is a number or a time, so not a name.
func isValue(text string) bool { return isNumber(point(text, true)) || isTime(text) }

func isTime(text string) bool {
	_, _, err := clock{}.parse("", text)
	return err == nil
}

func isDay(text string) bool {
	t := strings.TrimSpace(text)
	_, rest, ok := clock{monthFirst: true}.parseDay(t)
	_, other, swapped := clock{}.parseDay(t)
	return ok && rest == "" || swapped && other == ""
}

func isOfDay(text string) bool {
	_, _, rest, ok := parseOfDay(strings.TrimSpace(text))
	return ok && rest == ""
}

// isRow reports whether cells could be a row: a time, or a day and a time of day, and two numbers.
func isRow(cells []string) bool {
	timed, numbers := false, 0
	for _, cell := range cells {
		switch {
		case isTime(cell) || isDay(cell) && slices.ContainsFunc(cells, isOfDay):
			timed = true
		case isNumber(point(cell, true)):
			numbers++
		}
	}
	return timed && numbers >= 2
}

// point returns a number with a decimal point. With comma set, text has a decimal comma. If text has both signs, the other
// one separates groups of digits and is removed.
func point(text string, comma bool) string {
	switch i := strings.IndexByte(text, ','); {
	case i < 0:
	case comma:
		return strings.Replace(strings.ReplaceAll(text, ".", ""), ",", ".", 1)
	case i < strings.LastIndexByte(text, '.'):
		return strings.ReplaceAll(text, ",", "")
	}
	return text
}

// decimals decides whether decimals follow a comma: most rows have a number with one comma, and none has a point.
func (t *table) decimals() {
	found, grouped := 0, true
	for _, cells := range t.rows {
		has := false
		for _, cell := range cells {
			whole, fraction, ok := strings.Cut(strings.TrimSpace(cell), ",")
			if !isNumber(point(cell, true)) || isTime(cell) {
				continue
			}
			if !ok && strings.Contains(cell, ".") {
				return
			}
			if has = has || ok; ok && (len(fraction) != 3 || len(whole) > 3) {
				grouped = false
			}
		}
		if has {
			found++
		}
	}
	// "46,319" between commas groups its thousands.
	t.comma = found > 0 && 2*found >= len(t.rows) && !(grouped && t.separator == ',')
}

func (t *table) clock() clock { return clock{ahead: t.ahead, monthFirst: t.monthFirst} }

func (l *layout) timeText(cells []string) string {
	if l.at[roleDay] >= 0 {
		return strings.TrimSpace(cells[l.at[roleDay]]) + " " + strings.TrimSpace(cells[l.at[roleTime]])
	}
	return cells[l.at[roleTime]]
}

// mostly reports whether at least nine in ten rows have such a cell in a column.
func (t *table) mostly(column int, is func(string) bool) bool {
	n := 0
	for _, cells := range t.rows {
		if is(cells[column]) {
			n++
		}
	}
	return len(t.rows) > 0 && 10*n >= 9*len(t.rows)
}

// findTime finds the column of the time: the named one if it has times, otherwise another that has, or a day and a time of
// day. given reports whether the user named it; then only the day must be found.
func (t *table) findTime(given bool) {
	if len(t.rows) == 0 {
		return
	}
	named := t.at[roleTime]
	if named >= 0 && (t.mostly(named, isTime) || t.mixed(named)) {
		return
	}
	if named < 0 || !given {
		if i := t.column(func(i int) bool { return t.mostly(i, isTime) && t.onMinutes(i) }); i >= 0 {
			t.setTime(i, -1)
			return
		}
		if i := t.column(func(i int) bool { return t.mostly(i, isTime) && t.moves(i) }); i >= 0 {
			t.setTime(i, -1)
			return
		}
	}
	clockTime := func(i int) bool { return t.mostly(i, isOfDay) && !t.mostly(i, isDay) }
	day := func(i int) bool { return t.mostly(i, isDay) }
	switch {
	case named >= 0 && clockTime(named):
		if i := t.column(day); i >= 0 {
			t.at[roleDay] = i
		}
	case named < 0 || day(named):
		d := named
		if d < 0 {
			d = t.column(day)
		}
		if at := t.column(func(i int) bool { return i != d && clockTime(i) }); d >= 0 && at >= 0 {
			t.setTime(at, d)
		}
	}
}

// mixed reports whether a column has both times and other texts: bad rows, which are to be named.
func (t *table) mixed(column int) bool {
	return slices.ContainsFunc(t.rows, func(cells []string) bool { return isTime(cells[column]) })
}

func (t *table) setTime(at, day int) {
	if t.at[roleTime] != at {
		t.guessed = append(t.guessed, roleTime)
	}
	if t.at[roleTime], t.at[roleDay] = at, day; day >= 0 {
		t.guessed = append(t.guessed, roleDay)
	}
}

// column returns the first suitable column without a role, or with only the role of the time; -1 if there is none.
func (t *table) column(suited func(i int) bool) int {
	for i := range t.names {
		if k := slices.Index(t.at[:], i); k <= int(roleDay) && suited(i) {
			return i
		}
	}
	return -1
}

// onMinutes reports whether a column of times moves in whole minutes.
func (t *table) onMinutes(column int) bool {
	return t.moves(column) && t.mostly(column, func(text string) bool {
		_, err := clock{}.parseMinute("", text)
		_, swapped := clock{monthFirst: true}.parseMinute("", text)
		return err == nil || swapped == nil
	})
}

// moves reports whether times in a column go one way, and are not all the same.
func (t *table) moves(column int) bool {
	up, down := 0, 0
	last := int64(0)
	for i, cells := range t.rows {
		at, _, err := clock{}.parse("", cells[column])
		if err != nil {
			continue
		}
		if i > 0 && at > last {
			up++
		}
		if i > 0 && at < last {
			down++
		}
		last = at
	}
	return len(t.rows) == 1 || min(up, down)*10 <= max(up, down) && max(up, down) > 0
}

// times returns the times of the sample.
func (t *table) times() []int64 {
	var times []int64
	c := t.clock()
	for _, cells := range t.rows {
		if at, _, err := c.parse("", t.timeText(cells)); err == nil {
			times = append(times, at)
		}
	}
	return times
}

// descends reports whether more steps go back than forward.
func descends(times []int64) bool {
	steps := 0
	for i := 1; i < len(times); i++ {
		switch {
		case times[i] < times[i-1]:
			steps++
		case times[i] > times[i-1]:
			steps--
		}
	}
	return steps > 0
}

const (
	// maxPriceColumns limits the columns whose arrangements are tried.
	maxPriceColumns = 16
	// nearRatio is how far prices of one row may be apart.
	nearRatio = 1.5
)

// findPrices finds the columns of prices that names did not give, and of the volume.
func (t *table) findPrices() {
	if len(t.rows) == 0 || t.at[roleTime] < 0 {
		return
	}
	p := t.prices()
	switch half := len(p.columns) / 2; {
	case len(p.columns) == 8 && !t.hasAny(slices.Concat(pricesOfBar, pricesOfBid, pricesOfAsk)...):
		bid, ask := p.arrange(p.columns[:half], [4]int{-1, -1, -1, -1}), p.arrange(p.columns[half:], [4]int{-1, -1, -1, -1})
		if bid == nil || ask == nil {
			break
		}
		if p.excess(bid[3], ask[3]) > p.excess(ask[3], bid[3]) {
			bid, ask = ask, bid
		}
		t.guess(pricesOfBid, bid)
		t.guess(pricesOfAsk, ask)
	case len(p.columns) >= 4 && !t.hasAny(roleBid, roleAsk):
		var fixed [4]int
		for i, r := range pricesOfBar {
			fixed[i] = t.at[r]
		}
		t.guess(pricesOfBar, p.arrange(p.columns, fixed))
	}
	if !t.bars() && !t.hasAny(pricesOfBar...) && (len(p.columns) == 2 || len(p.columns) == 3) && !t.hasAny(roleBid, roleAsk) {
		low, high := p.columns[0], p.columns[0]
		for _, i := range p.columns[1:] {
			if p.excess(low, i) > p.excess(i, low) {
				low = i
			}
			if p.excess(i, high) >= p.excess(high, i) {
				high = i
			}
		}
		if low != high {
			t.guess([]role{roleBid, roleAsk}, []int{low, high})
		}
	}
	t.findSizes(p)
}

// guess gives columns their roles.
func (t *table) guess(to []role, columns []int) {
	for i, c := range columns {
		if t.at[to[i]] < 0 {
			t.at[to[i]] = c
			t.guessed = append(t.guessed, to[i])
		}
	}
}

// findSizes takes the first column of numbers after the prices as the volume, or two next to quotes as their sizes.
func (t *table) findSizes(p *prices) {
	var free []int
	after := 0
	for _, r := range slices.Concat(pricesOfBar, pricesOfBid, pricesOfAsk) {
		after = max(after, t.at[r])
	}
	for i := range t.names {
		number := func(text string) bool {
			x, err := parseNumber("", point(text, t.comma))
			return err == nil && x >= 0
		}
		if !slices.Contains(t.at[:], i) && !slices.Contains(p.columns, i) && !t.mostly(i, isTime) && t.mostly(i, number) {
			free = append(free, i)
		}
	}
	switch {
	case !t.bars() && len(free) >= 2 && !t.hasAny(roleBidSize, roleAskSize):
		t.guess([]role{roleBidSize, roleAskSize}, free[:2])
	case t.has(pricesOfBar...) && t.at[roleVolume] < 0:
		if k := slices.IndexFunc(free, func(i int) bool { return i > after }); k >= 0 {
			t.guess([]role{roleVolume}, free[k:k+1])
		}
	}
}

// prices are the columns of a sample that behave like prices of one instrument: close to each other in nearly every row.
type prices struct {
	columns []int
	x       [][]float64 // by column, then by row
	// allowed is how many rows may break a rule, since rows may be bad.
	allowed int
}

// prices finds the largest set of columns that are close to each other.
func (t *table) prices() *prices {
	p := &prices{x: make([][]float64, len(t.names)), allowed: len(t.rows) / 20}
	var numeric []int
	for i := range t.names {
		k := slices.Index(t.at[:], i)
		if k >= 0 && (role(k) < roleOpen || role(k) > roleAsk) || len(numeric) == maxPriceColumns {
			continue
		}
		x, bad := make([]float64, len(t.rows)), 0
		for j, cells := range t.rows {
			var err error
			if x[j], err = parsePrice("", point(cells[i], t.comma)); err != nil {
				x[j] = math.NaN()
				bad++
			}
		}
		if bad <= p.allowed {
			p.x[i] = x
			numeric = append(numeric, i)
		}
	}
	descending := descends(t.times())
	for _, i := range numeric {
		if descending {
			slices.Reverse(p.x[i])
		}
	}
	for _, i := range numeric {
		var near []int
		for _, j := range numeric {
			if p.count(i, j, func(a, b float64) bool { return !(a/b < nearRatio && b/a < nearRatio) }) <= p.allowed {
				near = append(near, j)
			}
		}
		if len(near) > len(p.columns) {
			p.columns = near
		}
	}
	return p
}

func (p *prices) count(i, j int, broken func(a, b float64) bool) int {
	n := 0
	for k, a := range p.x[i] {
		if broken(a, p.x[j][k]) {
			n++
		}
	}
	return n
}

// excess returns in how many rows column i is above column j.
func (p *prices) excess(i, j int) int {
	return p.count(i, j, func(a, b float64) bool { return a > b })
}

// arrange returns the columns of open, high, low and close among some columns, or nil. Those that are fixed, not -1, stay.
// The high is above all others and the low below. Of the other columns, open and close are those where a bar opens
// nearest to the close of the bar before; the usual order wins unless another fits twice as well.
func (p *prices) arrange(among []int, fixed [4]int) []int {
	var best []int
	bestCost := math.Inf(1)
	options := func(k int) []int {
		if fixed[k] >= 0 {
			return fixed[k : k+1]
		}
		return among
	}
	for _, high := range options(1) {
		if p.x[high] == nil || slices.ContainsFunc(among, func(i int) bool { return p.excess(i, high) > p.allowed }) {
			continue
		}
		for _, low := range options(2) {
			if p.x[low] == nil || low == high || slices.ContainsFunc(among, func(i int) bool { return p.excess(low, i) > p.allowed }) {
				continue
			}
			for _, open := range options(0) {
				for _, last := range options(3) {
					four := []int{open, high, low, last}
					if p.x[open] == nil || p.x[last] == nil || open == last || slices.Contains(four[1:3], open) || slices.Contains(four[1:3], last) {
						continue
					}
					cost := p.jumps(open, last) * unusual(four)
					if cost < bestCost || cost == bestCost && slices.Compare(four, best) < 0 {
						best, bestCost = four, cost
					}
				}
			}
		}
	}
	return best
}

// jumps returns the sum of the distances between each bar's open and the close of the bar before, as logarithms, plus a
// little, so that orders differ in cost even if nothing moves.
func (p *prices) jumps(open, last int) float64 {
	sum := 1e-12
	for k := 1; k < len(p.x[open]); k++ {
		if d := math.Abs(math.Log(p.x[open][k] / p.x[last][k-1])); !math.IsNaN(d) {
			sum += d
		}
	}
	return sum
}

// unusual returns a factor on the cost of an arrangement: 1 for open, high, low, close.
func unusual(four []int) float64 {
	open, high, low, last := four[0], four[1], four[2], four[3]
	switch {
	case open < high && high < low && low < last:
		return 1
	case open < last && last < high && high < low, low < high && high < open && open < last: // Bitfinex; Coinbase
		return 2
	case open < last:
		return 3
	}
	return 4
}

// description lists the columns whose role was assigned by shape; empty if there are none. Without a header, columns are
// named by their roles from here on.
func (t *table) description() string {
	var parts []string
	for r, i := range t.at {
		switch {
		case i < 0:
		case t.headed && slices.Contains(t.guessed, role(r)):
			parts = append(parts, known[r].name+"="+t.names[i])
		case !t.headed:
			parts = append(parts, known[r].name+"="+strconv.Itoa(i+1))
			t.names[i] = known[r].name
		}
	}
	switch {
	case !t.headed:
		return "no header; columns by the shape of the numbers: " + strings.Join(parts, ",")
	case len(parts) > 0:
		return "columns by the shape of the numbers: " + strings.Join(parts, ",")
	}
	return ""
}
