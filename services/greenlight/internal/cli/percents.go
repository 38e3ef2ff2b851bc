package cli

import (
	"errors"
	"strconv"
	"strings"
)

// percents is a flag with several numbers, in percent: "5,10,25".
type percents struct{ all *[]float64 }

var errPercents = errors.New("want percentages that rise, such as 5,10,25,50,100")

// Set implements pflag.Value.
func (p percents) Set(s string) error {
	var all []float64
	for text := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			return errPercents
		}
		all = append(all, v)
	}
	*p.all = all
	return nil
}

// String implements pflag.Value.
func (p percents) String() string {
	texts := make([]string, len(*p.all))
	for i, v := range *p.all {
		texts[i] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (percents) Type() string { return "percents" }
