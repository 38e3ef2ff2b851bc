package scenarios

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func TestTable(t *testing.T) {
	t.Parallel()
	all := []Result{
		{Name: "healthy", Expect: "passes", Seen: "PASSED", Verdict: gate.Pass, Took: 1500 * time.Millisecond, Answers: traffic.Answers{Total: 10, Away: 1}},
		{Name: "prometheus", Expect: "holds", Seen: "not played | at all", Verdict: gate.Error},
	}
	var out bytes.Buffer
	if err := Table(&out, all); err != nil {
		t.Fatal(err)
	}
	const want = `scenario    verdict  time   answers  changed  expected  seen
healthy     PASS     1.5 s  9        0        passes    PASSED
prometheus  ERROR    0.0 s  0        0        holds     not played | at all
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := string(Markdown(all)); !strings.Contains(got, `| not played \| at all |`) {
		t.Errorf("got\n%s", got)
	}
	// A scenario that could not be run does not pass.
	if v := Scorecard(all).Verdict(); v != gate.Error {
		t.Errorf("got %s", v)
	}
}

func TestUnharmed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answers traffic.Answers
		away    bool
		want    string
	}{
		"all the baseline's": {answers: traffic.Answers{Total: 5}},
		"one changed":        {answers: traffic.Answers{Total: 5, Changed: 1}, want: "1 answers of 5 are not the baseline's"},
		"one failed":         {answers: traffic.Answers{Total: 5, Failed: 1}, away: true, want: "1 answers of 5 are missing"},
		"one lost":           {answers: traffic.Answers{Total: 5, Away: 1}, want: "are missing"},
		"away for a while":   {answers: traffic.Answers{Total: 5, Away: 1}, away: true},
		"away throughout":    {answers: traffic.Answers{Total: 5, Away: 5}, away: true, want: "there was no answer at all"},
	} {
		err := Scenario{away: test.away}.unaffected(&stage{answers: test.answers, quiet: func() {}})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if len(All()) < 11 {
		t.Errorf("%d scenarios", len(All()))
	}
}
