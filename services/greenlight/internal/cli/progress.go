package cli

import (
	"github.com/schollz/progressbar/v3"
)

// Progress draws a bar on standard error while something long goes on, if that is a terminal; otherwise it does
// nothing. The returned function is told of the work done; call it with done == total to end the bar.
func (c Console) Progress(what string) func(done, total int) {
	if c.bars == nil {
		return func(int, int) {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total int) {
		if bar == nil {
			bar = progressbar.NewOptions(total,
				progressbar.OptionSetWriter(c.bars), progressbar.OptionSetDescription(what),
				progressbar.OptionSetWidth(30), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
				progressbar.OptionSetPredictTime(true))
		}
		if bar.GetMax() != total {
			bar.ChangeMax(total)
		}
		_ = bar.Set(done) // a terminal that cannot be written to shows nothing
	}
}
