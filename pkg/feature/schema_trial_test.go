package feature_test

import (
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
)

// A quant tries a schema before naming it: pick features from the catalogue, compute them over a file, and check that
// the live path agrees. To release it, add a line to the list in schema.go and a row with names and hash to
// TestSchemas. A feature that is not in the catalogue needs one entry in def.go. Nothing else changes.
func ExampleNewSchema() {
	trial, err := feature.NewSchema("v1.9-trial", "bias", "vol1m", "rsi14", "mid_logret_5m")
	if err != nil {
		panic(err)
	}
	var bars []market.Bar // marketfile.Read reads them from a file
	for i := range 60 {
		price := 100 + math.Sin(float64(i))
		bars = append(bars, market.Bar{
			Start: 1_700_006_400_000 + int64(i)*market.MinuteMS,
			Open:  price, High: price, Low: price, Close: price, Bid: price, Ask: price,
		})
	}

	offline, err := feature.Compute(bars)
	if err != nil {
		panic(err)
	}
	online := feature.NewLive(feature.LiveOptions{})
	a, b := make([]float64, trial.Len()), make([]float64, trial.Len())
	ready, equal := 0, 0
	for i, bar := range bars {
		online.Observe(market.Quote{Time: bar.Start, Bid: bar.Bid, Ask: bar.Ask}) // completes the minute before
		if _, ok := online.Vector(trial, a); ok && offline.Row(i-1, trial, b) {
			ready++
			if fmt.Sprint(a) == fmt.Sprint(b) {
				equal++
			}
		}
		if i == 20 {
			fmt.Println(online.Readiness(trial))
		}
	}
	fmt.Println(ready, "vectors ready, the same both ways:", equal)
	// Output:
	// not ready: vol1m needs 30 returns, has 19
	// 29 vectors ready, the same both ways: 29
}
