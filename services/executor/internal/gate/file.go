package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	fileName   = "gate.json"
	fileSchema = "greenlight/gate/v1"
	// killName is the file that kills the gate while it exists.
	killName = "gate.kill"
	// counterName is the file that counts changes, setsName the file that counts how often a latch was set.
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

// written is the content of the file: no latch if there is no file.
type written struct {
	latched *latches
	sum     minute
}

func (k *Keeper) disk() durable.State[file] {
	return durable.State[file]{Path: filepath.Join(k.opts.Dir, fileName), Schema: fileSchema}
}

// load reads the state of the folder. now is the time of the start. Unreadable state kills the gate: it may have contained a
// latch, or changes of the last hour.
func (k *Keeper) load(now time.Time) error {
	var unusable *durable.UnusableError
	var set latches
	write := false
	kill := func(reason string) {
		if set[killed] == nil {
			set[killed], write = &latch{Latch: word(killed), By: byExecutor, Reason: reason, Time: now}, true
		}
	}
	f, err := k.disk().Load(func(f *file) (err error) {
		set, err = f.validate()
		return err
	})
	first := errors.Is(err, fs.ErrNotExist)
	switch {
	case first:
		f = &file{}
	case errors.As(err, &unusable):
		k.opts.Logger.Error("the state of the gate cannot be read: it is killed until a person clears it", "error", unusable.Err,
			"file", k.disk().Path, "set_aside_as", unusable.Aside)
		f, set = &file{}, latches{}
		kill(fileName + " could not be read")
	case err != nil:
		return err
	}
	lost, err := k.loadCounters(f, first, write, &set, kill)
	if err != nil {
		return err
	}
	first = first && !lost
	if k.sets.Load() > f.Sets && set[killed] == nil { // the disk was full, and the process was killed
		k.opts.Logger.Error("a latch of the gate was set before the restart but could not be written: it is killed until a person clears it")
		kill("a latch was set before the restart but could not be written")
	}
	if n := k.budget.total.Load(); n > f.Changes && !first { // the process was killed before it saved the latest changes
		latest := minute{Minute: now.Unix() / 60, Changed: n - f.Changes}
		for _, m := range f.Hour {
			latest.Minute = max(latest.Minute, m.Minute)
		}
		f.Hour = append(f.Hour, latest)
	}
	k.latched.Store(&set)
	k.budget.restore(now, f.Hour)
	if !first && !write {
		k.written = written{&set, k.budget.now(now)}
	}
	return nil
}

// loadCounters opens the counters and reports whether any state was lost: a counter, a state that the folder has had, or, if lost is
// set, a state that cannot be read. It calls kill for each loss that it finds. A lost counter continues from the number in the file,
// which may be too low. The latch is saved before a new counter: otherwise the next start might find no loss.
func (k *Keeper) loadCounters(f *file, first, lost bool, set *latches, kill func(reason string)) (_ bool, err error) {
	counters := []struct {
		name    string
		counter **durable.Counter
		covered uint64
	}{{counterName, &k.budget.total, f.Changes}, {setsName, &k.sets, f.Sets}}
	for _, c := range counters {
		path := filepath.Join(k.opts.Dir, c.name)
		var unusable *durable.UnusableError
		switch *c.counter, err = durable.OpenCounter(path); {
		case err == nil || errors.Is(err, fs.ErrNotExist) && first:
			continue
		case errors.As(err, &unusable):
			k.opts.Logger.Error("a counter of the gate cannot be read: it is killed until a person clears it", "error", unusable.Err, "file", path, "set_aside_as", unusable.Aside)
			kill(c.name + " could not be read")
		case errors.Is(err, fs.ErrNotExist):
			k.opts.Logger.Error("a counter of the gate is missing: it is killed until a person clears it", "file", path)
			kill(c.name + " is missing")
		default:
			return lost, errors.Join(err, k.closeCounters())
		}
		lost = true
	}
	if first {
		was, err := k.hadState()
		if err != nil {
			return lost, errors.Join(err, k.closeCounters())
		}
		if was {
			k.opts.Logger.Error("the state of the gate is missing: it is killed until a person clears it", "file", k.disk().Path)
			kill(fileName + " is missing")
			lost = true
		}
	}
	if lost {
		f.Schema, f.Latches = fileSchema, set.records()
		if err := k.disk().Save(f); err != nil {
			return lost, errors.Join(err, k.closeCounters())
		}
	}
	for _, c := range counters {
		if *c.counter != nil {
			(*c.counter).Raise(c.covered) // a power cut may have brought back an older number
		} else if *c.counter, err = durable.CreateCounter(filepath.Join(k.opts.Dir, c.name), c.covered); err != nil {
			return lost, errors.Join(err, k.closeCounters())
		}
	}
	return lost, nil
}

// hadState reports whether a folder without a state has had one: something was counted, or a start set a file aside and could not
// write another.
func (k *Keeper) hadState() (bool, error) {
	for _, c := range []*durable.Counter{k.budget.total, k.sets} {
		if c != nil && c.Load() > 0 {
			return true, nil
		}
	}
	dir, err := durable.OpenDir(k.opts.Dir)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, fileName+".unusable-") }), err
}

func (k *Keeper) closeCounters() error {
	var errs []error
	for _, c := range []*durable.Counter{k.budget.total, k.sets} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// validate returns the latches of the file.
func (f *file) validate() (set latches, err error) {
	for i := range f.Latches {
		l := &f.Latches[i]
		which := executorv1.GateLatch(executorv1.GateLatch_value["GATE_LATCH_"+strings.ToUpper(l.Latch)])
		if which <= 0 || int(which) >= len(set) || set[which] != nil {
			return set, fmt.Errorf("latch %q is unknown or appears twice", l.Latch)
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

// flush reads the kill file, and writes the state unless the file is up to date. The caller is the saver, or holds it.
func (k *Keeper) flush() error {
	k.CheckKillFile()
	for {
		l, sets := k.snapshot()
		at := time.Now()
		sum, was := k.budget.now(at), &k.written.sum
		// While a gate is set, the number of requests matters too, and is worth a write every second.
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

// snapshot returns the latches, and how often one has been set so far; 0 without a folder.
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
	f := &file{Schema: fileSchema, Latches: l.records(), Sets: sets, Changes: k.budget.total.Load(), Hour: k.budget.copy(at)}
	sum := k.budget.now(at)
	if err := k.disk().Save(f); err != nil {
		k.metrics.writeErrors.Add(1)
		return err
	}
	k.written = written{latched: l, sum: sum}
	return nil
}
