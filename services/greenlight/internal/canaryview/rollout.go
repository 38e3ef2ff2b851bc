package canaryview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// maxLine bounds a printed text from a service, in bytes.
const maxLine = 512

// Line returns a text from a service for printing: on one line, shortened.
func Line(s string) string { return text.Clean(s, maxLine) }

// Rollout returns a rollout as a line of text.
func Rollout(r *executorv1.Rollout) string {
	line := fmt.Sprintf("%v %%, %s, revision %d, ", r.GetPercent(), fleet.Mode(r.GetMode()), r.GetRevision())
	switch holder := Line(r.GetHolder()); {
	case r.GetAwaitingRenewal():
		line += fmt.Sprintf("until %s renews its lease after a restart", holder)
	case holder != "":
		line += fmt.Sprintf("held by %s for %s more", holder, time.Until(r.GetLeaseExpireTime().AsTime()).Round(time.Second))
	default:
		line += "without a lease"
	}
	if p := r.GetPlan(); p != nil {
		line += fmt.Sprintf(", quality plan %.12s", Line(p.GetDigest()))
	}
	line += ", set by " + Line(r.GetSetBy())
	if t := r.GetSetTime(); t != nil {
		line += " at " + t.AsTime().UTC().Format(time.RFC3339)
	}
	return line + ": " + Line(r.GetReason())
}

// Rollouts writes the current rollout of each executor, or the error if it cannot be reached.
func Rollouts(ctx context.Context, out io.Writer, executors []fleet.Executor) {
	for _, now := range canary.Rollouts(ctx, executors) {
		if now.Err == nil {
			_, _ = fmt.Fprintf(out, "executor  %s: %s\n", now.Addr, now.Text)
			continue
		}
		_, _ = fmt.Fprintf(out, "executor  %s: %v\n", now.Addr, fleet.Plain(now.Err))
		if hint := fleet.Hint(now.Err); hint != "" {
			_, _ = fmt.Fprintf(out, "          hint: %s\n", hint)
		}
	}
}

// Stops writes a line per executor, and returns the errors of those that were not stopped.
func Stops(out io.Writer, stops []canary.Stop) error {
	var failed error
	for _, stop := range stops {
		if stop.Err != nil {
			_, _ = fmt.Fprintf(out, "executor  %s FAILED: %v\n", stop.Addr, fleet.Plain(stop.Err))
			failed = errors.Join(failed, stop.Err)
			continue
		}
		_, _ = fmt.Fprintf(out, "executor  %s shadows nothing, read back in %.1f ms\n", stop.Addr, float64(stop.Took)/float64(time.Millisecond))
	}
	return failed
}
