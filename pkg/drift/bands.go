package drift

// Edges of the PSI bands. This file is their only definition. Alerts, dashboard, runbooks and documents repeat them, and a
// test compares each with this file. [StatusOf] does not consider noise; verdicts do: see [Judge].
const (
	// ModerateFrom is the lowest moderate index: "some change" in textbooks.
	ModerateFrom = 0.1
	// WarningAbove is the highest moderate index; above it is the "large change" of textbooks. It is also the overall
	// index's limit for a promotion, but [gate.Promotion] owns that number.
	WarningAbove = 0.2
	// CriticalAbove is the highest index of the warning band. A retraining is suggested while the index stays above it.
	CriticalAbove = 0.3
)

// Status names the band of an index.
type Status string

// The bands.
const (
	// Stable is below [ModerateFrom].
	Stable Status = "stable"
	// Moderate is from [ModerateFrom] to [WarningAbove].
	Moderate Status = "moderate"
	// Warning is above [WarningAbove], up to [CriticalAbove].
	Warning Status = "warning"
	// Critical is above [CriticalAbove], or not a number.
	Critical Status = "critical"
)

// StatusOf returns the band of an index.
func StatusOf(psi float64) Status {
	switch {
	case psi < ModerateFrom:
		return Stable
	case psi <= WarningAbove:
		return Moderate
	case psi <= CriticalAbove:
		return Warning
	default:
		return Critical
	}
}

// StatusOfV1 returns the status of an index in evidence of psi_snapshot/v1 and psi_compare/v1, which had no moderate band:
// warning was from 0.1 to 0.2, and critical above 0.2. These numbers never change.
func StatusOfV1(psi float64) Status {
	switch {
	case psi < 0.1:
		return Stable
	case psi <= 0.2:
		return Warning
	default:
		return Critical
	}
}
