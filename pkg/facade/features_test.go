package facade_test

import (
	"maps"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/facade"
)

func TestCanonicalNames(t *testing.T) {
	type features = map[string]float64
	for name, tt := range map[string]struct{ in, want features }{
		"nothing":              {nil, nil},
		"names as they are":    {features{"mid": 1, "spread_bp": 2, "vol1m": 3}, features{"mid": 1, "spread_bp": 2, "vol1m": 3}},
		"camelCase":            {features{"spreadBp": 2, "midLogret1m": 3, "zscoreMid24h": 4}, features{"spread_bp": 2, "mid_logret_1m": 3, "zscore_mid_24h": 4}},
		"relative forms":       {features{"vol1mLogRel": 1, "rsi14Z": 2}, features{"vol1m_log_rel": 1, "rsi14_z": 2}},
		"mixed":                {features{"mid": 1, "spreadBp": 2}, features{"mid": 1, "spread_bp": 2}},
		"both spellings stay":  {features{"spreadBp": 2, "spread_bp": 3}, features{"spreadBp": 2, "spread_bp": 3}},
		"unknown ones stay":    {features{"spreadBP": 2, "SpreadBp": 3, "": 4}, features{"spreadBP": 2, "SpreadBp": 3, "": 4}},
		"of all six in camels": {features{"bias": 1, "mid": 2, "spreadBp": 3, "vol1m": 4, "rsi14": 5, "midLogret1m": 6}, features{"bias": 1, "mid": 2, "spread_bp": 3, "vol1m": 4, "rsi14": 5, "mid_logret_1m": 6}},
	} {
		facade.CanonicalNames(tt.in)
		if !maps.Equal(tt.in, tt.want) {
			t.Errorf("%s: got %v, want %v", name, tt.in, tt.want)
		}
	}
}
