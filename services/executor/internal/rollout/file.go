package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	fileName   = "rollout.json"
	fileSchema = "greenlight/rollout/v1"
)

// file is a rollout on disk.
type file struct {
	Schema   string  `json:"schema"`
	Percent  float64 `json:"percent"`
	Mode     string  `json:"mode"`
	Revision uint64  `json:"revision"`
	Holder   string  `json:"holder,omitempty"`
	// Expires is nil without a lease.
	Expires *time.Time `json:"lease_expire_time,omitempty"`
	LeaseS  float64    `json:"lease_s,omitempty"`
	By      string     `json:"set_by"`
	From    string     `json:"set_from,omitempty"`
	Reason  string     `json:"reason"`
	Time    time.Time  `json:"set_time"`
	Ended   string     `json:"ended_holder,omitempty"`
}

func (k *Keeper) path() string { return filepath.Join(k.opts.Dir, fileName) }

// save writes the rollout. Without a folder it does nothing.
func (k *Keeper) save(r *Rollout) error {
	if k.opts.Dir == "" {
		return nil
	}
	r = r.wanted()
	f := file{
		Schema: fileSchema, Percent: r.Percent, Mode: modeWord(r.Mode), Revision: r.Revision, Holder: r.Holder, LeaseS: r.Lease.Seconds(),
		By: r.By, From: r.From, Reason: r.Reason, Time: r.Time.UTC(), Ended: r.Ended,
	}
	if !r.Expires.IsZero() {
		expires := r.Expires.UTC()
		f.Expires = &expires
	}
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	err = durable.WriteFile(k.path(), 0o644, func(w io.Writer) error {
		_, err := w.Write(append(raw, '\n'))
		return err
	})
	if err != nil {
		k.writeErrors.Add(1)
	}
	return err
}

// maxFile limits the file, in bytes. A rollout needs less.
const maxFile = 64 << 10

// first returns the rollout to start with, without its sampler, and reports whether it must be written.
func (k *Keeper) first(now time.Time) (r *Rollout, write bool, err error) {
	start := &Rollout{
		Percent: k.opts.Percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Revision: 1, By: byExecutor, Time: now,
		Reason: "--sample-percent",
	}
	if start.Percent == 0 {
		start.Mode = executorv1.RolloutMode_ROLLOUT_MODE_OFF
	}
	if k.opts.Dir == "" {
		return start, false, nil
	}
	raw, err := durable.ReadFile(k.path(), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return start, false, nil
	}
	if err == nil {
		r, err = parse(raw, now)
	} else if !errors.Is(err, durable.ErrTooLarge) {
		return nil, false, err
	}
	if err != nil {
		aside, asideErr := durable.SetAside(k.path(), now)
		if asideErr != nil && !durable.Unsure(asideErr) {
			return nil, false, fmt.Errorf("%s: %w; and it cannot be set aside: %w", k.path(), err, asideErr)
		}
		k.opts.Logger.Error("the rollout cannot be read: no request gets a shadow until an operator sets it", "error", err, "file", k.path(), "set_aside_as", aside)
		return &Rollout{
			// A revision that no canary has seen, so that none mistakes this rollout for its own.
			Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Revision: uint64(max(1, now.UnixMilli())), By: byExecutor, Time: now,
			Reason: fileName + " could not be read",
		}, true, nil // without a file, the next start would use --sample-percent
	}
	if r.Holder != "" {
		k.opts.Logger.Warn("the rollout is under a lease: no request gets a shadow until its holder renews it", "percent", r.Percent,
			"mode", modeWord(r.Mode), "revision", r.Revision, "holder", r.Holder, "lease_left", r.left(now), "by", r.By, "reason", r.Reason)
		return r.awaiting(), false, nil
	}
	k.opts.Logger.Info("the rollout continues after the restart", "percent", r.Percent, "mode", modeWord(r.Mode), "revision", r.Revision,
		"by", r.By, "reason", r.Reason)
	return r, false, nil
}

