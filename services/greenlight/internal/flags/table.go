package flags

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// ReadSchema reads a schema from a file.
func ReadSchema(path string) (*feature.Schema, error) {
	raw, err := durable.ReadFile(path, feature.MaxDocument)
	if err != nil {
		return nil, err
	}
	s, err := feature.ParseSchema(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Schema returns the built-in schema with that name, or the schema in the file.
func Schema(named string) (*feature.Schema, error) {
	if s, ok := feature.Lookup(named); ok {
		return s, nil
	}
	s, err := ReadSchema(named)
	if err != nil {
		return nil, console.WithHint(fmt.Errorf("--schema: %w", err), "the built-in schemas are %s; or give a file: greenlight schema new writes one", strings.Join(feature.NewKnown().Names(), ", "))
	}
	return s, nil
}

// Table has the flags that name a table of a desk's own features.
type Table struct{ Path, Time, Group string }

// DeclareTable declares the flags.
func DeclareTable(fs *pflag.FlagSet) *Table {
	t := &Table{}
	fs.StringVar(&t.Path, "table", "", "CSV or Parquet file with rows of the model's own features, instead of market data")
	fs.StringVar(&t.Time, "time", "", "column of --table with the time of a row")
	fs.StringVar(&t.Group, "group", "", "column of --table with the symbol of a row, if it has several")
	return t
}

// Load reads the table and prints a description. o has the schema, the label and the horizon.
func (t *Table) Load(c console.Console, o experiment.TableOptions) (*experiment.Data, error) {
	o.Path, o.Time, o.Group = t.Path, t.Time, t.Group
	data, err := experiment.ReadTable(o)
	if err != nil {
		return nil, err
	}
	rows := data.Table
	span := ""
	if t.Time != "" {
		const form = "2006-01-02 15:04"
		span = fmt.Sprintf(", %s to %s", time.UnixMilli(rows.End(0)).UTC().Format(form), time.UnixMilli(rows.End(rows.Len()-1)).UTC().Format(form))
	}
	c.Say("data      %s: %s%s", data.Symbol, text.Count(rows.Len(), "row"), span)
	sayDropped(c, data.Dropped)
	return data, nil
}
