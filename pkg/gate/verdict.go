package gate

// Verdict is the answer of a gate. The zero value and every unknown word count as [Error].
type Verdict string

// The four verdicts.
const (
	// Pass means measured on enough samples, with the target met. Only Pass advances.
	Pass Verdict = "PASS"
	// Inconclusive means measured, but on too few samples.
	Inconclusive Verdict = "INCONCLUSIVE"
	// Error means not measured: a source is missing, or did not report a number.
	Error Verdict = "ERROR"
	// Fail means measured on enough samples, with the target missed.
	Fail Verdict = "FAIL"
)

// Worst combines verdicts into one: the first of FAIL, ERROR, INCONCLUSIVE and PASS that occurs.
//
// FAIL is first because it is certain: whatever a missing source would have reported, a target is missed, and the safe
// action (stop, roll back) must not wait until monitoring is repaired. ERROR comes before INCONCLUSIVE because waiting
// fixes too few samples but not a missing source. PASS needs every verdict to be PASS. Without verdicts the answer is
// ERROR: nothing was asked, which is a mistake in how the gate is used.
func Worst(verdicts ...Verdict) Verdict {
	if len(verdicts) == 0 {
		return Error
	}
	worst := Pass
	for _, v := range verdicts {
		if v.rank() > worst.rank() {
			worst = v
		}
	}
	return worst.known()
}

// OK reports whether v advances: only [Pass] does.
func (v Verdict) OK() bool { return v == Pass }

// known maps every unknown word to Error.
func (v Verdict) known() Verdict {
	switch v {
	case Pass, Inconclusive, Error, Fail:
		return v
	default:
		return Error
	}
}

func (v Verdict) rank() int {
	switch v.known() {
	case Pass:
		return 0
	case Inconclusive:
		return 1
	case Fail:
		return 3
	default:
		return 2
	}
}
