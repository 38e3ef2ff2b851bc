package driftview

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Series is a CSV file of a watch. Every sample has one line per feature and one for the overall PSI. A new watch appends to
// an existing file.
type Series struct {
	file *os.File
}

var columns = []string{"time", "window_end_time", "model_version", "feature", "role", "psi", "status", "null_q99", "p_value", "rows", "verdict"}

// OpenSeries opens the file, or creates it with a line of headings. It returns an error if the file has other headings.
func OpenSeries(path string) (*Series, error) {
	f, err := durable.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	s := &Series{file: f}
	if err := s.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return s, nil
}

func (s *Series) begin() error {
	want := strings.Join(columns, ",")
	have, err := bufio.NewReader(s.file).ReadString('\n')
	switch {
	case errors.Is(err, io.EOF) && have == "":
		_, err = s.file.WriteString(want + "\n")
		return err
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case strings.TrimSpace(have) != want:
		return fmt.Errorf("the headings are %q, not those of a PSI series", strings.TrimSpace(have))
	}
	return nil
}

// Add appends a sample in one write, so that a kill leaves only complete samples. A report without a PSI adds no lines.
func (s *Series) Add(now time.Time, version string, r *Report) error {
	if r.Overall == nil {
		return nil
	}
	var lines bytes.Buffer
	w := csv.NewWriter(&lines)
	add := func(name, role string, v drift.Reading) error {
		q99, p := "", ""
		if v.Noise != nil {
			q99 = number(v.Q99)
		}
		if v.P != nil {
			p = number(*v.P)
		}
		return w.Write([]string{
			now.UTC().Format(time.RFC3339), r.Window.End.UTC().Format(time.RFC3339), version, name, role,
			number(v.PSI), string(v.Status), q99, p, strconv.Itoa(v.Samples), string(v.Verdict),
		})
	}
	errs := []error{add("overall", "mean", *r.Overall)}
	for _, f := range r.Features {
		errs = append(errs, add(f.Feature, string(f.Role), f.Reading))
	}
	if r.Weighted != nil {
		errs = append(errs, add("overall", "weighted", *r.Weighted))
	}
	w.Flush()
	if err := errors.Join(append(errs, w.Error())...); err != nil {
		return err
	}
	_, err := s.file.Write(lines.Bytes())
	return err
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 10, 64) }

// Close closes the file.
func (s *Series) Close() error { return s.file.Close() }
