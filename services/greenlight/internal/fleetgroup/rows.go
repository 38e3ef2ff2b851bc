package fleetgroup

import (
	"fmt"
	"io"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Listing is a group at one time: a row for each executor that is present, and the totals.
type Listing struct {
	Group     string `json:"group"`
	Executors []Row  `json:"executors"`
	// Sampled is the number of executors that shadow requests, Troubled the number with trouble.
	Sampled  int `json:"sampled"`
	Troubled int `json:"troubled"`
	// Requests counts the requests since the start of each executor, Comparisons and Matches those in the rolling windows.
	Requests    uint64 `json:"requests"`
	Comparisons uint64 `json:"comparisons"`
	Matches     uint64 `json:"matches"`
	// Refused is the number of messages that were not reports of the group.
	Refused uint64 `json:"refused"`
}

// Row is one executor.
type Row struct {
	Executor string  `json:"executor"`
	Host     string  `json:"host"`
	Percent  float64 `json:"percent"`
	Mode     string  `json:"mode"`
	// Revision and Renewal identify the newest record that the executor has seen; 0 before the first.
	Revision uint64 `json:"revision"`
	Renewal  uint64 `json:"renewal"`
	// Admitted reports whether a session of the operator has admitted it.
	Admitted bool `json:"admitted"`
	// MatchRate is the match rate of Comparisons, in the rolling window; nil without comparisons.
	MatchRate   *float64 `json:"match_rate"`
	Comparisons uint64   `json:"comparisons"`
	Requests    uint64   `json:"requests"`
	// AgeMS is how old the report is, in milliseconds.
	AgeMS int64 `json:"age_ms"`
	// Trouble is why the executor is at 0 %, refuses records, or cannot be judged; empty if there is none.
	Trouble string `json:"trouble"`
}

// Listing returns the group as of now.
func (g *Group) Listing(now time.Time) *Listing {
	l := &Listing{Group: g.Group(), Executors: []Row{}, Refused: g.Refused()}
	for _, m := range g.Members(now) {
		r := rowOf(m, now)
		l.Executors = append(l.Executors, r)
		l.Requests += r.Requests
		l.Comparisons += r.Comparisons
		l.Matches += matches(m)
		if r.Percent > 0 {
			l.Sampled++
		}
		if r.Trouble != "" {
			l.Troubled++
		}
	}
	return l
}

func rowOf(m Member, now time.Time) Row {
	rollout, s := m.Report.GetRollout().GetRollout(), m.Report.GetShadow()
	r := Row{
		Executor: m.ID, Host: text.Clean(m.Report.GetHost(), maxHost), Percent: rollout.GetPercent(), Mode: fleet.Mode(rollout.GetMode()),
		Revision: m.Report.GetRevision(), Renewal: m.Report.GetRenewal(), Admitted: m.Report.GetSession() != "",
		Comparisons: s.GetWindow().GetComparisons(), Requests: s.GetRequestsTotal(), AgeMS: now.Sub(m.At).Milliseconds(), Trouble: m.Trouble(),
	}
	if r.Comparisons > 0 {
		v := float64(matches(m)) / float64(r.Comparisons)
		r.MatchRate = &v
	}
	return r
}

// matches returns the matches in the rolling window.
func matches(m Member) (n uint64) {
	for _, o := range m.Report.GetShadow().GetWindow().GetOutcomes() {
		if o.GetOutcome() == executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH {
			n += o.GetCount()
		}
	}
	return n
}

// Record returns the record of the row as text.
func (r Row) Record() string {
	if r.Revision == 0 {
		return "-"
	}
	return fmt.Sprintf("%d.%d", r.Revision, r.Renewal)
}

// Match returns the match rate as text.
func (r Row) Match() string { return rate(r.MatchRate) }

// Age returns the age of the report as text.
func (r Row) Age() string { return fmt.Sprintf("%.1f s", float64(r.AgeMS)/1000) }

func rate(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100**v)
}

// Summary returns the totals in one line.
func (l *Listing) Summary() string {
	var all *float64
	if l.Comparisons > 0 {
		v := float64(l.Matches) / float64(l.Comparisons)
		all = &v
	}
	line := fmt.Sprintf("group %s: %s, %d of them above 0 %%, %d with trouble; %s; match rate %s of %s in the window", l.Group,
		text.Count(len(l.Executors), "executor"), l.Sampled, l.Troubled, text.Count(l.Requests, "request"), rate(all), text.Count(l.Comparisons, "comparison"))
	if l.Refused > 0 {
		line += fmt.Sprintf("; %s refused", text.Count(l.Refused, "message"))
	}
	return line
}

// Table writes the totals and at most the given number of rows; 0 is all.
func (l *Listing) Table(w io.Writer, most int) error {
	if _, err := fmt.Fprintln(w, l.Summary()); err != nil {
		return err
	}
	rows := l.Executors
	if most > 0 && len(rows) > most {
		rows = rows[:most]
	}
	t := table.New("executor", "host", ">percent", "record", "admitted", ">match rate", ">age", "trouble")
	for _, r := range rows {
		admitted := "no"
		if r.Admitted {
			admitted = "yes"
		}
		t.Row(r.Executor, r.Host, fmt.Sprintf("%g %%", r.Percent), r.Record(), admitted, r.Match(), r.Age(), r.Trouble)
	}
	if len(rows) < len(l.Executors) {
		t.Below(fmt.Sprintf("and %d more\n", len(l.Executors)-len(rows)))
	}
	return t.Text(w)
}
