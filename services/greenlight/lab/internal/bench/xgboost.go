package bench

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

//go:embed xgboostside.py
var xgboostScript string

// xgboost is a Python process that scores with XGBoost.
type xgboost struct {
	version string
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// errNoXGBoost is returned if no interpreter has XGBoost.
var errNoXGBoost = errors.New("cannot import xgboost")

// startXGBoost starts the first interpreter that has XGBoost. The first file has the rows; it loads the others.
func startXGBoost(ctx context.Context, opts TreesOptions, files []string) (*xgboost, error) {
	tried := []string{"python3", "/usr/bin/python3"}
	if opts.Python != "" {
		tried = []string{opts.Python}
	}
	for _, name := range tried {
		if err := exec.CommandContext(ctx, name, "-c", "import numpy, xgboost").Run(); err != nil {
			continue
		}
		x := &xgboost{process: exec.CommandContext(ctx, name, append([]string{"-c", xgboostScript}, files...)...)}
		x.process.Stderr = opts.Stderr
		out, err := x.process.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if x.in, err = x.process.StdinPipe(); err != nil {
			return nil, err
		}
		if err := x.process.Start(); err != nil {
			return nil, err
		}
		x.out = bufio.NewReader(out)
		if x.version, err = x.line(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s could not load the models: %w", name, err), x.stop())
		}
		return x, nil
	}
	return nil, fmt.Errorf("%s: %w (Debian: apt-get install python3-xgboost; --python names another interpreter)", strings.Join(tried, " and "), errNoXGBoost)
}

func (x *xgboost) stop() error { return errors.Join(x.in.Close(), x.process.Wait()) }

func (x *xgboost) line() (string, error) {
	line, err := x.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (x *xgboost) ask(model, rows int, seconds float64) (string, error) {
	if _, err := fmt.Fprintln(x.in, model, rows, seconds); err != nil {
		return "", err
	}
	return x.line()
}

// time returns XGBoost's nanoseconds per row.
func (x *xgboost) time(model, rows int, slice time.Duration) (float64, error) {
	answer, err := x.ask(model, rows, slice.Seconds())
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(answer, 64)
}

// agrees checks that both libraries give the same scores, up to the last bit of a float32, in which they are computed.
func (x *xgboost) agrees(model int, scores []float64) error {
	answer, err := x.ask(model, len(scores), 0)
	if err != nil {
		return err
	}
	theirs := strings.Fields(answer)
	if len(theirs) != len(scores) {
		return fmt.Errorf("XGBoost gave %d scores, want %d", len(theirs), len(scores))
	}
	for i, s := range theirs {
		if v, err := strconv.ParseFloat(s, 64); err != nil || !(math.Abs(v-scores[i]) <= 6e-8) {
			return fmt.Errorf("row %d: XGBoost scores %s, want %v", i, s, scores[i])
		}
	}
	return nil
}
