package rows

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// PushSchema is the schema of a [Pushed].
const PushSchema = "greenlight/rows_push/v1"

// Pushed is the result of a push.
type Pushed struct {
	// Log is the folder of the log, To the URL of the dataset, Executor the id in the object names.
	Log      string `json:"feature_log"`
	To       string `json:"to"`
	Executor string `json:"executor"`
	// Uploaded counts the copied parts, UploadedBytes their bytes. Present counts those that the store already had.
	Uploaded      int   `json:"uploaded"`
	UploadedBytes int64 `json:"uploaded_bytes"`
	Present       int   `json:"present"`
	// Growing counts the parts that executor may still add rows to. A later push takes them when they are complete.
	Growing int `json:"growing"`
	// Failed counts the parts that cannot be pushed, because their objects have other content or because they are damaged, and
	// those that could not be read in the last pass. Problems holds the first errors.
	Failed   int      `json:"failed"`
	Problems []string `json:"problems"`
}

// maxProblems limits the problems of a [Pushed].
const maxProblems = 20

// Push copies the complete parts of a feature log to a store.
type Push struct {
	Log featurelog.Log
	// Executor is the id of the executor that writes the log.
	Executor string
	// Progress is called with the number of parts done in this pass, and the total.
	Progress func(done, total int)
	// Say is called with messages while [Push.Follow] waits.
	Say func(format string, args ...any)

	to     *bucket
	pushed Pushed
	// done lists, by day, the parts that need no retry. A day that is over and done has none: see finished.
	done     map[string]map[string]bool
	finished map[string]bool
	// lasting counts the parts of Failed that get no retry, and problems holds their errors. troubles holds the other errors,
	// by path.
	lasting  int
	problems []string
	troubles map[string]string
}

// NewPush returns a push of the log to the dataset with the URL.
func NewPush(store Store, log featurelog.Log, to, executor string) (*Push, error) {
	if !validID(executor) {
		return nil, fmt.Errorf("executor id %q: want 1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit", executor)
	}
	b, err := store.bucket(to)
	if err != nil {
		return nil, err
	}
	return &Push{
		Log: log, Executor: executor, Progress: func(int, int) {}, Say: func(string, ...any) {}, to: b,
		pushed: Pushed{Log: log.String(), To: b.String(), Executor: executor, Problems: []string{}},
		done:   map[string]map[string]bool{}, finished: map[string]bool{},
	}, nil
}

