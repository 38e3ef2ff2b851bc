package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	fileName   = "gate.json"
	fileSchema = "greenlight/gate/v1"
	// killName is the file whose existence kills the gate.
	killName = "gate.kill"
	// counterName is the file of the counter of changes, setsName that of how often a latch was set.
	counterName, setsName = "gate.changes", "gate.sets"

	// writePeriod is the time between saves, and between retries of a failed one.
	writePeriod = time.Second
	// writeWait bounds how long a call waits for the disk.
	writeWait = 2 * time.Second
)

// file is the state on disk.
type file struct {
	Schema  string  `json:"schema"`
	Latches []latch `json:"latches"`
	// Sets is the counter of latches that Latches covers.
	Sets uint64 `json:"sets"`
	// Changes is the counter of changes that Hour covers.
	Changes uint64   `json:"changes"`
	Hour    []minute `json:"hour"`
}

// written is what the file has. Without a file that is no latch.
type written struct {
	latched *latches
	sum     minute
}

func (k *Keeper) disk() durable.State[file] {
	return durable.State[file]{Path: filepath.Join(k.opts.Dir, fileName), Schema: fileSchema}
}

// load reads the state of the folder. now is the time of the start.
func (k *Keeper) load(now time.Time) (err error) {
	if k.budget.total, err = durable.OpenCounter(filepath.Join(k.opts.Dir, counterName)); err != nil {
		return err
	}
	if k.sets, err = durable.OpenCounter(filepath.Join(k.opts.Dir, setsName)); err != nil {
		return errors.Join(err, k.budget.total.Close())
	}
	var unusable *durable.UnusableError
	var set latches
	write := false
	f, err := k.disk().Load(func(f *file) (err error) {
		set, err = f.validate()
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f = &file{Changes: k.budget.total.Load()}
	case errors.As(err, &unusable):
		k.opts.Logger.Error("the state of the gate cannot be read: it is killed until a person clears it", "error", unusable.Err,
			"file", k.disk().Path, "set_aside_as", unusable.Aside)
		f = &file{}
		set[killed] = &latch{Latch: word(killed), By: byExecutor, Reason: fileName + " could not be read", Time: now}
	case err != nil:
		return errors.Join(err, k.budget.total.Close(), k.sets.Close())
	}
	if k.sets.Load() > f.Sets && set[killed] == nil { // the disk was full, and the process was killed
		set[killed] = &latch{Latch: word(killed), By: byExecutor, Reason: "a latch was set before the restart, and could not be written", Time: now}
		k.opts.Logger.Error("a latch of the gate was set before the restart, and could not be written: it is killed until a person clears it")
		write = true
	}
	if n := k.budget.total.Load(); n > f.Changes { // the process was killed before it saved the latest changes
		latest := minute{Minute: now.Unix() / 60, Changed: n - f.Changes}
		for _, m := range f.Hour {
			latest.Minute = max(latest.Minute, m.Minute)
		}
		f.Hour = append(f.Hour, latest)
	}
	k.latched.Store(&set)
	k.budget.restore(now, f.Hour)
	if err == nil && !write {
		k.written = written{&set, k.budget.now(now)}
	}
	return nil
}

// validate returns the latches of the file.
func (f *file) validate() (set latches, err error) {
	for i := range f.Latches {
		l := &f.Latches[i]
		which := executorv1.GateLatch(executorv1.GateLatch_value["GATE_LATCH_"+strings.ToUpper(l.Latch)])
		if which <= 0 || int(which) >= len(set) || set[which] != nil {
			return set, fmt.Errorf("latch %q is not known, or is there twice", l.Latch)
		}
		set[which] = l
	}
	seen := map[int64]bool{}
	for _, m := range f.Hour {
		if m.Minute < 0 || m.Minute > maxMinute || m.Requests > maxCount || m.Changed > maxCount || seen[m.Minute%hour] {
			return set, fmt.Errorf("the counts of minute %d are impossible", m.Minute)
		}
		seen[m.Minute%hour] = true
	}
	return set, nil
}

const (
	// maxMinute is a minute of the year 9999.
	maxMinute = 253402300800 / 60
	// maxCount is the largest count of a minute.
	maxCount = 1 << 50
)

// flush reads the kill file, and writes the state unless the file has it. The saver calls it, or a caller that holds the saver.
func (k *Keeper) flush() error {
	k.CheckKillFile()
	for {
		l, sets := k.snapshot()
		at := time.Now()
		sum, was := k.budget.now(at), &k.written.sum
		// The requests matter, and are worth a write every second, only while a gate is set.
		if l == k.written.latched && sum.Changed == was.Changed && (sum.Requests == was.Requests || k.standing(at).Terms == nil) {
			return nil
		}
		if err := k.save(l, sets); err != nil {
			return err
		}
		if l == k.latched.Load() {
			return nil
		}
	}
}

// snapshot returns the latches, and how often one was set until then; 0 without a folder.
func (k *Keeper) snapshot() (l *latches, sets uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sets != nil {
		sets = k.sets.Load()
	}
	return k.latched.Load(), sets
}

// save writes the latches of a snapshot with the counts. Without a folder it does nothing. The caller holds the saver.
func (k *Keeper) save(l *latches, sets uint64) error {
	if k.opts.Dir == "" {
		return nil
	}
	at := time.Now()
	f := &file{Schema: fileSchema, Latches: []latch{}, Sets: sets, Changes: k.budget.total.Load(), Hour: k.budget.copy(at)}
	for _, which := range l.list() {
		f.Latches = append(f.Latches, *l[which])
	}
	sum := k.budget.now(at)
	if err := k.disk().Save(f); err != nil {
		k.metrics.writeErrors.Add(1)
		return err
	}
	k.written = written{latched: l, sum: sum}
	return nil
}
