package feature

import "math"

// Def describes a feature. Its name and unit are part of a model's contract: see [Schema.Hash].
type Def struct {
	// Name is the key in requests, model files and reports.
	Name string `json:"name"`
	// Unit is the unit of the value, "1" for a pure number.
	Unit string `json:"unit"`
	// Description is the definition in words.
	Description string `json:"description" yaml:"description,omitempty"`
	// Domain is the lowest and the highest possible value; nil means every finite number. Values outside it are scored,
	// but count as out of domain in the drift.
	Domain *[2]float64 `json:"domain,omitempty" yaml:"domain,omitempty,flow"`
}

// definition is a feature with the code that computes it from a builder. The code runs on demand, after any minute, and
// returns NaN where the feature is undefined.
type definition struct {
	Def
	value func(b *Builder) float64
	// needs are the inputs of the value. The value is undefined exactly while one of them is missing.
	needs []*input
}

// definitions lists every feature, in the column order of a [Frame]. To add one, add an entry here. State about the
// past belongs in Builder.
var definitions = []definition{
	{
		Def{Name: "bias", Unit: "1", Description: "the constant 1"},
		func(*Builder) float64 { return 1 },
		nil,
	},
	{
		Def{Name: "mid", Unit: "price", Description: "(bid + ask)/2 at the end of the minute; the last trade where there are no quotes"},
		func(b *Builder) float64 { return b.mid },
		[]*input{inMid},
	},
	{
		Def{Name: "spread_bp", Unit: "bp", Description: "10^4 (ask - bid)/mid; without quotes the mean of the Corwin-Schultz estimates of the last 60 bar pairs (at least 30)"},
		func(b *Builder) float64 { return b.spread },
		[]*input{inSpread},
	},
	{
		Def{Name: "vol1m", Unit: "bp/sqrt(min)", Description: "root of the mean squared one-minute log return over the last 60 minutes (at least 30 returns)"},
		func(b *Builder) float64 { return b.vol() },
		[]*input{inVol},
	},
	{
		Def{Name: "rsi14", Unit: "1", Description: "Wilder's relative strength index over 14 minutes, 0 to 100"},
		func(b *Builder) float64 { return b.rsi.value() },
		[]*input{inRSI},
	},
	{
		Def{Name: "mid_logret_1m", Unit: "bp", Description: "r1 = 10^4 ln(mid / mid a minute before)"},
		func(b *Builder) float64 { return b.r1 },
		[]*input{inReturn},
	},
	{
		Def{Name: "mid_logret_5m", Unit: "bp", Description: "sum of the last five r1"},
		func(b *Builder) float64 { return b.r5() },
		[]*input{inReturns},
	},
	{
		Def{Name: "mid_logret_1m_rel", Unit: "1", Description: "mid_logret_1m / sigma_ref"},
		func(b *Builder) float64 { return b.r1 / b.days.sigmaRef },
		[]*input{inReturn, inSigmaRef},
	},
	{
		Def{Name: "mid_logret_5m_rel", Unit: "1", Description: "mid_logret_5m / (sigma_ref sqrt 5)"},
		func(b *Builder) float64 { return b.r5() / (b.days.sigmaRef * math.Sqrt(5)) },
		[]*input{inReturns, inSigmaRef},
	},
	{
		Def{Name: "spread_bp_rel", Unit: "1", Description: "ln(max(spread_bp, 0.01) / spread_ref)"},
		func(b *Builder) float64 { return math.Log(max(b.spread, spreadFloor) / b.days.spreadRef) },
		[]*input{inSpread, inSpreadRef},
	},
	{
		Def{Name: "vol1m_log_rel", Unit: "1", Description: "ln(max(vol1m, 0.05) / sigma_ref)"},
		func(b *Builder) float64 { return math.Log(max(b.vol(), sigmaFloor) / b.days.sigmaRef) },
		[]*input{inVol, inSigmaRef},
	},
	{
		Def{Name: "rsi14_z", Unit: "1", Description: "rsi14 less its mean, over its population sd, of the last 1440 minutes (at least 720)"},
		func(b *Builder) float64 { return b.rsiWindow.z(b.rsi.value()) },
		[]*input{inRSIWindow},
	},
	{
		Def{Name: "zscore_mid_24h", Unit: "1", Description: "mid less its mean, over its population sd, of the last 1440 minutes (at least 720); undefined when mid did not move"},
		func(b *Builder) float64 { return b.midWindow.z(b.mid) },
		[]*input{inMidWindow},
	},
	{
		Def{Name: "sigma_ref", Unit: "bp/sqrt(min)", Description: "median over the last at most 7 completed UTC days with at least 300 returns of the day's root mean squared r1; at least 0.05"},
		func(b *Builder) float64 { return b.days.sigmaRef },
		[]*input{inSigmaRef},
	},
	{
		Def{Name: "spread_ref", Unit: "bp", Description: "median over the same days as sigma_ref of the day's mean spread_bp; at least 0.01"},
		func(b *Builder) float64 { return b.days.spreadRef },
		[]*input{inSpreadRef},
	},
}

// byName maps each feature to its position in definitions.
var byName = func() map[string]int {
	m := make(map[string]int, len(definitions))
	for i, d := range definitions {
		if _, twice := m[d.Name]; twice {
			panic("feature: " + d.Name + " is defined twice")
		}
		m[d.Name] = i
	}
	return m
}()

// Catalogue returns all features.
func Catalogue() []Def {
	defs := make([]Def, len(definitions))
	for i, d := range definitions {
		defs[i] = d.Def
	}
	return defs
}

// Find returns the feature with that name.
func Find(name string) (Def, bool) {
	i, ok := byName[name]
	if !ok {
		return Def{}, false
	}
	return definitions[i].Def, true
}
