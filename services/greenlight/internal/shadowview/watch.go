// Package shadowview prints comparisons of executor's shadows for people.
package shadowview

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// columns are the widths of the columns. A table of pkg/table needs all rows before it can align them, but here rows arrive
// for hours. The id is last, because it may have 256 bytes.
const columns = "%-24s  %-13s  %8s  %8s  %9s  %9s  %-8s  %-12s  %s\n"

// Summary counts what a watch has printed.
type Summary struct {
	// Outcomes counts the printed comparisons by outcome.
	Outcomes map[shadow.Outcome]uint64
	// Dropped is the number of selected comparisons that executor could not send in time.
	Dropped uint64
}

// Total returns how many comparisons were printed.
func (s Summary) Total() (n uint64) {
	for _, count := range s.Outcomes {
		n += count
	}
	return n
}

// String returns the counts on one line.
func (s Summary) String() string {
	line := text.Count(int(s.Total()), "comparison")
	var parts []string
	for _, o := range shadow.Outcomes() {
		if n := s.Outcomes[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%s; %d dropped", line, s.Dropped)
}

// Watch prints comparisons, one line each, until ctx ends or count of them are printed; 0 means no limit. The end of ctx is
// not an error.
func Watch(ctx context.Context, client executorv1.ShadowServiceClient, req *executorv1.WatchComparisonsRequest, count uint64, out io.Writer) (Summary, error) {
	s := Summary{Outcomes: map[shadow.Outcome]uint64{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream after count comparisons
	stream, err := client.WatchComparisons(ctx, req)
	if err != nil {
		return s, err
	}
	if header, _ := stream.Header(); header != nil { // executor has admitted the call; otherwise Recv returns the error
		if _, err := fmt.Fprintf(out, columns, "time", "outcome", "baseline", "shadow", "delta", "ms", "schema", "symbol", "id"); err != nil {
			return s, err
		}
	}
	for count == 0 || s.Total() < count {
		c, err := stream.Recv()
		if ctx.Err() != nil && status.Code(err) == codes.Canceled {
			return s, nil
		} else if err != nil {
			return s, err
		}
		s.Outcomes[shadow.Outcome(c.GetOutcome())]++
		s.Dropped = c.GetDroppedTotal()
		if err := printComparison(out, c); err != nil {
			return s, err
		}
	}
	return s, nil
}

// printComparison prints a line, and a second one with the features if there are any.
func printComparison(out io.Writer, c *executorv1.WatchComparisonsResponse) error {
	score, delta := "-", "-"
	if c.ShadowScore != nil {
		score, delta = fmt.Sprintf("%.6f", c.GetShadowScore()), fmt.Sprintf("%+.6f", c.GetDelta())
	}
	_, err := fmt.Fprintf(out, columns, c.GetTime().AsTime().UTC().Format("2006-01-02T15:04:05.000Z"), shadow.Outcome(c.GetOutcome()),
		fmt.Sprintf("%.6f", c.GetBaselineScore()), score, delta, strconv.FormatFloat(c.GetLatencyMs(), 'f', 2, 64),
		orNone(c.GetSchema()), orNone(c.GetSymbol()), c.GetRequestId())
	if err != nil || c.GetFeatures() == nil {
		return err
	}
	_, err = fmt.Fprintln(out, "  "+features(c.GetFeatures()))
	return err
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// features formats the values by name, with all digits. Values of a schema that this program does not know are numbered.
func features(v *executorv1.FeatureVector) string {
	schema, known := feature.Lookup(v.GetSchema())
	known = known && schema.Len() == len(v.GetValues())
	parts := make([]string, len(v.GetValues()))
	for i, x := range v.GetValues() {
		name := strconv.Itoa(i)
		if known {
			name = schema.Features[i].Name
		}
		parts[i] = name + "=" + strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strings.Join(parts, " ")
}

// Outcome returns the outcome with the name, and reports whether there is one.
func Outcome(name string) (executorv1.ShadowOutcome, bool) {
	for _, o := range shadow.Outcomes() {
		if o.String() == name {
			return executorv1.ShadowOutcome(o), true
		}
	}
	return 0, false
}
