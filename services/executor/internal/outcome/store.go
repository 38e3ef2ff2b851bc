package outcome

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	quality "github.com/greenlight-ml/greenlight/pkg/outcome"
)

// The files in the state folder, and the schemas of their first lines.
const (
	identityName, identitySchema = "quality.json", "greenlight/quality_executor/v1"
	recordsName, recordsSchema   = "quality_records.jsonl", "greenlight/quality_records/v1"
	openName, openSchema         = "quality_open.jsonl", "greenlight/quality_open/v1"
	receivedName                 = "quality_received.count"
)

const (
	// maxLine bounds a line, in bytes. The largest is a whole state with a million rows that wait for a report.
	maxLine = 256 << 20
	// leastRewrite is the minimum size, in bytes, at which the file of open blocks is rewritten once it has doubled.
	leastRewrite = 4 << 20
	// leastPruned is how many removed records cause a rewrite of the file of records.
	leastPruned = 1000
)

// identity is the content of quality.json.
type identity struct {
	Schema   string `json:"schema"`
	Executor string `json:"executor_id"`
}

// header is the first line of the other files.
type header struct {
	Schema string `json:"schema"`
	// Pruned is the number of requests in the removed records.
	Pruned uint64 `json:"pruned_requests,omitempty"`
}

// commit is a line of the file of open blocks: the changes, or everything.
type commit struct {
	Whole bool `json:"whole"`
	// Taken is the number of rows that were joined or lost.
	Taken uint64 `json:"taken"`
	// Records is the number of the last record before the state: later ones in the file do not count.
	Records uint64      `json:"records"`
	Current quality.Key `json:"current"`
	// Joins are all joins, Streams the symbols whose minutes have changed.
	Joins   []joinState   `json:"joins"`
	Streams []streamState `json:"streams"`
}

type joinState struct {
	Threshold float64        `json:"threshold"`
	State     *quality.State `json:"state"`
}

// streamState is a symbol's minutes. Each has its end, and the bits of high, low and sigma_ref, which may be NaN.
type streamState struct {
	Symbol  string      `json:"symbol"`
	Minutes [][4]uint64 `json:"minutes"`
}

// store has the files of the state folder.
type store struct {
	dir           string
	open, records *durable.Lines
	// whole is set if the next commit must be whole. size is the size of the file, base its size after the last whole commit.
	whole      bool
	size, base int64
	// appended is the number of the last record in the file. It does not count until its state is saved.
	appended uint64
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *store) close() error { return errors.Join(s.open.Close(), s.records.Close()) }

// restore reads the folder. A file that cannot be used is set aside.
func (k *Keeper) restore() error {
	k.store = &store{dir: k.opts.Dir, whole: true}
	if err := k.restoreIdentity(); err != nil {
		return err
	}
	last, err := restoreFile(k, openName, "the requests that waited for their labels are lost", func(path string) (*restored, error) { return readOpen(path, k.id) })
	if err != nil {
		return err
	}
	book, err := restoreFile(k, recordsName, "the verdict on the quality of the model begins again", func(path string) (*recordBook, error) { return readRecords(path, last) })
	if err != nil {
		return err
	}
	if book != nil {
		k.records = *book
	}
	if last == nil {
		// Everything that is not in a record is lost.
		k.taken = k.records.requests + k.records.pruned
	} else {
		k.taken, k.current = last.Taken, last.Current
		k.records.last = max(k.records.last, last.Records)
		k.streams = last.streams
		for _, j := range last.joins {
			j.stale = j.Key() != k.current
			k.joins[j.Key()] = j
			if key := j.Key(); key.Plan != "" {
				k.records.plans[key.Plan] = j.plan
			}
			k.count(j, -1)
		}
	}
	k.records.saved = k.records.last
	k.store.appended = k.records.last
	switch {
	case book == nil:
		err = k.store.writeRecords(nil, 0)
	case k.records.removed > 0:
		err = k.store.writeRecords(k.records.numbers(), k.records.pruned)
	default:
		k.store.records, err = durable.OpenLines(k.store.path(recordsName), maxLine)
	}
	if err != nil {
		return err
	}
	k.records.removed = 0
	if k.store.open, err = durable.OpenLines(k.store.path(openName), maxLine); err != nil {
		return err
	}
	return k.restoreReceived()
}