// parse decodes a rollout and checks that a call could have set it.
func parse(raw []byte, now time.Time) (*Rollout, error) {
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	mode, ok := executorv1.RolloutMode_value["ROLLOUT_MODE_"+strings.ToUpper(f.Mode)]
	lease := time.Duration(f.LeaseS * float64(time.Second)).Round(time.Millisecond)
	c := change{percent: f.Percent, mode: executorv1.RolloutMode(mode), lease: lease, holder: f.Holder}
	switch err := c.validate(); {
	case f.Schema != fileSchema:
		return nil, fmt.Errorf("schema %q: want %q", f.Schema, fileSchema)
	case err != nil || !ok:
		return nil, fmt.Errorf("mode %q: %w", f.Mode, err)
	case f.Revision == 0 || f.Revision > maxRevision/2 || (f.Expires == nil) != (lease == 0):
		return nil, fmt.Errorf("revision %d, lease of %s with expiry %v", f.Revision, lease, f.Expires)
	}
	r := &Rollout{
		Percent: f.Percent, Mode: c.mode, Revision: f.Revision, Holder: f.Holder, Lease: lease,
		By: f.By, From: f.From, Reason: f.Reason, Time: f.Time, Ended: f.Ended,
	}
	if f.Expires != nil {
		// If the clock was set back meanwhile, the holder still has at most its full lease to renew it.
		r.Expires = now.Add(min(f.Expires.Sub(now), lease))
	}
	return r, nil
}

// modeWord returns the mode for files, logs and labels, for example "observe_only".
func modeWord(m executorv1.RolloutMode) string {
	return strings.ToLower(strings.TrimPrefix(m.String(), "ROLLOUT_MODE_"))
}

const (
	// writePeriod is the time between retries of a failed write.
	writePeriod = time.Second
	// writeWait bounds how long a call waits for the disk.
	writeWait = 2 * time.Second
)

// errSlow is returned when the disk hangs.
var errSlow = fmt.Errorf("the disk has not answered for %s", writeWait)

// take acquires the semaphore for the disk and reports whether it succeeded within writeWait. [Keeper.give] releases it.
func (k *Keeper) take() bool {
	timer := time.NewTimer(writeWait)
	defer timer.Stop()
	select {
	case k.disk <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (k *Keeper) give() { <-k.disk }

// flush writes the rollout in force until the file has it. After a failure it schedules a retry. The caller holds the
// semaphore.
func (k *Keeper) flush() error {
	for {
		r := k.now.Load()
		if r == k.saved {
			if k.failing.Swap(false) {
				k.opts.Logger.Info("the rollout is written again", "revision", r.Revision)
			}
			return nil
		}
		if err := k.save(r); err != nil {
			if !k.failing.Swap(true) {
				k.opts.Logger.Error("the rollout was not written: a restart may bring back the previous one", "error", err)
			}
			k.mu.Lock()
			k.later(writePeriod)
			k.mu.Unlock()
			return err
		}
		k.saved = r
	}
}

// later schedules a write of the rollout in force. The caller holds the lock.
func (k *Keeper) later(after time.Duration) {
	switch {
	case k.stopped:
	case k.again == nil:
		k.again = time.AfterFunc(after, k.retry)
	default:
		k.again.Reset(after)
	}
}

func (k *Keeper) retry() {
	if k.take() {
		defer k.give()
		_ = k.flush() // logged and counted
		return
	}
	k.mu.Lock()
	k.later(writePeriod)
	k.mu.Unlock()
}

// write is flush for a call, which waits at most writeWait. What is not written by then is written later.
func (k *Keeper) write() error {
	written := make(chan error, 1)
	go func() {
		if !k.take() {
			k.failing.Store(true)
			k.mu.Lock()
			k.later(writePeriod)
			k.mu.Unlock()
			written <- errSlow
			return
		}
		defer k.give()
		written <- k.flush()
	}()
	timer := time.NewTimer(writeWait)
	defer timer.Stop()
	select {
	case err := <-written:
		return err
	case <-timer.C:
		k.failing.Store(true)
		k.mu.Lock()
		k.later(writePeriod)
		k.mu.Unlock()
		return errSlow
	}
}

// Trouble describes a failing folder. It is empty if the rollout is written, or if there is no folder.
func (k *Keeper) Trouble() string {
	if k.failing.Load() {
		return "the rollout is not written"
	}
	return ""
}
