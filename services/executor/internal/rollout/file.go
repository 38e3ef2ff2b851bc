package rollout

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
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
	// Plan is nil if there is none.
	Plan *outcome.Plan `json:"quality_plan,omitempty"`
	// Gate is nil if there is none. If there is one, Percent is the contract's percent.
	Gate *gate.Record `json:"gate,omitempty"`
	// Demoted is the revision of the last group record whose gate was demoted.
	Demoted uint64 `json:"demoted_record,omitempty"`
}

// save writes the rollout. Without a folder it does nothing.
func (k *Keeper) save(r *Rollout) error {
	if k.opts.Dir == "" {
		return nil
	}
	r = r.wanted()
	f := &file{
		Schema: fileSchema, Percent: r.percent(), Mode: modeWord(r.Mode), Revision: r.Revision, Holder: r.Holder, LeaseS: r.Lease.Seconds(),
		By: r.By, From: r.From, Reason: r.Reason, Time: r.Time.UTC(), Ended: r.Ended,
		Gate: r.Gate.Record(), Demoted: r.Demoted,
	}
	if !r.Expires.IsZero() {
		expires := r.Expires.UTC()
		f.Expires = &expires
	}
	if r.Plan != (outcome.Plan{}) {
		f.Plan = &r.Plan
	}
	err := k.file.Save(f)
	if err != nil {
		k.writeErrors.Add(1)
	}
	return err
}

// first returns the rollout at startup, without its sampler, and reports whether it must be written.
func (k *Keeper) first(now time.Time) (r *Rollout, write bool, err error) {
	start := &Rollout{
		Percent: k.opts.Percent, Mode: observe, Revision: 1, By: byExecutor, Time: now,
		Reason: "--sample-percent",
	}
	if start.Percent == 0 {
		start.Mode = off
	}
	if k.opts.Dir == "" {
		return start, false, nil
	}
	_, err = k.file.Load(func(f *file) (err error) {
		r, err = f.rollout(now)
		return err
	})
	var unusable *durable.UnusableError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return start, false, nil
	case err == nil && k.opts.Group != "":
		return k.grouped(r, now)
	case errors.As(err, &unusable):
		k.opts.Logger.Error("the rollout cannot be read: no request gets a shadow until an operator sets it", "error", unusable.Err,
			"file", k.file.Path, "set_aside_as", unusable.Aside)
		return &Rollout{
			// A revision that no canary has seen, so that none mistakes this rollout for its own.
			Mode: off, Revision: uint64(max(1, now.UnixMilli())), By: byExecutor, Time: now,
			Reason: fileName + " could not be read",
		}, true, nil // without a file, the next start would use --sample-percent
	case err != nil:
		return nil, false, err
	case r.Gate != nil && !k.opts.Gate.Allowed():
		return k.ungated(r, now), true, nil
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

// ungated returns the rollout that replaces a gated one if executor was started without --allow-gated.
func (k *Keeper) ungated(r *Rollout, now time.Time) *Rollout {
	if r.Mode != gated { // it has lapsed or was demoted
		r.Gate = nil
		return r
	}
	k.opts.Logger.Warn("executor was restarted without --allow-gated: no model decides, and shadows go on", "percent", r.Gate.Observe, "holder", r.Holder)
	return &Rollout{
		Percent: r.Gate.Observe, Mode: observe, Revision: r.Revision + 1, By: byExecutor, Time: now, Ended: r.Holder, Plan: r.Plan,
		Reason: "executor was restarted without --allow-gated: no model decides",
	}
}

// rollout returns the rollout of a file, or an error if no call could have set it.
func (f *file) rollout(now time.Time) (*Rollout, error) {
	mode, ok := executorv1.RolloutMode_value["ROLLOUT_MODE_"+strings.ToUpper(f.Mode)]
	lease := time.Duration(f.LeaseS * float64(time.Second)).Round(time.Millisecond)
	c := change{percent: f.Percent, mode: executorv1.RolloutMode(mode), lease: lease, holder: f.Holder}
	if f.Plan != nil {
		if err := f.Plan.Validate(); err != nil {
			return nil, err
		}
		c.plan = *f.Plan
	}
	terms, err := f.terms(c.mode)
	if err != nil {
		return nil, err
	}
	if c.mode == gated {
		c.gate = terms
	}
	switch err := c.validate(); {
	case err != nil || !ok:
		return nil, fmt.Errorf("mode %q: %w", f.Mode, err)
	case f.Revision == 0 || f.Revision > maxRevision/2 || (f.Expires == nil) != (lease == 0):
		return nil, fmt.Errorf("revision %d, lease of %s with expiry %v", f.Revision, lease, f.Expires)
	}
	r := &Rollout{
		Plan: c.plan, Percent: c.shadows(), Decides: c.decides(), Mode: c.mode, Revision: f.Revision, Holder: f.Holder, Lease: lease,
		By: f.By, From: f.From, Reason: f.Reason, Time: f.Time, Ended: f.Ended, Gate: terms, Demoted: f.Demoted,
	}
	if f.Expires != nil {
		// If the clock was set back meanwhile, the holder still gets at most its full lease to renew it.
		r.Expires = now.Add(min(f.Expires.Sub(now), lease))
	}
	return r, nil
}

// terms returns the gate in the file; nil if there is none. A lapsed or demoted gate decides nothing.
func (f *file) terms(mode executorv1.RolloutMode) (*gate.Terms, error) {
	if f.Gate == nil {
		return nil, nil //nolint:nilnil // a rollout without a gate
	}
	percent := 0.0
	if mode == gated {
		percent = f.Percent
	}
	if f.Plan == nil {
		return nil, errors.New("a gate without a quality plan")
	}
	return f.Gate.Terms(percent, f.Plan.DisagreementCap)
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

// flush writes the rollout in force until the file has it. The caller is the saver, or holds it.
func (k *Keeper) flush() error {
	for {
		r := k.now.Load()
		if r == k.saved || k.saved != nil && r.Record != 0 && r.Revision == k.saved.Revision { // the record was renewed
			return nil
		}
		if err := k.save(r); err != nil {
			return err
		}
		k.saved = r
	}
}

// Trouble describes a failing folder. It is empty if the rollout is written, or if there is no folder.
func (k *Keeper) Trouble() string { return k.saver.Trouble() }
