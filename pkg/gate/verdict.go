package gate

// Verdict is the answer of a gate. The zero value and every word that is not one of the four count as [Error].
type Verdict string

// The four verdicts.
const (
	// Pass means measured on enough samples, and the target is met. The only verdict that advances anything.
	Pass Verdict = "PASS"
	// Inconclusive means measured, but on too few samples to say.
	Inconclusive Verdict = "INCONCLUSIVE"
	// Error means not measured: a source is missing, or what it said is not a number.
	Error Verdict = "ERROR"
	// Fail means measured on enough samples, and the target is missed.
	Fail Verdict = "FAIL"
)

// Worst combines verdicts into one. The order is FAIL, ERROR, INCONCLUSIVE, PASS: the first of them that occurs is the
// answer.
//
// FAIL is first because it is knowledge: whatever the missing source would have said, a target is missed, and the safe
// action (stop, roll back) must not wait for a repair of monitoring. ERROR comes before INCONCLUSIVE because waiting
// mends too few samples and does not mend a missing source. PASS needs every single verdict to be PASS. Of nothing at
// all the answer is ERROR: nothing was asked, which is a fault of whoever wired the gate.
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

// known maps every word that is not a verdict to Error.
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
