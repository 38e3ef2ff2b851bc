package fleetgroup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Screen draws a table of the group on a terminal once per [group.ReportPeriod] until ctx ends. height returns the height of
// the terminal in lines.
func (g *Group) Screen(ctx context.Context, out io.Writer, height func() int) error {
	for {
		var frame bytes.Buffer
		frame.WriteString("\x1b[H\x1b[2J")
		if err := g.Listing(time.Now()).Table(&frame, max(1, height()-4)); err != nil {
			return err
		}
		if _, err := out.Write(frame.Bytes()); err != nil {
			return err
		}
		if !traffic.Pause(ctx, group.ReportPeriod) {
			return nil
		}
	}
}

// Lines writes a line whenever an executor appears, changes or disappears, until ctx ends.
func (g *Group) Lines(ctx context.Context, out io.Writer) error {
	before := map[string]string{}
	for {
		now := time.Now()
		seen := map[string]bool{}
		for _, r := range g.Listing(now).Executors {
			seen[r.Executor] = true
			line := fmt.Sprintf("%s (%s) at %g %%, %s, revision %d, admitted %v", r.Executor, r.Host, r.Percent, r.Mode, r.Revision, r.Admitted)
			if r.Trouble != "" {
				line += ": " + r.Trouble
			}
			if before[r.Executor] == line {
				continue
			}
			before[r.Executor] = line
			if _, err := fmt.Fprintf(out, "%s  %s\n", now.UTC().Format(time.TimeOnly+"Z"), line); err != nil {
				return err
			}
		}
		for id := range before {
			if seen[id] {
				continue
			}
			delete(before, id)
			if _, err := fmt.Fprintf(out, "%s  %s is gone: no report for %v\n", now.UTC().Format(time.TimeOnly+"Z"), id, group.Presence); err != nil {
				return err
			}
		}
		news := g.News()
		timer := time.NewTimer(time.Second) // to notice executors that are gone
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-news:
			timer.Stop()
			if !traffic.Pause(ctx, 100*time.Millisecond) { // limits the rate: there may be 5,000 reports a second
				return nil
			}
		case <-timer.C:
		}
	}
}