// restoreReceived opens the counter of sampled rows. A new one starts at the number of rows that were joined or lost.
func (k *Keeper) restoreReceived() (err error) {
	path := k.store.path(receivedName)
	k.received, err = durable.OpenCounter(path)
	var unusable *durable.UnusableError
	switch {
	case err == nil:
		k.received.Raise(k.taken) // a power cut may have brought back an older number
		return nil
	case errors.As(err, &unusable):
		k.opts.Logger.Error("the counter of sampled requests cannot be used: requests since the last save are not counted as lost", "error", unusable.Err,
			"file", path, "set_aside_as", unusable.Aside)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	k.received, err = durable.CreateCounter(path, k.taken)
	return err
}

// restoreIdentity reads the executor's id, or writes a new one.
func (k *Keeper) restoreIdentity() error {
	file := durable.State[identity]{Path: k.store.path(identityName), Schema: identitySchema}
	saved, err := file.Load(func(i *identity) error {
		if i.Executor == "" {
			return errors.New("executor_id is empty")
		}
		return nil
	})
	var unusable *durable.UnusableError
	switch {
	case err == nil:
		k.id = saved.Executor
		return nil
	case errors.As(err, &unusable):
		k.opts.Logger.Error("the id of the executor's quality records cannot be read: they start over under a new one", "error", err)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return file.Save(&identity{identitySchema, k.id})
}

// restoreFile reads a file; nil if there is none. If it cannot be used, it is set aside, and the log reports the consequence.
func restoreFile[T any](k *Keeper, name, consequence string, read func(path string) (*T, error)) (*T, error) {
	path := k.store.path(name)
	v, err := read(path)
	var failed *fs.PathError
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // there is no file
	case errors.As(err, &failed): // the disk failed; the content may be valid
		return nil, err
	}
	aside, asideErr := durable.SetAside(path, err)
	if asideErr != nil {
		return nil, asideErr
	}
	k.opts.Logger.Error("a file of the state folder cannot be used: "+consequence, "error", err, "file", path, "set_aside_as", aside) //nolint:sloglint // the texts are constants of the caller
	return nil, nil                                                                                                                   //nolint:nilnil // the file was set aside
}

// lines calls use for every line after the header, which must have the given schema.
func lines(path, schema string, use func(raw []byte) error) (head header, err error) {
	n := 0
	for raw, err := range durable.ReadLines(path, maxLine) {
		n++
		if err != nil {
			return head, err
		}
		if n == 1 {
			if err := json.Unmarshal(raw, &head); err != nil || head.Schema != schema {
				return head, fmt.Errorf("%s: schema %q: want %q", path, head.Schema, schema)
			}
			continue
		}
		if err := use(raw); err != nil {
			return head, fmt.Errorf("%s line %d: %w", path, n, err)
		}
	}
	if n == 0 {
		return head, fmt.Errorf("%s is empty", path)
	}
	return head, nil
}

// restored is the state of the open blocks.
type restored struct {
	commit
	joins   []*joining
	streams map[string]*stream
}

// readOpen reads the file of open blocks of the executor.
func readOpen(path, id string) (*restored, error) {
	last := &restored{}
	states := map[quality.Key][]*quality.State{}
	minutes := map[string][][4]uint64{}
	begun := false
	_, err := lines(path, openSchema, func(raw []byte) error {
		var c commit
		if err := json.Unmarshal(raw, &c); err != nil {
			return err
		}
		if c.Whole {
			clear(states)
			clear(minutes)
		} else if !begun {
			return errors.New("the first state is not a whole one")
		}
		begun = true
		alive := map[quality.Key][]*quality.State{}
		for _, j := range c.Joins {
			if j.State == nil || j.State.Key.Executor != id {
				return errors.New("a state belongs to another executor")
			}
			all := states[j.State.Key]
			all = append(all, j.State)
			alive[j.State.Key] = all
		}
		states = alive
		for _, s := range c.Streams {
			minutes[s.Symbol] = s.Minutes
		}
		last.commit = c
		return nil
	})
	if err == nil && !begun {
		err = fmt.Errorf("%s has no state", path)
	}
	if err != nil {
		return nil, err
	}
	for _, one := range last.Joins {
		join, err := quality.Restore(states[one.State.Key])
		if err != nil {
			return nil, err
		}
		if !(one.Threshold >= 0 && one.Threshold <= math.MaxFloat64) {
			return nil, fmt.Errorf("%s: threshold %v", path, one.Threshold)
		}
		last.joins = append(last.joins, &joining{Join: join, plan: one.State.Plan, threshold: one.Threshold})
	}
	last.streams = map[string]*stream{}
	for symbol, all := range minutes {
		s := &stream{Stream: label.Default().Stream()}
		for _, m := range all {
			s.Push(feature.Minute{
				End: int64(m[0]), High: math.Float64frombits(m[1]), Low: math.Float64frombits(m[2]), SigmaRef: math.Float64frombits(m[3]),
			})
		}
		last.streams[symbol] = s
	}
	return last, nil
}

// readRecords reads the records. It leaves out those after the last state: their rows are still waiting in that state.
func readRecords(path string, last *restored) (*recordBook, error) {
	b := newRecordBook()
	head, err := lines(path, recordsSchema, func(raw []byte) error {
		var line struct {
			Number uint64          `json:"number"`
			Closed time.Time       `json:"closed"`
			Plan   quality.Plan    `json:"plan"`
			Record json.RawMessage `json:"record"`
		}
		if err := json.Unmarshal(raw, &line); err != nil {
			return err
		}
		if last != nil && line.Number > last.Records {
			b.removed++
			return nil
		}
		if line.Number <= b.last {
			return fmt.Errorf("record %d follows record %d", line.Number, b.last)
		}
		r, err := quality.ReadRecord(line.Record)
		if err != nil {
			return err
		}
		if r.Plan != line.Plan.Digest() {
			return fmt.Errorf("record %d does not match its plan", line.Number)
		}
		if r.Plan != "" {
			b.plans[r.Plan] = line.Plan
		}
		return b.put(line.Number, line.Closed, r, nil)
	})
	b.pruned = head.Pruned
	return &b, err
}

// writeRecords rewrites the file of records with the kept ones of the old file.
func (s *store) writeRecords(kept map[uint64]bool, pruned uint64) error {
	path := s.path(recordsName)
	write := func(w io.Writer) error {
		head, err := json.Marshal(header{recordsSchema, pruned})
		if err != nil {
			return err
		}
		if _, err := w.Write(append(head, '\n')); err != nil || len(kept) == 0 {
			return err
		}
		_, err = lines(path, recordsSchema, func(raw []byte) error {
			var line struct {
				Number uint64 `json:"number"`
			}
			if err := json.Unmarshal(raw, &line); err != nil || !kept[line.Number] {
				return err
			}
			_, err := w.Write(append(raw, '\n'))
			return err
		})
		return err
	}
	if err := durable.Write(path, 0o644, write); err != nil {
		return err
	}
	old := s.records
	var err error
	if s.records, err = durable.OpenLines(path, maxLine); err != nil || old == nil {
		return err
	}
	return old.Close()
}

// save writes the changes. The saver calls it.
func (k *Keeper) save() (err error) {
	defer func() {
		if err != nil {
			k.writeErrors.Add(1)
		}
	}()
	k.mu.Lock()
	k.drain()
	if !k.changed && !k.store.whole {
		k.mu.Unlock()
		return nil
	}
	whole := k.store.whole || k.store.size > max(leastRewrite, 2*k.store.base)
	c := k.commit(whole)
	records, fresh := c.Records, k.records.linesAfter(k.store.appended)
	k.changed = false
	k.mu.Unlock()

	k.store.whole = true // unless all of it succeeds
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if len(fresh) > 0 {
		if err := k.store.records.Append(fresh); err != nil {
			return err
		}
		k.store.appended = records
	}
	if err := k.store.append(line, whole); err != nil {
		return err
	}
	k.store.whole = false
	k.mu.Lock()
	if k.records.publish(records) {
		k.judge()
	}
	var kept map[uint64]bool
	if k.records.removed >= leastPruned {
		k.records.removed, kept = 0, k.records.numbers()
	}
	pruned := k.records.pruned
	k.mu.Unlock()
	if kept == nil {
		return nil
	}
	return k.store.writeRecords(kept, pruned)
}

// append writes a commit. A whole one goes to a new file.
func (s *store) append(line []byte, whole bool) error {
	if !whole {
		s.size += int64(len(line))
		return s.open.Append(line)
	}
	head, err := json.Marshal(header{Schema: openSchema})
	if err != nil {
		return err
	}
	path := s.path(openName)
	raw := append(append(head, '\n'), line...)
	if err := durable.WriteFile(path, raw, 0o644); err != nil {
		return err
	}
	fresh, err := durable.OpenLines(path, maxLine)
	if err != nil {
		return err
	}
	old := s.open
	s.open, s.size, s.base = fresh, int64(len(raw)), int64(len(raw))
	return old.Close()
}

// commit returns the state. The caller holds the lock.
func (k *Keeper) commit(whole bool) *commit {
	c := &commit{Whole: whole, Taken: k.taken, Records: k.records.last, Current: k.current, Joins: []joinState{}, Streams: []streamState{}}
	for _, j := range k.joins {
		c.Joins = append(c.Joins, joinState{j.threshold, j.Save(whole)})
	}
	for symbol, s := range k.streams {
		if !whole && !s.changed {
			continue
		}
		s.changed = false
		one := streamState{Symbol: symbol}
		for _, m := range s.Minutes() {
			one.Minutes = append(one.Minutes, [4]uint64{uint64(m.End), math.Float64bits(m.High), math.Float64bits(m.Low), math.Float64bits(m.SigmaRef)})
		}
		c.Streams = append(c.Streams, one)
	}
	return c
}
