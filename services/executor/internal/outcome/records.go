package outcome

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	quality "github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
)

const (
	// recordAge is how long records are kept.
	recordAge = 90 * 24 * time.Hour
	// maxRecords bounds the records: 90 days of blocks of 15 minutes are 8,640.
	maxRecords = 20_000
)

// keptRecord is a record, held in encoded form, about 2 kB, since its histograms are large.
type keptRecord struct {
	// number counts records from 1.
	number uint64
	closed time.Time
	// light is the record with all scores in one bin, which is sufficient for a verdict.
	light quality.Record
	raw   []byte
	// line is its line for the file until it is saved.
	line []byte
}

// recordLine is a record in the file.
type recordLine struct {
	Number uint64    `json:"number"`
	Closed time.Time `json:"closed"`
	// Plan is the zero Plan if there is none.
	Plan   quality.Plan   `json:"plan"`
	Record quality.Record `json:"record"`
}

// recordBook holds the records by their key without the block, in the order of blocks.
type recordBook struct {
	byKey map[quality.Key][]*keptRecord
	// plans are the plans of the keys, by digest.
	plans map[string]quality.Plan
	// all has the records in the order of their numbers.
	all []*keptRecord
	// last is the number of the newest record. Records up to saved can be read: later ones might change after a kill.
	last, saved uint64
	// requests is the number of requests in all records, pruned the number in removed ones.
	requests, pruned uint64
	// removed is how many removed records are still in the file.
	removed int
}

func newRecordBook() recordBook {
	return recordBook{byKey: map[quality.Key][]*keptRecord{}, plans: map[string]quality.Plan{}}
}

// add adds new records.
func (b *recordBook) add(now time.Time, records []quality.Record) error {
	for i := range records {
		b.last++
		line, err := json.Marshal(recordLine{b.last, now.UTC(), b.plans[records[i].Plan], records[i]})
		if err != nil {
			return err
		}
		if err := b.put(b.last, now, &records[i], append(line, '\n')); err != nil {
			return err
		}
	}
	for len(b.all) > 0 && (len(b.all) > maxRecords || now.Sub(b.all[0].closed) > recordAge) && b.all[0].line == nil {
		b.remove(b.all[0])
	}
	return nil
}

// put adds a record with its number.
func (b *recordBook) put(number uint64, closed time.Time, r *quality.Record, line []byte) error {
	raw, err := proto.Marshal(wire.Record(r))
	if err != nil {
		return err
	}
	light := *r
	light.BaselineScores, light.PolicyScores = oneBin(r.BaselineScores), oneBin(r.PolicyScores)
	one := &keptRecord{number, closed, light, raw, line}
	key := keyOf(r)
	b.byKey[key] = append(b.byKey[key], one)
	b.all = append(b.all, one)
	b.last = number
	b.requests += r.Requests()
	return nil
}

func (b *recordBook) remove(one *keptRecord) {
	key := keyOf(&one.light)
	is := func(r *keptRecord) bool { return r == one }
	b.byKey[key], b.all = slices.DeleteFunc(b.byKey[key], is), slices.DeleteFunc(b.all, is)
	if len(b.byKey[key]) == 0 {
		delete(b.byKey, key)
	}
	b.requests -= one.light.Requests()
	b.pruned += one.light.Requests()
	b.removed++
}

// keyOf returns the key without the block.
func keyOf(r *quality.Record) quality.Key {
	key := r.Key
	key.Block = 0
	return key
}

// oneBin returns a histogram with all rows in one bin.
func oneBin(h quality.Histogram) quality.Histogram {
	if len(h) == 0 {
		return nil
	}
	negatives, positives := h.Classes()
	return quality.Histogram{{0, negatives, positives}}
}

// of returns the readable records with the key, ignoring its block.
func (b *recordBook) of(key quality.Key) []*keptRecord {
	all := b.byKey[key]
	for len(all) > 0 && all[len(all)-1].number > b.saved {
		all = all[:len(all)-1]
	}
	return all
}

// lightOf returns the records with all scores in one bin.
func lightOf(all []*keptRecord) []quality.Record {
	light := make([]quality.Record, len(all))
	for i, r := range all {
		light[i] = r.light
	}
	return light
}

// linesAfter returns the lines of the records after a number. They stay in memory until they are published.
func (b *recordBook) linesAfter(number uint64) (lines []byte) {
	for i := len(b.all) - 1; i >= 0 && b.all[i].number > number; i-- {
		lines = append(bytes.Clone(b.all[i].line), lines...)
	}
	return lines
}

// numbers returns the numbers of the readable records.
func (b *recordBook) numbers() map[uint64]bool {
	kept := map[uint64]bool{}
	for _, r := range b.all {
		kept[r.number] = r.number <= b.saved
	}
	return kept
}

// publish makes the records up to the number readable. It reports whether any of them were not.
func (b *recordBook) publish(number uint64) bool {
	fresh := false
	for i := len(b.all) - 1; i >= 0 && b.all[i].number > b.saved; i-- {
		if b.all[i].number <= number {
			b.all[i].line, fresh = nil, true
		}
	}
	b.saved = max(b.saved, number)
	return fresh
}
