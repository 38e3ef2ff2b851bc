package member

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/group"
)

const (
	fileName   = "fleet.json"
	fileSchema = "greenlight/fleet/v1"
)

// file is the state on disk.
type file struct {
	Schema string `json:"schema"`
	Group  string `json:"group"`
	// Executor is the id of the executor whose blocks up to the number Sent were acknowledged.
	Executor string `json:"executor_id"`
	Sent     uint64 `json:"blocks_sent"`
	// Follower is what was seen of the group. Its renewal dates from the last change.
	Follower group.State `json:"seen"`
}

func fileIn(dir string) durable.State[file] {
	return durable.State[file]{Path: filepath.Join(dir, fileName), Schema: fileSchema}
}

// load reads the file. If it is not usable, everything that was issued before counts as aborted, since an abort may be lost.
func (h *Member) load() error {
	member := group.Member{Group: h.opts.Group, Executor: h.opts.ID, Instance: h.opts.Instance, Keys: h.opts.Keys}
	f, err := h.file.Load(func(f *file) error {
		if s := f.Follower; s.Revision > group.MaxRevision || s.Held > group.MaxRevision || len(s.Kills) > group.MaxKills {
			return fmt.Errorf("revision %d, held %d, %d kills", s.Revision, s.Held, len(s.Kills))
		}
		return nil
	})
	var unusable *durable.UnusableError
	var state group.State
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.As(err, &unusable):
		state.Aborted = true
		h.opts.Logger.Error("the state of the group cannot be read: only a run that starts from now on is obeyed", "error", unusable.Err,
			"file", h.file.Path, "set_aside_as", unusable.Aside)
	case err != nil:
		return err
	default:
		h.written = *f
		if f.Group == h.opts.Group {
			state = f.Follower
		} else {
			h.opts.Logger.Warn("executor is in a different group than before", "group", h.opts.Group, "before", f.Group)
		}
		if f.Group == h.opts.Group && f.Executor == h.opts.ID {
			h.sent = f.Sent
		}
	}
	h.follower = group.NewFollower(member, state)
	if state.Aborted {
		h.follower.Hold(time.Now())
	}
	return nil
}

// save writes the state if more than the renewal has changed.
func (h *Member) save() error {
	h.mu.Lock()
	f := file{Schema: fileSchema, Group: h.opts.Group, Executor: h.opts.ID, Sent: h.sent, Follower: h.follower.State()}
	f.Follower.Kills = slices.DeleteFunc(f.Follower.Kills, func(id string) bool { return h.killing[id] })
	h.mu.Unlock()
	if f.same(&h.written) {
		return nil
	}
	if err := h.file.Save(&f); err != nil {
		if durable.Unsure(err) {
			h.written = file{} // unknown
		}
		return err
	}
	h.written = f
	return nil
}

// same reports whether both are equal except for the renewal, which need not survive a restart: no renewal is obeyed longer than
// its lease.
func (f *file) same(o *file) bool {
	a, b := f.Follower, o.Follower
	return f.Schema == o.Schema && f.Group == o.Group && f.Executor == o.Executor && f.Sent == o.Sent &&
		a.Revision == b.Revision && a.Body == b.Body && a.Held == b.Held && a.Aborted == b.Aborted && slices.Equal(a.Kills, b.Kills)
}
