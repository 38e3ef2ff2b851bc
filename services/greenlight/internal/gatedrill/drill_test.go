package gatedrill

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func killed() Exercise {
	return Exercise{Name: "kill", Expected: []string{"killed"}, Seen: map[string]uint64{"killed": after}, Latch: "killed", Latches: []string{"killed"}, HourLimit: 100}
}

// An exercise passes only if every later request was decided by the baseline for an expected reason, in time, with only the
// expected latch, and within the budget.
func TestJudge(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Exercise)
		want   gate.Verdict
	}{
		"as it should be":        {func(*Exercise) {}, gate.Pass},
		"by the model":           {func(x *Exercise) { x.After, x.Seen["model"], x.Seen["killed"] = 1, 1, after-1 }, gate.Fail},
		"by the model before it": {func(x *Exercise) { x.Seen["model"] = 7 }, gate.Pass},
		"for another reason":     {func(x *Exercise) { x.Seen["deadline"] = 1 }, gate.Fail},
		"no latch":               {func(x *Exercise) { x.Latches = nil }, gate.Fail},
		"another latch too":      {func(x *Exercise) { x.Latches = append(x.Latches, "drift_alarm") }, gate.Fail},
		"over the budget":        {func(x *Exercise) { x.HourChanged = 101 }, gate.Fail},
		"too few requests":       {func(x *Exercise) { x.Seen["killed"]-- }, gate.Inconclusive},
		"in time":                {func(x *Exercise) { x.LimitMS, x.OffMS = 1000, 1000 }, gate.Pass},
		"too late":               {func(x *Exercise) { x.LimitMS, x.OffMS = 1000, 1001 }, gate.Fail},
	} {
		x := killed()
		test.change(&x)
		r := Report{Exercises: []Exercise{x}, Requests: 1, Decisions: map[string]uint64{"killed": 1}}
		r.Judge()
		if got := (gate.Scorecard{Results: r.Checks}).Verdict(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		if found := r.Recheck(); len(found) > 0 {
			t.Errorf("%s: does not hold: %q", name, found)
		}
	}
	for name, change := range map[string]func(*Report){
		"answers of neither scorer": func(r *Report) { r.OtherScores = 1 },
		"decisions unaccounted":     func(r *Report) { r.Unaccounted = 1 },
		"a count":                   func(r *Report) { r.Decisions["killed"]++ },
		"a reason":                  func(r *Report) { r.Exercises[0].Seen["off"] = 1 },
		"a time":                    func(r *Report) { r.Exercises[0].LimitMS = 1 },
		"an exercise":               func(r *Report) { r.Exercises = append(r.Exercises, killed()) },
	} {
		r := Report{Exercises: []Exercise{killed()}, Requests: 1, Decisions: map[string]uint64{"killed": 1}}
		r.Judge()
		change(&r)
		if len(r.Recheck()) == 0 {
			t.Errorf("%s was changed, and nothing is found", name)
		}
	}
}

// A score moved by the drill stays in [0,1], at the right distance up to rounding.
func TestAway(t *testing.T) {
	t.Parallel()
	for i := range 101 {
		for _, by := range []float64{distance, change, 1.5 * disagreementCap} {
			score := float64(i) / 100
			got := away(score, by)
			if d := max(got-score, score-got); !(got >= 0 && got <= 1) || d < by-1e-9 || d > by+1e-9 {
				t.Errorf("%v from %v is %v", by, score, got)
			}
		}
	}
	// The model is beyond the cap from a baseline that was moved for a disagreement, and within it otherwise.
	if 1.5*disagreementCap-distance <= disagreementCap || change >= disagreementCap {
		t.Error("the distances do not fit the cap")
	}
}
