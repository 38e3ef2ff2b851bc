package flags

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Data has the flags that name the market data to use.
type Data struct {
	// Path is a file or folder; empty for the simulated market.
	Path   string
	Symbol string
	// MaxBadRows is how many broken rows may be skipped.
	MaxBadRows int
	UTCOffset  time.Duration
	TradesOnly bool
	// Columns names columns of the files: see marketfile.Options.
	Columns    map[string]string
	Simulation market.SimulateOptions

	// Table is a table of a desk's own features, instead of market data; nil for commands that do not take one.
	Table *Table

	// OffsetSet reports whether UTCOffset was given.
	OffsetSet func() bool
}

// DefaultSeed is the default of --seed, the seed of the simulated market.
const DefaultSeed = 7

// Declare declares the flags.
func (d *Data) Declare(fs *pflag.FlagSet) { d.DeclareAs(fs, "data") }

// DeclareAs declares the flags. name is the flag for the file or folder.
func (d *Data) DeclareAs(fs *pflag.FlagSet, name string) {
	fs.StringVar(&d.Path, name, "", "file or folder of bars or quotes; by default a simulated market")
	fs.StringVar(&d.Symbol, "symbol", "", "instrument, if the folder has several")
	fs.IntVar(&d.MaxBadRows, "max-bad-rows", 0, "number of broken rows that may be skipped before it is an error")
	console.Require(fs, "max-bad-rows", "0 or more", func() bool { return d.MaxBadRows >= 0 })
	fs.DurationVar(&d.UTCOffset, "utc-offset", 0, "offset of the files' clock from UTC, for example -5h")
	fs.BoolVar(&d.TradesOnly, "trades-only", false, "read the trades of a folder that also has quotes")
	fs.StringToStringVar(&d.Columns, "columns", nil, "names or numbers of columns that are not recognised, for example time=Date,close=Last")
	console.Require(fs, "columns", "time, date, open, high, low, close, bid, ask, volume, symbol and others, each with a column", func() bool { return marketfile.CheckColumns(d.Columns) == nil })
	d.OffsetSet = func() bool { return fs.Changed("utc-offset") }
	d.DeclareSimulation(fs)
}

// DeclareSimulation declares the flags of the simulated market.
func (d *Data) DeclareSimulation(fs *pflag.FlagSet) {
	fs.Uint64Var(&d.Simulation.Seed, "seed", DefaultSeed, "seed of the simulated market")
	fs.IntVar(&d.Simulation.Days, "days", 42, "length of the simulated market in days")
	console.Require(fs, "days", "1 to 3660", func() bool { return d.Simulation.Days >= 1 && d.Simulation.Days <= 3660 })
}

// ignoredLine names the columns that were not read; empty if all were.
func ignoredLine(columns []string) string {
	const most = 20
	if len(columns) == 0 {
		return ""
	}
	names := make([]string, 0, most)
	for _, name := range columns[:min(len(columns), most)] {
		names = append(names, text.Clean(name, 40))
	}
	line := "columns that are not used: " + strings.Join(names, ", ")
	if left := len(columns) - most; left > 0 {
		line += fmt.Sprintf(" and %d more", left)
	}
	return line + "; features and labels are computed from the prices"
}

// Load reads or simulates the data, and prints a description.
func (d *Data) Load(c console.Console) (*experiment.Data, error) {
	var data *experiment.Data
	var err error
	if d.Path == "" {
		if data, err = experiment.Simulate(d.Simulation); err != nil {
			return nil, err
		}
	} else {
		opts := marketfile.Options{Symbol: d.Symbol, MaxBadRows: d.MaxBadRows, TradesOnly: d.TradesOnly, Columns: d.Columns}
		if d.OffsetSet() {
			opts.UTCOffset = &d.UTCOffset
		}
		bar := c.Progress("reading")
		opts.Progress = func(done, total int64) { bar(int(done>>10), int(total>>10)) }
		if data, err = experiment.Read(d.Path, opts); err != nil {
			return nil, err
		}
	}
	first, last := time.UnixMilli(data.Raw[0].End()).UTC(), time.UnixMilli(data.Raw[len(data.Raw)-1].End()).UTC()
	origin := text.Count(len(data.Files), "file")
	if data.Simulated {
		origin = fmt.Sprintf("SIMULATED, seed %d: these numbers are not from any market", d.Simulation.Seed)
		if d.Path != "" {
			origin = "SIMULATED: these numbers are not from any market"
		}
	}
	c.Say("data      %s: %d one-minute bars, %s to %s (%s)", data.Symbol, len(data.Raw),
		first.Format("2006-01-02 15:04"), last.Format("2006-01-02 15:04"), origin)
	sayDropped(c, data.Dropped)
	for _, taken := range data.Taken {
		c.Say("          taken: %s", text.Clean(taken, 400))
	}
	if line := ignoredLine(data.Ignored); line != "" {
		c.Say("          %s", line)
	}
	if err := c.Indented(experiment.NewDataQuality(data.Quality).Lines); err != nil {
		return nil, err
	}
	if len(data.Bars) == 0 {
		return nil, console.WithHint(fmt.Errorf("%s: all bars are frozen: they do not come from a market", data.Name), "check the feed")
	}
	if data.Crossed > 0 {
		c.Say("          kept %s with bid above ask, which occur in this data set", text.Count(data.Crossed, "minute"))
	}
	saveMemory()
	return data, nil
}

// saveMemory makes the garbage collector run when the heap has grown by a quarter, not when it has doubled. Most of the heap
// is a few long arrays of numbers, which cost the collector almost nothing. A GOGC that the user has set stays in force.
func saveMemory() {
	const byDefault, percent = 100, 25
	if before := debug.SetGCPercent(percent); before != byDefault {
		debug.SetGCPercent(before)
	}
}

// SayUntimely prints how many rows of a feature log have impossible times.
func SayUntimely(c console.Console, rows int) {
	if rows > 0 {
		c.Say("          %d rows are left out because of their times: before 1973, after 2199, or more than a day ahead of their arrival or of the clock", rows)
	}
}

// ReadSet reads market data, or the feature log in a folder.
func ReadSet(c console.Console, d *Data, schema *feature.Schema, scorer model.Scorer) (*driftcompare.Set, error) {
	if log := (featurelog.Log{Dir: d.Path}); log.Exists() {
		return readLog(c, log, d.Symbol, schema, scorer)
	}
	data, err := d.Load(c)
	if err != nil {
		return nil, err
	}
	return driftcompare.FromMarket(data, schema, scorer)
}

func readLog(c console.Console, log featurelog.Log, symbol string, schema *feature.Schema, scorer model.Scorer) (*driftcompare.Set, error) {
	s, err := driftcompare.FromLog(log, symbol, schema, scorer)
	if errors.Is(err, driftcompare.ErrSchema) {
		return nil, console.WithHint(err, "--schema names the schema to compare by; both sets must have its features")
	}
	if err != nil {
		return nil, err
	}
	c.Say("data      %s: %d rows of a feature log, of %v; %d left out; source %s", log, s.Rows(), s.Symbols, s.Left, s.Sources)
	SayUntimely(c, s.Untimely)
	return s, nil
}

// sayDropped prints how many rows were left out for each reason.
func sayDropped(c console.Console, dropped map[string]int) {
	for _, reason := range slices.Sorted(maps.Keys(dropped)) {
		c.Say("          %s left out: %s", text.Count(dropped[reason], "row"), reason)
	}
}
