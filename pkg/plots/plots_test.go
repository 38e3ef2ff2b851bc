package plots_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/plots"
)

// sample returns rows whose scores are calibrated probabilities.
func sample(seed uint64, days, perDay int) eval.Sample {
	rng := rand.New(rand.NewPCG(seed, 0))
	var s eval.Sample
	for day := range days {
		for range perDay {
			score := rng.Float64() * rng.Float64()
			s.Scores = append(s.Scores, score)
			s.Labels = append(s.Labels, rng.Float64() < score)
			s.Days = append(s.Days, 19_000+day)
		}
	}
	return s
}

func report(t *testing.T) *eval.Report {
	t.Helper()
	var folds []eval.Fold
	for i := range 3 {
		s := sample(uint64(i), 7, 60)
		for j := range s.Days {
			s.Days[j] += 7 * i
		}
		first := 19_000 + 7*i
		folds = append(folds, eval.Fold{TrainFrom: first - 28, TrainTo: first, TestFrom: first, TestTo: first + 7, Sample: s})
	}
	calm := eval.Sample{Scores: []float64{.1}, Labels: []bool{false}, Days: []int{19_021}}
	folds = append(folds, eval.Fold{TestFrom: 19_021, TestTo: 19_022, Sample: calm})
	b := eval.DefaultBootstrap()
	b.Replicates = 100
	r, err := eval.NewReport(folds, b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reading() drift.FeatureReading {
	return drift.FeatureReading{
		Feature: "spread_bp",
		Reading: drift.Reading{
			PSI: 0.412, Status: drift.Critical, Samples: 12_345, Noise: &drift.Noise{Expected: 0.05, Q95: 0.12, Q99: 0.187},
			Threshold: 0.3, Verdict: gate.Fail, Reason: "too high",
		},
		Bins: []drift.BinReading{
			{Bin: "q1", Range: "<= 0.5", Reference: 0.3, Current: 0.1, PSI: 0.22},
			{Bin: "q2", Range: "> 0.5", Reference: 0.3, Current: 0.4, PSI: 0.029},
			{Bin: "v1", Range: "= 0", Reference: 0.4, Current: 0.5, PSI: 0.022},
			{Bin: "missing", Range: "missing"},
			{Bin: "out_of_domain", Range: "out of domain"},
		},
	}
}

// features returns readings of each role: a raw input that drifted away, and features that did not.
func features() []drift.FeatureReading {
	of := func(name string, role drift.Role, psi, q99 float64) drift.FeatureReading {
		return drift.FeatureReading{Feature: name, Role: role, Reading: drift.Reading{PSI: psi, Noise: &drift.Noise{Q99: q99}}}
	}
	short := of("mid_logret_1m_rel", drift.ModelFeature, 0.001, 0)
	short.Noise = nil
	return []drift.FeatureReading{
		short, of("spread_bp_rel", drift.ModelFeature, 0.31, 0.22), of("rsi14_z", drift.ModelFeature, 0.02, 0.03),
		of("score", drift.Score, 0.11, 0.3), of("mid", drift.RawInput, 5.1, 3.2),
	}
}

// weeks returns the indices of those features over time; the first raw input starts later.
func weeks(n int) plots.PSITimes {
	var t plots.PSITimes
	for _, f := range features() {
		t.Lines = append(t.Lines, plots.PSILine{Name: f.Feature, Role: f.Role})
	}
	for i := range n {
		t.At = append(t.At, time.Date(2026, 9, 1+i, 0, 0, 0, 0, time.UTC))
		t.Overall = append(t.Overall, 0.1+0.01*float64(i%5))
		for j, f := range features() {
			v := f.PSI * (1 + 0.1*math.Sin(float64(i+j)))
			if f.Role == drift.RawInput && i < n/4 {
				v = math.NaN()
			}
			t.Lines[j].Values = append(t.Lines[j].Values, v)
		}
	}
	return t
}

// judged returns the verdict on that many hours of a perfect model against an uninformative baseline.
func judged(hours int) *outcome.Judgment {
	p := outcome.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: 0.05, LabelSource: outcome.Quotes, HorizonMS: (15 * time.Minute).Milliseconds()}
	j := outcome.NewJoin(outcome.Key{Executor: "e", Model: "m", Baseline: "b"}, p)
	for m := range 60 * hours {
		at := time.Date(2026, 9, 1, 0, m, 0, 0, time.UTC).UnixMilli()
		j.Minute("S", at, outcome.Answer(1+m%2))
		j.Add(&outcome.Row{ID: strconv.Itoa(m), Symbol: "S", Time: at, Source: outcome.Replay, Baseline: 0.5, Shadow: 0.5 + 0.2*float64((m+1)%2*2-1)})
	}
	return outcome.Judge(p, j.Closed())
}

// phases returns four attempts at phases of half an hour: the third is interrupted after a minute, and resumed a night later.
func phases() []plots.CanaryPhase {
	var all []plots.CanaryPhase
	for i, p := range []plots.CanaryPhase{
		{Percent: 5, Begin: 2, End: 1800, Passed: true},
		{Percent: 10, Begin: 1801, End: 3600, Passed: true},
		{Percent: 25, Begin: 3601, End: 3661, Decision: "INTERRUPTED"},
		{Percent: 25, Begin: 52_200, End: 54_000, Decision: "ABORTED"},
	} {
		for n := 1; n <= 40; n++ {
			v := float64(n)
			s := plots.CanarySample{Seconds: p.Begin + v/40*(p.End-p.Begin), P95MS: 4 + math.Sin(v), MatchRate: 0.99 - 0.02*float64(i), ErrorRate: 0.004 + 0.001*math.Cos(v)}
			s.MatchLow, s.MatchHigh = s.MatchRate-0.2/v, min(1, s.MatchRate+0.2/v)
			p.Samples = append(p.Samples, s)
		}
		all = append(all, p)
	}
	return all
}

// figures returns one figure of each kind, with texts that it must contain.
func figures(t *testing.T) []struct {
	name  string
	write func(io.Writer) error
	texts []string
} {
	s, o := sample(1, 10, 100), sample(2, 10, 100)
	r := report(t)
	return []struct {
		name  string
		write func(io.Writer) error
		texts []string
	}{
		{
			"roc",
			func(w io.Writer) error {
				return plots.ROC(w, "x on y", s.Labels, plots.Scorer{Name: "model", Scores: s.Scores}, plots.Scorer{Name: "baseline", Scores: o.Scores})
			},
			[]string{"ROC curve: x on y", "n = 1,000 rows, base rate 0.2", "False positive rate", "True positive rate", "model, AUC 0.", "baseline, AUC 0.", "chance"},
		},
		{
			"reliability",
			func(w io.Writer) error { return plots.Reliability(w, "x on y", eval.Reliability(s.Scores, s.Labels)) },
			[]string{"Reliability: x on y", "n = 1,000 rows, expected calibration error 0.0", "Observed rate", "Score (predicted probability", "Rows", "calibrated"},
		},
		{
			"scores",
			func(w io.Writer) error { return plots.Scores(w, "x on y", s.Scores, s.Labels) },
			[]string{"Scores by class: x on y", "n = 1,000 rows", "Share of the class in the bin (%)", "no move, n = 7", "move, n = 2"},
		},
		{
			"psi",
			func(w io.Writer) error { return plots.PSI(w, "x on y", reading()) },
			[]string{"Drift of spread_bp: x on y", "PSI 0.412 (critical), threshold 0.3, 99 % without drift 0.187: FAIL; n = 12,345 rows", "Share of rows (%)", "&lt;= 0.5", "0.220", ">reference<", ">current<"},
		},
		{
			"quality",
			func(w io.Writer) error { return plots.Quality(w, "x beside y", judged(48)) },
			[]string{
				"Is it better? x beside y", "BETTER; bounds hold at all times together, alpha 0.05 a side; 189 blocks of 15m0s, cap 0.25", "upper bound, odd blocks", "lower bound, even blocks",
				"no difference", "worse by the margin of 0.01", "mean of a day", "PASS after 0.4 days", "BETTER after 0.4 days", "2026-09-02", "Brier loss, baseline less model",
			},
		},
		{
			"psi_history",
			func(w io.Writer) error {
				t := weeks(40)
				t.Filling, t.Overall[2] = 5, 3
				return plots.PSIHistory(w, "x on y", t)
			},
			[]string{"Drift over time: x on y", "40 of them", "PSI of the model&#39;s features", "PSI of the raw inputs", "overall", "spread_bp_rel", "score", "mid", "moderate from 0.1", "warning above 0.2, limit overall", "critical above 0.3, limit of a feature", "window not full yet", "2026-09-01", "End of the window (UTC)"},
		},
		{
			"psi_history_of_one",
			func(w io.Writer) error {
				t := weeks(1)
				t.Filling = 1
				for i := range t.Lines { // each index has a value from the start
					t.Lines[i].Values[0] = features()[i].PSI
				}
				return plots.PSIHistory(w, "x on y", t)
			},
			[]string{"window to 2026-09-01 00:00 UTC, which is not full yet", ">overall<", ">0.100<", ">mid_logret_1m_rel<", ">0.310<", ">mid<", ">5.100<"},
		},
		{
			"canary",
			func(w io.Writer) error {
				return plots.Canary(w, "x against y: ABORTED", "run 1", phases(), plots.CanaryLimits{P95MS: 80, MatchRate: 0.95, ErrorRate: 0.01}, plots.CanaryLimits{P95MS: 120, MatchRate: 0.9, ErrorRate: 0.02})
			},
			[]string{"Canary: x against y: ABORTED", "Time since the run began (hours); waits are cut short at //", "did not pass: INTERRUPTED, ABORTED", "share (%)", "p95 (ms)", "match rate", "error rate", "target, 80", "aborts, 0.02", ">0.5<", ">14.5<"},
		},
		{
			"psi_overview",
			func(w io.Writer) error {
				return plots.PSIOverview(w, "x on y", &drift.Reading{PSI: 0.147, Noise: &drift.Noise{Q99: 0.21}}, features())
			},
			[]string{"Drift at a glance: x on y", "PSI (logarithmic)", "overall", "mid_logret_1m_rel", "raw input", "score of the model", "99 % without drift", "moderate from 0.1", "warning above 0.2, limit overall", "critical above 0.3, limit of a feature", ">0.05<", ">5<"},
		},
		{
			"folds",
			func(w io.Writer) error { return plots.Folds(w, "x on y", r) },
			[]string{"fold by fold: x on y", "n = 1,261 rows in 4 folds", "95 % intervals by bootstrap of whole days", "AUC", "P@20", "2022-01-08", "pooled, 0.", "base rate of the fold", "chance", "not measured"},
		},
		{
			"curves",
			func(w io.Writer) error {
				return plots.Curves(w, "x on y", "medians of 3", []plots.Curve{
					{X: "rows", Y: "us", Sizes: []float64{1, 64, 1024}, Values: []float64{90, 2, 0.3}, Low: []float64{80, 2, 0.2}, High: []float64{99, 3, 0.4}},
					{X: "calls", Y: "1/s", Sizes: []float64{1, 5000}, Values: []float64{9000, 30_000}, Low: []float64{9000, 30_000}, High: []float64{9000, 30_000}},
				})
			},
			[]string{"x on y", "medians of 3", ">1,024<", ">5,000<", ">rows<", ">1/s<"},
		},
	}
}

func TestFigures(t *testing.T) {
	dir := os.Getenv("GREENLIGHT_PLOTS") // a folder to keep the figures for viewing
	for _, f := range figures(t) {
		t.Run(f.name, func(t *testing.T) {
			var first, second bytes.Buffer
			if err := f.write(&first); err != nil {
				t.Fatal(err)
			}
			if err := f.write(&second); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Error("the same numbers gave other bytes")
			}
			for _, text := range f.texts {
				if !strings.Contains(first.String(), text) {
					t.Errorf("no %q in the figure", text)
				}
			}
			for _, not := range []string{"<script", "NaN", "Inf", "href=\"http"} {
				if strings.Contains(first.String(), not) {
					t.Errorf("%q in the figure", not)
				}
			}
			d := xml.NewDecoder(bytes.NewReader(first.Bytes()))
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("not XML: %v", err)
				}
			}
			if dir != "" {
				if err := os.WriteFile(filepath.Join(dir, f.name+".svg"), first.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// helvetica are advance widths in thousandths of the font size, from the font metrics that Adobe published for Helvetica, which
// Liberation Sans has too.
var helvetica = map[rune]float64{
	'0': 556, '1': 556, '2': 556, '3': 556, '5': 556, '.': 278, ',': 278, ' ': 278, '(': 333, ')': 333, '%': 889, '_': 556, 'A': 667, 'C': 722, 'P': 667, 'U': 722,
	'a': 556, 'c': 500, 'd': 556, 'e': 556, 'h': 556, 'i': 222, 'l': 222, 'm': 833, 'n': 556, 'o': 556, 'p': 556, 'r': 333, 's': 500, 't': 278, 'v': 500, 'w': 722,
}

// drawnText is a text of a figure; upright reports whether its position is in the coordinates of the figure.
type drawnText struct {
	text              string
	x, y, width, size float64
	upright           bool
}

// textsOf returns the texts of a figure, and its width and height.
func textsOf(t *testing.T, svg []byte) (texts []drawnText, width, height float64) {
	t.Helper()
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(strings.TrimSuffix(s, "pt"), 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	size := regexp.MustCompile(`font-size:([0-9.]+)px`)
	d := xml.NewDecoder(bytes.NewReader(svg))
	turned := 0 // number of open groups that rotate their content
	var groups []bool
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, width, height
		} else if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			at := map[string]string{}
			for _, a := range e.Attr {
				at[a.Name.Local] = a.Value
			}
			switch e.Name.Local {
			case "svg":
				width, height = number(at["width"]), number(at["height"])
			case "g":
				groups = append(groups, strings.Contains(at["transform"], "rotate"))
				if groups[len(groups)-1] {
					turned++
				}
			case "text":
				if at["lengthAdjust"] != "spacingAndGlyphs" || at["textLength"] == "" || !strings.Contains(at["style"], "sans-serif") {
					t.Fatalf("a text without a width: %v", at)
				}
				var text string
				if err := d.DecodeElement(&text, &e); err != nil {
					t.Fatal(err)
				}
				texts = append(texts, drawnText{text, number(at["x"]), -number(at["y"]), number(at["textLength"]), number(size.FindStringSubmatch(at["style"])[1]), turned == 0})
			}
		case xml.EndElement:
			if e.Name.Local == "g" {
				if groups[len(groups)-1] {
					turned--
				}
				groups = groups[:len(groups)-1]
			}
		}
	}
}

// Every text has the width that the layout assumes, so that another font keeps the layout, and lies within
// the figure.
func TestTextsKeepTheirWidth(t *testing.T) {
	known := 0
	for _, f := range figures(t) {
		var svg bytes.Buffer
		if err := f.write(&svg); err != nil {
			t.Fatal(err)
		}
		texts, width, _ := textsOf(t, svg.Bytes())
		if len(texts) < 10 {
			t.Errorf("%s has %d texts", f.name, len(texts))
		}
		for _, one := range texts {
			if one.upright && (one.x < 0 || one.x+one.width > width) {
				t.Errorf("%s: %q is from %v to %v of %v", f.name, one.text, one.x, one.x+one.width, width)
			}
			want := 0.0
			for _, r := range one.text {
				w, ok := helvetica[r]
				if !ok {
					want = math.NaN()
				}
				want += w / 1000 * one.size
			}
			if math.IsNaN(want) || one.size > 12 { // titles are bold
				continue
			}
			known++
			if math.Abs(one.width-want) > 0.03*want { // kerning
				t.Errorf("%s: %q of %v px has the width %v, want %v", f.name, one.text, one.size, one.width, want)
			}
		}
	}
	if known < 100 {
		t.Errorf("%d texts were compared", known)
	}
}

// The longest names that a registry allows leave room for the panels.
func TestLongNames(t *testing.T) {
	times := weeks(3)
	for i := range times.Lines {
		times.Lines[i].Name = strings.Repeat("a_long_name_", 20)
	}
	var svg bytes.Buffer
	if err := plots.PSIHistory(&svg, "", times); err != nil {
		t.Fatal(err)
	}
	texts, width, _ := textsOf(t, svg.Bytes())
	for _, one := range texts {
		if strings.HasPrefix(one.text, "a_long_name") && (one.x < width/2 || one.x+one.width > width) {
			t.Errorf("a name is from %v to %v of %v", one.x, one.x+one.width, width)
		}
	}
}

// Any number of panels are as wide as the figure.
func TestManyPanels(t *testing.T) {
	c := plots.Curve{X: "rows", Y: "us", Sizes: []float64{1, 1024}, Values: []float64{1, 2}, Low: []float64{1, 2}, High: []float64{1, 2}}
	var svg bytes.Buffer
	if err := plots.Curves(&svg, "x", "y", []plots.Curve{c, c, c, c, c, c, c, c, c, c}); err != nil {
		t.Fatal(err)
	}
	texts, width, _ := textsOf(t, svg.Bytes())
	for _, one := range texts {
		if one.text == "1,024" && one.x+one.width < width-12 {
			t.Errorf("the last label of an axis ends at %v of %v", one.x+one.width, width)
		}
	}
}

// A long label of a vertical axis is no longer than its panel, so that it does not overlap the next one.
func TestLongLabelsOfPanels(t *testing.T) {
	const label = "CPU of all of them per prediction, in microseconds"
	c := plots.Curve{X: "rows", Y: label, Sizes: []float64{1, 2}, Values: []float64{1, 2}, Low: []float64{1, 2}, High: []float64{1, 2}}
	var svg bytes.Buffer
	if err := plots.Curves(&svg, "x", "y", []plots.Curve{c, c, c}); err != nil {
		t.Fatal(err)
	}
	texts, _, height := textsOf(t, svg.Bytes())
	n := 0
	for _, one := range texts {
		if one.text == label {
			n++
			if one.upright || one.width > height/3-20 {
				t.Errorf("a label of %v points, upright %v, in a panel of a third of %v", one.width, one.upright, height)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d labels, want 3", n)
	}
}

// filled returns the widths and heights of the rectangles whose style matches, in order.
func filled(t *testing.T, svg []byte, style string) (widths, heights []float64) {
	t.Helper()
	corners := regexp.MustCompile(`d="M([0-9.]+),([0-9.]+)L([0-9.]+),([0-9.]+)L([0-9.]+),([0-9.]+)L[^"]*"\s+style="` + style)
	for _, m := range corners.FindAllSubmatch(svg, -1) {
		var v [6]float64
		for i := range v {
			var err error
			if v[i], err = strconv.ParseFloat(string(m[i+1]), 64); err != nil {
				t.Fatal(err)
			}
		}
		widths, heights = append(widths, v[2]-v[0]), append(heights, v[5]-v[3])
	}
	return widths, heights
}

// A night between two attempts does not squeeze the phases, and an attempt of one minute is readable.
func TestCanaryGivesEachPhaseRoom(t *testing.T) {
	var svg bytes.Buffer
	if err := plots.Canary(&svg, "x", "y", phases(), plots.CanaryLimits{}, plots.CanaryLimits{}); err != nil {
		t.Fatal(err)
	}
	widths, _ := filled(t, svg.Bytes(), `fill:#[0-9A-F]{6};fill-opacity:0.188`) // the legend, and two attempts in four panels
	if len(widths) != 9 {
		t.Fatalf("got the widths %v of attempts that did not pass, want 9", widths)
	}
	minute, half := widths[1], widths[2] // the first is that of the legend
	if minute < 25 || half < 150 || half > 250 {
		t.Errorf("an attempt of a minute has %v points and one of half an hour %v, of about 550", minute, half)
	}
}

// A single window is drawn as bars, with heights in proportion to the indices and without a grey background.
func TestOneWindowHasBars(t *testing.T) {
	one := weeks(1)
	one.Filling, one.Overall[0] = 1, 0.1
	for i := range one.Lines {
		one.Lines[i].Values[0] = []float64{0.05, 0.3, 0.2, 0.15, 4}[i]
	}
	var svg bytes.Buffer
	if err := plots.PSIHistory(&svg, "", one); err != nil {
		t.Fatal(err)
	}
	_, overall := filled(t, svg.Bytes(), "fill:#222222")
	_, features := filled(t, svg.Bytes(), "fill:#0072B2")
	if len(overall) != 1 || len(features) != 3 {
		t.Fatalf("got %d bars of the overall index and %d of features, want 1 and 3", len(overall), len(features))
	}
	for i, want := range []float64{0.5, 3, 2} {
		if got := features[i] / overall[0]; math.Abs(got-want) > 0.01 {
			t.Errorf("bar %d is %v times the overall one, want %v", i, got, want)
		}
	}
	if strings.Contains(svg.String(), "window not full yet") || strings.Contains(svg.String(), "End of the window") {
		t.Error("one window has a time axis")
	}
}

// A title shrinks only if it is too long for the figure.
func TestLongTitle(t *testing.T) {
	size := func(title string) float64 {
		t.Helper()
		var w bytes.Buffer
		if err := plots.PSI(&w, title, reading()); err != nil {
			t.Fatal(err)
		}
		of := regexp.MustCompile(`font-size:([0-9.]+)px;[^>]*>Drift of`).FindStringSubmatch(w.String())
		if of == nil {
			t.Fatalf("no title in %s", w.String())
		}
		px, err := strconv.ParseFloat(of[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return px
	}
	usual, more := size("x on y"), size("x on y, in 2026")
	if long := size(strings.Repeat("a long name of a data set ", 6)); more != usual || !(long > usual/3 && long < usual*0.7) {
		t.Errorf("got sizes %v, %v and %v, want two alike and a smaller one", usual, more, long)
	}
}

type failing struct{}

var errDisk = errors.New("disk full")

func (failing) Write([]byte) (int, error) { return 0, errDisk }

func TestFiguresPassOnTheWritersError(t *testing.T) {
	for _, f := range figures(t) {
		if err := f.write(failing{}); !errors.Is(err, errDisk) {
			t.Errorf("%s: got %v, want %v", f.name, err, errDisk)
		}
	}
}

func TestNothingToPlot(t *testing.T) {
	one := []bool{true, true}
	indices := []float64{0.1, 0.2}
	tests := []struct {
		name    string
		write   func(io.Writer) error
		is      error
		mention string
	}{
		{"no scorer", func(w io.Writer) error { return plots.ROC(w, "", one) }, plots.ErrNothing, "0 scorers"},
		{"one class", func(w io.Writer) error { return plots.ROC(w, "", one, plots.Scorer{"m", []float64{.1, .2}}) }, eval.ErrOneClass, "ROC curve of m"},
		{"scores missing", func(w io.Writer) error { return plots.ROC(w, "", one, plots.Scorer{"m", []float64{.1}}) }, nil, "1 scores but 2 labels"},
		{"empty bins", func(w io.Writer) error { return plots.Reliability(w, "", eval.Reliability(nil, nil)) }, plots.ErrNothing, "10 bins"},
		{"no scores", func(w io.Writer) error { return plots.Scores(w, "", nil, nil) }, plots.ErrNothing, "no scores"},
		{"wrong score", func(w io.Writer) error { return plots.Scores(w, "", []float64{2, 0}, one) }, nil, "score 2 of row 0"},
		{"labels missing", func(w io.Writer) error { return plots.Scores(w, "", []float64{.1}, one) }, nil, "1 scores but 2 labels"},
		{"no block", func(w io.Writer) error { return plots.Quality(w, "", judged(0)) }, plots.ErrNothing, "of no blocks"},
		{"no bins", func(w io.Writer) error { return plots.PSI(w, "", drift.FeatureReading{Feature: "mid"}) }, plots.ErrNothing, "mid"},
		{"no times", func(w io.Writer) error { return plots.PSIHistory(w, "", plots.PSITimes{}) }, plots.ErrNothing, "0 times"},
		{"overall missing", func(w io.Writer) error {
			return plots.PSIHistory(w, "", plots.PSITimes{At: make([]time.Time, 2), Overall: indices[:1]})
		}, plots.ErrNothing, "2 times and 1 overall"},
		{"values missing", func(w io.Writer) error {
			return plots.PSIHistory(w, "", plots.PSITimes{At: make([]time.Time, 2), Overall: indices, Lines: []plots.PSILine{{Name: "mid", Values: indices[:1]}}})
		}, nil, "PSI of mid over time: 1 values for 2 times"},
		{"no index at all", func(w io.Writer) error {
			return plots.PSIHistory(w, "", plots.PSITimes{At: make([]time.Time, 1), Overall: []float64{math.NaN()}})
		}, plots.ErrNothing, "has no values"},
		{"no features", func(w io.Writer) error { return plots.PSIOverview(w, "", nil, nil) }, plots.ErrNothing, "no features"},
		{"no curves", func(w io.Writer) error { return plots.Curves(w, "", "", nil) }, plots.ErrNothing, "curves"},
		{"no folds", func(w io.Writer) error { return plots.Folds(w, "", &eval.Report{}) }, plots.ErrNothing, "0 folds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w bytes.Buffer
			err := tt.write(&w)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want %v that mentions %q", err, tt.is, tt.mention)
			}
			if w.Len() != 0 {
				t.Errorf("%d bytes were written", w.Len())
			}
		})
	}
}

// Sparse data (few rows or days, one class, one bin) still gives a figure.
func TestPoorFigures(t *testing.T) {
	few := sample(1, 2, 30)
	r, err := eval.NewReport([]eval.Fold{{TestFrom: 19_000, TestTo: 19_002, Sample: few}}, eval.DefaultBootstrap())
	if err != nil {
		t.Fatal(err)
	}
	lone := reading()
	lone.Bins, lone.Noise = lone.Bins[2:3], nil
	one, filling := weeks(1), weeks(2)
	one.Lines, filling.Filling = one.Lines[:2], 2
	for name, write := range map[string]func(io.Writer) error{
		"one time, no inputs":    func(w io.Writer) error { return plots.PSIHistory(w, "", one) },
		"one block":              func(w io.Writer) error { return plots.Quality(w, "", judged(1)) },
		"no full window":         func(w io.Writer) error { return plots.PSIHistory(w, "", filling) },
		"one feature":            func(w io.Writer) error { return plots.PSIOverview(w, "", nil, features()[:1]) },
		"one fold, no intervals": func(w io.Writer) error { return plots.Folds(w, "", r) },
		"one bin":                func(w io.Writer) error { return plots.PSI(w, "", lone) },
		"one class":              func(w io.Writer) error { return plots.Scores(w, "", []float64{0, 1}, []bool{true, true}) },
		"one row":                func(w io.Writer) error { return plots.Reliability(w, "", eval.Reliability([]float64{1}, []bool{true})) },
	} {
		var w bytes.Buffer
		if err := write(&w); err != nil || strings.Contains(w.String(), "NaN") {
			t.Errorf("%s: %v\n%s", name, err, w.String())
		}
	}
}

// Every text of a figure in the documents, drawn by hand or by a program, has its width in Liberation Sans and a fallback font, so
// that it ends at the same place in any font.
func TestFiguresOfTheDocumentsNeedNoFont(t *testing.T) {
	declared := regexp.MustCompile(`(font-[a-z]+):([^;]+)`)
	figures, texts := 0, 0
	err := filepath.WalkDir(filepath.Join("..", "..", "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".svg" {
			return err
		}
		figures++
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		inherited := []map[string]string{{}}
		d := xml.NewDecoder(bytes.NewReader(raw))
		for {
			token, err := d.Token()
			switch e := token.(type) {
			case nil:
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", path, err)
				}
				return nil
			case xml.EndElement:
				inherited = inherited[:len(inherited)-1]
			case xml.StartElement:
				at := maps.Clone(inherited[len(inherited)-1])
				for _, a := range e.Attr {
					at[a.Name.Local] = a.Value
					if a.Name.Local == "style" {
						for _, one := range declared.FindAllStringSubmatch(a.Value, -1) {
							at[one[1]] = one[2]
						}
					}
				}
				inherited = append(inherited, at)
				if e.Name.Local != "text" {
					continue
				}
				texts++
				text, err := d.Token()
				if err != nil {
					return err
				}
				content := string(text.(xml.CharData))
				f := font.Font{Typeface: "Liberation", Variant: "Sans"}
				if at["font-weight"] == "bold" {
					f.Weight = xfont.WeightBold
				}
				size, err := strconv.ParseFloat(strings.TrimSuffix(at["font-size"], "px"), 64)
				if err != nil {
					t.Errorf("%s: %q: font-size: %v", path, content, err)
				}
				width, err := strconv.ParseFloat(at["textLength"], 64)
				face := font.DefaultCache.Lookup(f, font.Length(size))
				want := face.Width(content).Points()
				if err != nil || math.Abs(width/want-1) > 0.001 || at["lengthAdjust"] != "spacingAndGlyphs" || !strings.HasSuffix(at["font-family"], "sans-serif") {
					t.Errorf("%s: %q has textLength %q, lengthAdjust %q, font-family %q; want %.5g, spacingAndGlyphs, any with sans-serif last", path, content, at["textLength"], at["lengthAdjust"], at["font-family"], want)
				}
			}
		}
	})
	if err != nil || figures < 5 || texts < 64 {
		t.Errorf("%d figures with %d texts, %v", figures, texts, err)
	}
}
