package faults

import "fmt"

// tables are of the loads, and of the clients.
func (o *Overload) tables() [][][]string {
	if o == nil {
		return nil
	}
	loads := [][]string{{"offered load", "offered/s", "goodput/s", "of peak", "late", "refused at once", "wrong", "failed", "shadows compared", "outcomes"}}
	for _, l := range o.Levels {
		loads = append(loads, []string{
			fmt.Sprintf("%.1fx saturation", l.Times), fmt.Sprintf("%.0f", l.OfferedPerS), fmt.Sprintf("%.0f", l.GoodPerS),
			fmt.Sprintf("%.0f %%", 100*l.GoodPerS/o.PeakPerS), fmt.Sprint(l.Late), fmt.Sprint(l.Refused), fmt.Sprint(l.Wrong), fmt.Sprint(l.Failed),
			fmt.Sprintf("%.0f %%", 100*l.Shadowed), Outcomes(l.Outcomes),
		})
	}
	clients := [][]string{{"a client that", "calls beside it", "lost", "changed", "p99 with/without", "rounds", "its streams", "refused"}}
	for _, b := range o.Clients {
		clients = append(clients, []string{
			b.Client, fmt.Sprint(b.Calls), fmt.Sprint(b.Lost), fmt.Sprint(b.Changed), fmt.Sprintf("%.2fx", b.Ratio.Median),
			fmt.Sprintf("%.2f..%.2f", b.Ratio.Min, b.Ratio.Max), fmt.Sprint(b.Streams), fmt.Sprint(b.Refused),
		})
	}
	return [][][]string{loads, clients}
}

// missed lists what is missed.
func (o *Overload) missed() []string {
	if o == nil {
		return nil
	}
	var missed []string
	for _, l := range o.Levels {
		if l.Wrong > 0 {
			missed = append(missed, fmt.Sprintf("%.1fx saturation: %d decisions changed", l.Times, l.Wrong))
		}
		// A cheap client finds more to have than the one by which saturation is measured: what was not asked for is not missed.
		if l.Times > 1 && l.GoodPerS < goodputKept*min(o.PeakPerS, l.OfferedPerS) {
			missed = append(missed, fmt.Sprintf("%.1fx saturation: goodput is %.0f %% of its peak", l.Times, 100*l.GoodPerS/o.PeakPerS))
		}
	}
	if o.RecoveryS < 0 || o.RecoveryS > overloadRecovery {
		missed = append(missed, "overload: over "+o.recovery())
	}
	for _, b := range o.Clients {
		if b.Lost+b.Changed > 0 {
			missed = append(missed, fmt.Sprintf("beside a client that %s: %d decisions lost, %d changed", b.Client, b.Lost, b.Changed))
		}
	}
	if o.Unaccounted != 0 {
		missed = append(missed, fmt.Sprintf("overload: %d requests unaccounted for", o.Unaccounted))
	}
	return missed
}

func (o *Overload) recovery() string {
	if o.RecoveryS < 0 {
		return "not within 5 s"
	}
	return fmt.Sprintf("within %.1f s", o.RecoveryS)
}
