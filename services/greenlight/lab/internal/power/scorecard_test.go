package power

import (
	"bytes"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestScorecard(t *testing.T) {
	alarms := Truth{Mismatch, 0.05, FewAlarms, 0.01}
	testAlarms := Truth{Failure, 0.02, FewTestAlarms, 0.01}
	soon := Truth{Mismatch, 0.1, SoonAborted, 250}
	tests := []struct {
		name string
		row  Row
		want gate.Verdict
	}{
		{"few alarms", Row{Truth: alarms, Runs: 1000, Aborted: 10}, gate.Pass},
		{"many alarms", Row{Truth: alarms, Runs: 1000, Aborted: 11}, gate.Fail},
		{"too few runs", Row{Truth: alarms, Runs: 10}, gate.Inconclusive},
		{"alarms of a threshold are not those of a test", Row{Truth: testAlarms, Runs: 1000, Aborted: 900, ByThreshold: 900, ByTest: 3}, gate.Pass},
		{"alarms of a test", Row{Truth: testAlarms, Runs: 1000, Aborted: 900, ByTest: 30}, gate.Fail},
		{"soon", Row{Truth: soon, Runs: 1000, Aborted: 1000, Median: 249}, gate.Pass},
		{"late", Row{Truth: soon, Runs: 1000, Aborted: 1000, Median: 250}, gate.Fail},
		{"not half of them", Row{Truth: soon, Runs: 1000, Aborted: 400}, gate.Error},
		{"nothing asked", Row{Truth: Truth{Failure, 0.01, Shown, 0}, Runs: 1000}, gate.Error},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Scorecard([]Row{tt.row}); got.Verdict() != tt.want {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// Every truth with a requirement has its own line in the scorecard.
func TestEveryTargetIsJudged(t *testing.T) {
	var rows []Row
	want := 0
	for _, truth := range Truths() {
		if rows = append(rows, Row{Truth: truth}); truth.Target != Shown {
			want++
		}
	}
	if got := len(Scorecard(rows).Results); got != want || want == 0 {
		t.Errorf("got %d results, want %d", got, want)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	err := Table(&out, []Row{
		{Truth: Truth{Kind: Mismatch, Rate: 0.05}, Runs: 2000, Aborted: 13, ByTest: 13, Naive: 707},
		{Truth: Truth{Kind: Failure, Rate: 0.07}, Runs: 2000, Aborted: 2000, ByTest: 1999, ByThreshold: 1500, Naive: 2000, Median: 301},
	})
	const want = `the truth           aborted   median shadows  by a test  by a threshold  by the naive rule
match rate of 95 %  0.65 %    -               0.65 %     0.00 %          35.35 %
error rate of 7 %   100.00 %  301             99.95 %    75.00 %         100.00 %
`
	if err != nil || out.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), want)
	}
}
