package fleet

import (
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// SetByExecutor is the author of a rollout that the executor set itself: at its start, and after its lease lapsed.
const SetByExecutor = "executor"

// maxLine bounds the text of an error, in bytes, because messages from services go into journals and evidence.
const maxLine = 2000

// OneLine returns the text of an error, or of joined errors, in one line without control characters.
func OneLine(err error) string {
	if err == nil {
		return ""
	}
	return text.Clean(strings.ReplaceAll(err.Error(), "\n", "; "), maxLine)
}

// DescribeRollout describes a rollout and who set it.
func DescribeRollout(r *executorv1.Rollout) string {
	clean := func(s string) string { return text.Clean(s, maxReason) }
	if r.GetAwaitingRenewal() { // nobody set the 0 %
		return fmt.Sprintf("it has restarted and is at 0 %% until %s renews its lease: %q", clean(r.GetHolder()), clean(r.GetReason()))
	}
	line := fmt.Sprintf("its rollout was set to %g %%, %s, by %s", r.GetPercent(), Mode(r.GetMode()), clean(r.GetSetBy()))
	if from := r.GetSetFrom(); from != "" {
		line += " at " + clean(from)
	}
	if h := r.GetHolder(); h != "" {
		line += ", held by " + clean(h)
	}
	if t := r.GetSetTime(); t != nil {
		line += ", at " + t.AsTime().Format(time.TimeOnly) + " UTC"
	}
	return fmt.Sprintf("%s: %q", line, clean(r.GetReason()))
}
