package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Schemas of the reports.
const (
	DailySchema  = "greenlight/daily_report/v1"
	WeeklySchema = "greenlight/weekly_summary/v1"
)

// cumulativeName is the CSV of all days.
const cumulativeName = "daily/ml_daily_reports.csv"

// Weekly is the body of summary_<week>.json.
type Weekly struct {
	Summary
	Days []Summary `json:"days"`
}

// DailyFiles are the names of a day's report in the evidence folder; the last is written last.
func DailyFiles(p Period) (table, document string) {
	return "daily/report_" + p.Name + ".csv", "daily/report_" + p.Name + ".json"
}

// WeeklyFiles are the names of a week's summary; the last is written last.
func WeeklyFiles(p Period) (text, document string) {
	return "weekly/summary_" + p.Name + ".md", "weekly/summary_" + p.Name + ".json"
}

// Written says whether the document is in the evidence folder. It is written after all that goes with it.
func Written(folder, document string) (bool, error) {
	_, err := os.Stat(filepath.Join(folder, filepath.FromSlash(document)))
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

// WriteDaily writes the report of a day to the evidence folder: its table, its lines in the table of all days, in place of
// those it may have there, and its document. A report that is there is left as it is, which is then false.
func WriteDaily(folder string, store *evidence.Store, h evidence.Header, s Summary) (wrote bool, err error) {
	table, document := DailyFiles(s.Period)
	if there, err := Written(folder, document); err != nil || there {
		return false, err
	}
	lines, err := lines(s)
	if err != nil {
		return false, err
	}
	all, err := merge(filepath.Join(folder, filepath.FromSlash(cumulativeName)), s.Name, lines)
	if err != nil {
		return false, err
	}
	one := append([]byte(heading), lines...)
	if err := store.WriteFile(table, one); err != nil {
		return false, err
	}
	if err := store.WriteFile(cumulativeName, all); err != nil {
		return false, err
	}
	h.Schema = DailySchema
	return true, store.WriteJSON(document, h, s)
}

// WriteWeekly writes the summary of a week with its days. A summary that is there is left as it is, which is then false.
func WriteWeekly(folder string, store *evidence.Store, h evidence.Header, p Period, samples []Sample) (wrote bool, err error) {
	text, document := WeeklyFiles(p)
	if there, err := Written(folder, document); err != nil || there {
		return false, err
	}
	w := Weekly{Summary: Summarize(p, samples)}
	for t := p.Start; t.Before(p.End); t = t.Add(day) {
		w.Days = append(w.Days, Summarize(Day(t), samples))
	}
	if err := store.WriteFile(text, w.Markdown(h.Source)); err != nil {
		return false, err
	}
	h.Schema = WeeklySchema
	return true, store.WriteJSON(document, h, w)
}

const heading = "date,figure,value,unit,n,threshold,status,coverage,action\n"

// lines are the figures of a day as CSV, without the heading.
func lines(s Summary) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	for _, f := range s.Figures {
		value := ""
		if f.Value != nil {
			value = number(*f.Value)
		}
		if err := w.Write([]string{
			s.Name, f.Name, value, string(f.Unit), strconv.FormatUint(f.N, 10), string(f.Op) + " " + number(f.Threshold),
			string(f.Verdict), number(s.Coverage), f.Action,
		}); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return out.Bytes(), w.Error()
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// merge is the table of all days with the lines of a day in the order of days.
func merge(path, date string, lines []byte) ([]byte, error) {
	have, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if len(have) > 0 && !bytes.HasPrefix(have, []byte(heading)) {
		return nil, fmt.Errorf("%s: %w: its first line is not %q", path, fs.ErrInvalid, strings.TrimSpace(heading))
	}
	var before, after []byte
	for line := range bytes.Lines(bytes.TrimPrefix(have, []byte(heading))) {
		switch d, _, _ := bytes.Cut(line, []byte{','}); {
		case string(d) < date:
			before = append(before, line...)
		case string(d) > date:
			after = append(after, line...)
		}
	}
	return bytes.Join([][]byte{[]byte(heading), before, lines, after}, nil), nil
}

// Markdown is the summary as people read it.
func (w Weekly) Markdown(source evidence.Source) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Week %s: %s\n\n%s to %s (UTC), source %s. Counts cover %.1f %% of it; %d requests, %d restarts.\n\n",
		w.Name, w.Verdict, w.Start.Format(time.DateOnly), w.End.Add(-day).Format(time.DateOnly), source, 100*w.Coverage, w.Requests, w.Restarts)
	out.WriteString("| figure | target | achieved | n | status | action |\n|---|---|---|---:|---|---|\n")
	for _, f := range w.Figures {
		target := gate.Rule{Op: f.Op, Threshold: f.Threshold, Unit: f.Unit}.Target()
		fmt.Fprintf(&out, "| %s | %s | %s | %d | %s | %s |\n", f.Name, target, f.Achieved(), f.N, f.Verdict, f.Action)
	}
	out.WriteString("\n| day | covered | requests |")
	for _, f := range w.Figures {
		fmt.Fprintf(&out, " %s |", f.Name)
	}
	out.WriteString(" status |\n|---|---:|---:|" + strings.Repeat("---:|", len(w.Figures)) + "---|\n")
	for _, d := range w.Days {
		fmt.Fprintf(&out, "| %s | %.1f %% | %d |", d.Name, 100*d.Coverage, d.Requests)
		for _, f := range d.Figures {
			value := "-"
			if f.Value != nil {
				value = f.Unit.Format(*f.Value)
			}
			fmt.Fprintf(&out, " %s |", value)
		}
		fmt.Fprintf(&out, " %s |\n", d.Verdict)
	}
	return out.Bytes()
}
