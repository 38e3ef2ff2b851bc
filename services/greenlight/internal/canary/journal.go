package canary

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// maxJournal bounds the file of a journal: a phase keeps at most [maxSamples] looks, of 2 KB each.
const maxJournal = 256 << 20

// journalSchema names the form of a journal.
const journalSchema = "greenlight/canary-journal/v1"

// head is the first entry of a journal.
type head struct {
	Schema string `json:"schema"`
	Run    string `json:"run"`
	// PlanSHA256 is the digest of the plan that the run is of.
	PlanSHA256 string `json:"plan_sha256"`
	// Confirmation is the phrase that started the run; empty in a dry run.
	Confirmation string `json:"confirmation"`
}

// line is one line of a journal.
type line struct {
	// Seq counts the lines from 1.
	Seq int `json:"seq"`
	// Sum is over the sum of the line before and the entry, so that a line that is changed, lost or moved is found.
	Sum string `json:"sum"`
	// Entry is the head, then the events.
	Entry json.RawMessage `json:"entry"`
}

// sumOf is the first 64 bits, in hexadecimal digits: it guards against accidents.
func sumOf(before string, entry []byte) string {
	sum := sha256.Sum256(append([]byte(before), entry...))
	return hex.EncodeToString(sum[:8])
}

// journal is a file that entries are added to, each on disk before the next.
type journal struct {
	file *os.File
	tail *durable.Appender
	last line
}

// createJournal begins a journal, whose file must not be there. It appears with its head: what has no journal never began.
func createJournal(path string, h head) (*journal, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, fmt.Errorf("journal %s: %w", path, fs.ErrExist))
	}
	_, text, err := line{}.next(h)
	if err != nil {
		return nil, err
	}
	err = durable.WriteFile(path, 0o644, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	j, _, _, err := openJournal(path)
	return j, err
}

// openJournal reads a journal and goes on behind its last whole line.
func openJournal(path string) (*journal, head, []Event, error) {
	file, err := durable.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, head{}, nil, err
	}
	h, events, last, end, err := readJournal(path)
	if err != nil {
		return nil, head{}, nil, errors.Join(err, file.Close())
	}
	tail, err := durable.AppendTo(file, end)
	if err != nil {
		return nil, head{}, nil, errors.Join(err, file.Close())
	}
	return &journal{file: file, tail: tail, last: last}, h, events, nil
}

// readJournal returns what is in a journal, its last whole line, and where that ends. What follows it, without a line
// end, was being written when the machine or the controller went down. Any other damage is an error with its line.
func readJournal(path string) (h head, events []Event, last line, end int64, err error) {
	raw, err := durable.ReadFile(path, maxJournal)
	if err != nil {
		return h, nil, last, 0, err
	}
	fail := func(err error) error {
		return fmt.Errorf("journal %s, line %d: %w", path, last.Seq+1, err)
	}
	for text := range bytes.Lines(raw) {
		if text[len(text)-1] != '\n' {
			break
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return h, nil, last, end, fail(err)
		}
		if l.Seq != last.Seq+1 || l.Sum != sumOf(last.Sum, l.Entry) {
			return h, nil, last, end, fail(errors.New("it is not as it was written"))
		}
		if l.Seq == 1 {
			err = json.Unmarshal(l.Entry, &h)
			if err == nil && h.Schema != journalSchema {
				err = fmt.Errorf("schema %q: want %q", h.Schema, journalSchema)
			}
		} else {
			var e Event
			err = json.Unmarshal(l.Entry, &e)
			events = append(events, e)
		}
		if err != nil {
			return h, nil, last, end, fail(err)
		}
		last, end = l, end+int64(len(text))
	}
	if last.Seq == 0 {
		return h, nil, last, 0, fail(errors.New("nothing was written"))
	}
	return h, events, last, end, nil
}

// next is the line of the entry that follows, and how it is written.
func (l line) next(entry any) (line, []byte, error) {
	raw, err := json.Marshal(entry)
	if err != nil {
		return line{}, nil, err
	}
	n := line{Seq: l.Seq + 1, Sum: sumOf(l.Sum, raw), Entry: raw}
	text, err := json.Marshal(n)
	return n, append(text, '\n'), err
}

// add writes an entry; it is on disk when it returns, and not there after an error.
func (j *journal) add(entry any) error {
	next, text, err := j.last.next(entry)
	if err != nil {
		return err
	}
	if err := j.tail.Append(text); err != nil {
		return err
	}
	j.last = next
	return nil
}
