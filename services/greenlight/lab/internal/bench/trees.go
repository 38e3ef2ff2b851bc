package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/trees"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// TreesSchema names the kind of the JSON.
const TreesSchema = "greenlight/trees/v1"

// citedNS is the time of XGBoost 1.7.4 per row and tree of depth 6 when the target was set, in blocks of 1,024 rows on one
// thread of another machine. It is printed if XGBoost cannot be measured.
const citedNS = 20

// TreesOptions configures [RunTrees].
type TreesOptions struct {
	// Dir is a folder for the models and the rows.
	Dir string
	// Python is the interpreter that has XGBoost; "" tries python3 and the system's.
	Python string
	// Rounds is the number of times that everything is measured, and Slice the CPU time of each side in a round.
	Rounds   int
	Slice    time.Duration
	Progress func(done, total int)
	// Stderr receives Python's standard error; nil discards it.
	Stderr io.Writer
}

// Trees compares the CPU time of a score with XGBoost's, in one process and one thread each. Other work on the machine takes
// the processor from both, and counts for neither.
type Trees struct {
	Header
	// XGBoost is the measured version; "" if there is none, and Missing then lists what was tried.
	XGBoost string       `json:"xgboost,omitempty"`
	Missing string       `json:"xgboost_missing,omitempty"`
	Blocks  []TreesBlock `json:"blocks"`
}

// TreesBlock is one ensemble scored in blocks of a given number of rows, in nanoseconds of CPU time per row and tree.
type TreesBlock struct {
	Trees int    `json:"trees"`
	Rows  int    `json:"rows"`
	Ours  Spread `json:"ns"`
	// XGBoost and Ratio (ours over XGBoost's, round by round) are nil if it was not measured.
	XGBoost *Spread `json:"xgboost_ns,omitempty"`
	Ratio   *Spread `json:"ratio,omitempty"`
}

// RunTrees measures generated ensembles of full trees in blocks of 1, 64 and 1,024 rows. XGBoost loads the same files, and
// must give the same scores. It is not measured on single rows, because that would measure a call from Python.
func RunTrees(ctx context.Context, opts TreesOptions) (_ *Trees, err error) {
	if opts.Rounds < 1 || opts.Slice <= 0 {
		return nil, errors.New("bench: rounds and length of the slices are required")
	}
	watch := rig.WatchMachine()
	var ensembles []*trees.Ensemble
	rng := rand.New(rand.NewPCG(3, 0))
	var x []float64
	var raw []byte
	for _, row := range vectors(rng, treeFeatures) {
		for _, v := range row {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
			x = append(x, float64(float32(v)))
		}
	}
	files := []string{filepath.Join(opts.Dir, "rows")}
	if err := os.WriteFile(files[0], raw, 0o600); err != nil {
		return nil, err
	}
	sizes := []int{300, 1000}
	for _, size := range sizes {
		raw, e, err := ensemble(rng, size)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(opts.Dir, fmt.Sprintf("trees-%d.json", size))
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			return nil, err
		}
		ensembles, files = append(ensembles, e), append(files, path)
	}
	t := &Trees{}
	scores := make([]float64, len(x)/treeFeatures)
	other, err := startXGBoost(ctx, opts, files)
	switch {
	case errors.Is(err, errNoXGBoost):
		t.Missing = err.Error()
	case err != nil:
		return nil, err
	default:
		defer func() { err = errors.Join(err, other.stop()) }()
		t.XGBoost = other.version
		for i, e := range ensembles {
			e.Scores(scores, x)
			if err := other.agrees(i, scores); err != nil {
				return nil, err
			}
		}
	}
	done, total := 0, opts.Rounds*len(ensembles)*len(blockRows)
	for i, e := range ensembles {
		for _, rows := range blockRows {
			block := TreesBlock{Trees: sizes[i], Rows: rows}
			var ours, theirs, ratio []float64
			for range opts.Rounds {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				mine := timeBlocks(e, scores, x, rows, opts.Slice) / float64(sizes[i])
				ours = append(ours, mine)
				if other != nil && rows > 1 {
					ns, err := other.time(i, rows, opts.Slice)
					if err != nil {
						return nil, err
					}
					ns /= float64(sizes[i])
					theirs, ratio = append(theirs, ns), append(ratio, mine/ns)
				}
				done++
				opts.Progress(done, total)
			}
			block.Ours = SpreadOf(ours)
			if len(ratio) > 0 {
				a, b := SpreadOf(theirs), SpreadOf(ratio)
				block.XGBoost, block.Ratio = &a, &b
			}
			t.Blocks = append(t.Blocks, block)
		}
	}
	var pids []int
	if other != nil {
		pids = append(pids, other.process.Process.Pid)
	}
	t.Header = newHeader(TreesSchema, watch, watch.Machine(pids...), opts.Rounds)
	return t, nil
}

var blockRows = []int{1, 64, 1024}

// timeBlocks returns the nanoseconds of CPU time per row for scores in blocks of the given size, one after the other.
func timeBlocks(e *trees.Ensemble, scores, x []float64, rows int, slice time.Duration) float64 {
	n, begin := 0, ownTime()
	for {
		for at := 0; at < len(scores); at += rows {
			if rows == 1 {
				scores[at] = e.Score(x[at*treeFeatures : (at+1)*treeFeatures])
			} else {
				e.Scores(scores[at:at+rows], x[at*treeFeatures:])
			}
		}
		n += len(scores)
		if took := ownTime() - begin; took >= slice {
			return float64(took.Nanoseconds()) / float64(n)
		}
	}
}

// ownTime is the CPU time of this process, or the wall-clock time if the system does not report it.
func ownTime() time.Duration {
	if cpu, ok := rig.CPU(os.Getpid()); ok {
		return cpu
	}
	return time.Duration(time.Now().UnixNano())
}

// Table writes the comparison for people.
func (t *Trees) Table(w io.Writer) error {
	out := table.New(">trees", ">rows", ">ns per row and tree", ">XGBoost", ">ours / XGBoost", ">spread", "target")
	for _, b := range t.Blocks {
		cells := []any{b.Trees, b.Rows, threeDigits(b.Ours.Median), "-", "-", "-", "-"}
		if b.Ratio != nil {
			verdict := "reached"
			if !reached("<=", b.Ratio.Median, 1) {
				verdict = "MISSED"
			}
			cells = append(cells[:3], threeDigits(b.XGBoost.Median), fmt.Sprintf("%.2fx", b.Ratio.Median),
				fmt.Sprintf("%.2fx..%.2fx", b.Ratio.Min, b.Ratio.Max), "<= 1.00x "+verdict)
		}
		out.Row(cells...)
	}
	if err := out.Text(w); err != nil {
		return err
	}
	with := "XGBoost " + t.XGBoost
	if t.XGBoost == "" {
		with = fmt.Sprintf("XGBoost was not measured: %s.\nXGBoost 1.7.4 took %d ns per row and tree at 1,024 rows on another machine (cited, not measured here)", t.Missing, citedNS)
	}
	_, err := fmt.Fprintf(w, "\n%s\none thread, %d features, trees of depth %d; %s", with, treeFeatures, treeDepth, t.end(""))
	return err
}
