package canaryview

import (
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// Status writes what is known of a run from its journal. running says whether a controller on this machine runs it now.
func Status(out io.Writer, r *canary.Record, model string, running bool) error {
	for _, f := range append([][2]string{{"model", model}}, facts(r)...) {
		if f[0] == "decision" && r.Decision == canary.Running {
			f[1] = "RUNNING"
			if !running {
				f[1] = "its controller ended without a word: greenlight canary start --resume goes on with it"
			}
		}
		if _, err := fmt.Fprintf(out, "%-13s %s\n", f[0], f[1]); err != nil {
			return err
		}
	}
	return Table(out, r)
}