func validID(s string) bool {
	for i, r := range s {
		word := r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
		if !word && (i == 0 || r != '.' && r != '-' && r != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Pushed returns the result so far.
func (p *Push) Pushed() *Pushed { return &p.pushed }

// Err returns an error if parts could not be pushed.
func (p *Push) Err() error {
	if p.pushed.Failed == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be pushed; the first: %s", text.Count(p.pushed.Failed, "part"), p.pushed.Problems[0])
}

// The days of any log.
var (
	beginning = time.Unix(0, 0).UTC()
	endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// settling is how long after its end a day may get parts. [Push.Follow] then stops reading the day, which bounds its memory. A
// disk that fails for that long has lost rows anyway; another push copies parts that came later.
const settling = 48 * time.Hour

// Once copies the complete parts that the store lacks. A part that cannot be copied does not stop the others: see [Push.Err].
// Once returns only errors of the store and of the folder.
func (p *Push) Once(ctx context.Context) error {
	total := 0
	for part, err := range p.Log.Parts(beginning, endOfTime) {
		if err != nil {
			return folder(err)
		}
		if !p.finished[part.Day] && !p.done[part.Day][part.Path()] {
			total++
		}
	}
	p.pushed.Growing, p.pushed.Failed, p.pushed.Problems = 0, p.lasting, append([]string{}, p.problems...)
	said := p.troubles
	p.troubles = map[string]string{}
	again, tried := map[string]bool{}, 0 // days
	for part, err := range p.Log.Parts(beginning, endOfTime) {
		if err != nil {
			return folder(err)
		}
		if p.finished[part.Day] || p.done[part.Day][part.Path()] {
			continue
		}
		switch err := p.part(ctx, part); {
		case errors.Is(err, featurelog.ErrGrowing):
			p.pushed.Growing++
			again[part.Day] = true
		case errors.Is(err, fs.ErrNotExist): // somebody has removed it
		case err != nil && !local(err):
			return err
		case err != nil && !lasts(err): // an error of this machine: the next pass may succeed
			again[part.Day] = true
			p.troubles[part.Path()] = err.Error()
			p.fail(err, said[part.Path()] != err.Error())
		default:
			if err != nil {
				p.fail(err, true)
				p.lasting++
				if len(p.problems) < maxProblems {
					p.problems = append(p.problems, err.Error())
				}
			}
			if p.done[part.Day] == nil {
				p.done[part.Day] = map[string]bool{}
			}
			p.done[part.Day][part.Path()] = true
		}
		tried++
		p.Progress(tried, max(total, tried))
	}
	over := time.Now().Add(-settling).UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	for day := range p.done {
		if day <= over && !again[day] {
			delete(p.done, day)
			p.finished[day] = true
		}
	}
	return nil
}

func local(err error) bool {
	var l *localError
	return errors.As(err, &l)
}

// lasts reports whether a retry of the part would fail with the same error.
func lasts(err error) bool {
	var differs *differsError
	var damaged *featurelog.DamagedError
	return errors.As(err, &differs) || errors.As(err, &damaged)
}

// folderError is an error of the log folder. It may be gone at the next try.
type folderError struct{ error }

// Unwrap returns the cause.
func (e *folderError) Unwrap() error { return e.error }

// folder wraps err, of the walk through the folder, in a [folderError] if the system refused the walk.
func folder(err error) error {
	if errors.As(err, new(syscall.Errno)) {
		return &folderError{err}
	}
	return err
}

func (p *Push) fail(err error, say bool) {
	p.pushed.Failed++
	if len(p.pushed.Problems) < maxProblems {
		p.pushed.Problems = append(p.pushed.Problems, err.Error())
	}
	if say {
		p.Say("FAILED    %v", err)
	}
}

// part copies one part.
func (p *Push) part(ctx context.Context, part featurelog.Part) error {
	f, err := p.Log.OpenPart(part)
	if errors.Is(err, featurelog.ErrGrowing) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return &localError{err}
	}
	defer f.Close()
	uploaded, size, err := p.to.put(ctx, filepath.ToSlash(part.In(p.Executor).Path()), f)
	switch {
	case err != nil:
		return err
	case uploaded:
		p.pushed.Uploaded++
		p.pushed.UploadedBytes += size
	default:
		p.pushed.Present++
	}
	return nil
}

// maxPause limits the pause after a failure to reach the store.
const maxPause = time.Minute

// Follow copies parts as they become complete, until ctx ends. It checks for them at every interval. While the store does not
// answer, or the folder cannot be read, it retries after pauses that grow up to a minute. It returns an error if the store
// refuses a request.
func (p *Push) Follow(ctx context.Context, interval time.Duration) error {
	var away, pause time.Duration
	var back string
	for ; !ended(ctx); traffic.Pause(ctx, pause) {
		before := p.pushed.Uploaded
		err := p.Once(ctx)
		if n := p.pushed.Uploaded - before; n > 0 {
			p.Say("pushed    %s", text.Count(n, "part"))
		}
		pause = interval
		var failed *storeError
		var unread *folderError
		inFolder := errors.As(err, &unread)
		switch {
		case ended(ctx):
		case refused(err), err != nil && !errors.As(err, &failed) && !inFolder:
			return err
		case err != nil:
			away = min(max(2*away, firstPause), maxPause)
			pause = max(away/2+rand.N(away/2), interval) // jitter, so that a fleet does not retry all at once
			p.Say("away      %v; the next try is in %v", err, pause.Round(time.Second))
			if back = p.to.String() + " answers again"; inFolder {
				back = p.Log.String() + " can be read again"
			}
		case away > 0:
			away = 0
			p.Say("back      %s", back)
		}
	}
	return nil
}

// ended reports whether the push was interrupted, which is how [Push.Follow] ends.
func ended(ctx context.Context) bool { return ctx.Err() != nil }
