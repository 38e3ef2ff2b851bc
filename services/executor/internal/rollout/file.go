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

// save writes the rollout; without a folder it does nothing.
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

// maxFile is more than a rollout's file has, in bytes.
const maxFile = 64 << 10

// first is the rollout to start with, and whether it must be written. It has no sampler yet.
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
		k.opts.Logger.Error("the rollout cannot be read: no request gets a shadow until somebody sets it", "error", err, "file", k.path(), "set_aside_as", aside)
		return &Rollout{
			// A revision that no canary has seen, so that none takes this for what it has set.
			Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Revision: uint64(max(1, now.UnixMilli())), By: byExecutor, Time: now,
			Reason: fileName + " could not be read",
		}, true, nil // without a file, the next start would begin with --sample-percent
	}
	if r.Holder != "" {
		k.opts.Logger.Warn("the rollout is under a lease: no request gets a shadow until its holder renews it", "percent", r.Percent,
			"mode", modeWord(r.Mode), "revision", r.Revision, "holder", r.Holder, "lease_left", r.left(now), "by", r.By, "reason", r.Reason)
		return r.awaiting(), false, nil
	}
	k.opts.Logger.Info("the rollout continues as it was", "percent", r.Percent, "mode", modeWord(r.Mode), "revision", r.Revision,
		"by", r.By, "reason", r.Reason)
	return r, false, nil
}

// parse reads a rollout, which must be one that could have been set.
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
		// The clock may have been set back meanwhile: the holder has at most its lease to renew it.
		r.Expires = now.Add(min(f.Expires.Sub(now), lease))
	}
	return r, nil
}

// modeWord is the mode as files, logs and labels have it: "observe_only".
func modeWord(m executorv1.RolloutMode) string {
	return strings.ToLower(strings.TrimPrefix(m.String(), "ROLLOUT_MODE_"))
}
