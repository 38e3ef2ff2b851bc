package gatekeeper

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/journal"
)

// RunSchema is the schema of a run in the evidence.
const RunSchema = "greenlight/gate_run/v1"

// Kind is the kind of an [Event]. The set is closed.
type Kind string

// The kinds, and the fields that they set in addition to Kind and Time.
const (
	// Started is the first event: Folder, Group. The gate is set next.
	Started Kind = "started"
	// Opened means that an executor has confirmed the gate: Executor, Revision.
	Opened Kind = "opened"
	// Counted is a reading of all executors that answered: Readings.
	Counted Kind = "counted"
	// NotRenewed means that the gate of an executor cannot be renewed, so its lease will lapse, Renewed that it can be
	// renewed again: Executor, Reason.
	NotRenewed Kind = "not_renewed"
	Renewed    Kind = "renewed"
	// Lapsed means that the lease of an executor has lapsed, Restarted that an executor has restarted: Executor, Revision, Reason.
	Lapsed    Kind = "lapsed"
	Restarted Kind = "restarted"
	// Resumed means that the gate of an executor is open again after a lapse or restart: Executor, Revision.
	Resumed Kind = "resumed"
	// Demoted means that an executor has a latch, Taken that somebody else has changed its rollout: Executor, Reason.
	Demoted Kind = "demoted"
	Taken   Kind = "taken"
	// Stopping means that the gate is being stopped everywhere: Reason.
	Stopping Kind = "stopping"
	// Off means that an executor has confirmed that no model decides there, NotOff that it has not: Executor, Reason.
	Off    Kind = "off"
	NotOff Kind = "not_off"
	// Finished is the last event: Decision, Reason.
	Finished Kind = "finished"
)

// Decision is how a run ended.
type Decision string

// The decisions.
const (
	// Running means that it has not ended.
	Running Decision = "RUNNING"
	// Stopped means that a person stopped it.
	Stopped Decision = "STOPPED"
	// Ended means that it stopped itself: an executor was demoted, killed, or taken over, or refused the gate.
	Ended Decision = "DEMOTED"
	// Interrupted means that its keeper was killed and the leases lapsed.
	Interrupted Decision = "INTERRUPTED"
)

// Event is one step of a run. The journal holds one event per line, and a [Record] is computed from them.
type Event struct {
	Kind     Kind      `json:"kind"`
	Time     time.Time `json:"time"`
	Executor string    `json:"executor,omitempty"`
	Revision uint64    `json:"revision,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Decision Decision  `json:"decision,omitempty"`
	// Folder is the folder of the evidence. The record omits it, because it is a path on one machine.
	Folder string `json:"folder,omitempty"`
	// Group is the group of the executors, empty without one.
	Group string `json:"group,omitempty"`
	// Readings are not kept in the record, except the first and last of every process.
	Readings []Reading `json:"readings,omitempty"`
}

// Reading is the gate of one executor at one time.
type Reading struct {
	Executor string `json:"executor"`
	// Instance is the random id of the process.
	Instance string `json:"instance"`
	// Percent is the share that the model may decide, Open whether it may decide now.
	Percent float64 `json:"percent"`
	Open    bool    `json:"open"`
	// Decisions counts all decisions of the process: "model", or the baseline by reason.
	Decisions map[string]uint64 `json:"decisions"`
	// HourRequests counts the requests of the last hour, HourChanged those that the model changed, and HourLimit is the
	// maximum of HourChanged.
	HourRequests uint64 `json:"hour_requests"`
	HourChanged  uint64 `json:"hour_changed"`
	HourLimit    uint64 `json:"hour_changed_limit"`
	// ShadowP99MS is the 99th percentile of shadow latencies since the last reading, in milliseconds; nil without shadows.
	ShadowP99MS *float64 `json:"shadow_p99_ms,omitempty"`
	// Sources counts all requests of the process by source; nil if the process did not report it.
	Sources evidence.Sources `json:"sources,omitempty"`
	// Latches keep the gate shut.
	Latches []Latch `json:"latches,omitempty"`
}

// Latch keeps a gate shut until a person clears it.
type Latch struct {
	Name   string    `json:"latch"`
	By     string    `json:"set_by"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"set_time"`
	// Last is when it was set last; zero if it was set once.
	Last time.Time `json:"last_set_time,omitzero"`
}

func (l Latch) String() string {
	again := ""
	if !l.Last.IsZero() {
		again = ", set again at " + l.Last.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s by %s: %s%s", l.Name, l.By, l.Reason, again)
}

// byModel is the key of the model's decisions among the reasons.
const byModel = "model"

// Process is one process of an executor during a run: its counters at the first and last reading, and the differences.
type Process struct {
	Executor  string            `json:"executor"`
	Instance  string            `json:"instance"`
	FirstTime time.Time         `json:"first_time"`
	LastTime  time.Time         `json:"last_time"`
	Start     map[string]uint64 `json:"decisions_start"`
	End       map[string]uint64 `json:"decisions_end"`
	// Decisions is End minus Start. Requests is its sum.
	Decisions map[string]uint64 `json:"decisions"`
	Requests  uint64            `json:"requests"`
	// SourcesStart and SourcesEnd count the requests by source at the first and the last reading.
	SourcesStart evidence.Sources `json:"sources_start,omitempty"`
	SourcesEnd   evidence.Sources `json:"sources_end,omitempty"`
	// The budget and latches at the last reading.
	HourRequests uint64  `json:"hour_requests"`
	HourChanged  uint64  `json:"hour_changed"`
	HourLimit    uint64  `json:"hour_changed_limit"`
	Latches      []Latch `json:"latches"`
}

// Record is a run of a gate: the body of gate_<id>.json.
type Record struct {
	// ID names the run, its journal and its leases.
	ID   string `json:"id"`
	Plan Plan   `json:"plan"`
	// Group is the group of the executors, empty without one. Their reports can be trusted as far as their credentials.
	Group string `json:"group,omitempty"`
	// PlanFile is the plan in the evidence, Promotion the promotion that allows it.
	PlanFile  evidence.Input `json:"plan_file"`
	Promotion evidence.Input `json:"promotion"`
	// Confirmation is the phrase that started the run.
	Confirmation string    `json:"confirmation"`
	StartTime    time.Time `json:"start_time"`
	EndTime      time.Time `json:"end_time"`
	// Decision is how the run ended, and Reason why.
	Decision Decision `json:"decision"`
	Reason   string   `json:"reason"`
	// Off reports whether every executor confirmed that no model decides there. Otherwise its lease lapsed.
	Off bool `json:"off"`
	// Processes are in the order of their first readings.
	Processes []Process `json:"processes"`
	// Decisions and Requests are the totals over all processes.
	Decisions map[string]uint64 `json:"decisions"`
	Requests  uint64            `json:"requests_total"`
	// Sources counts the requests between the readings by source, over all processes. The least live one is the source of the
	// file.
	Sources evidence.Sources `json:"sources"`
	// Events holds at most [maxEvents] events, without the readings; Left is the number of omitted events.
	Events []Event `json:"events"`
	Left   int     `json:"events_left_out"`

	// Folder is the folder of the evidence.
	Folder string `json:"-"`

	last time.Time
	// known maps a process, and the address of its executor, to its index in Processes.
	known map[string]int
}

// maxEvents bounds the events in the evidence. The journal has all.
const maxEvents = 1000

func newRecord(f *PlanFile, h journal.Head) *Record {
	return &Record{
		ID: h.Run, Plan: *f.Plan, PlanFile: f.Input, Promotion: f.Promotion, Confirmation: h.Confirmation, Decision: Running,
		Processes: []Process{}, Decisions: map[string]uint64{}, Sources: evidence.Sources{}, Events: []Event{}, known: map[string]int{},
	}
}

// apply adds an event. Replaying the journal of a run gives the same record as the run itself.
func (r *Record) apply(e Event) {
	r.last = e.Time
	switch e.Kind {
	case Started:
		r.StartTime, r.Group, r.Folder, e.Folder = e.Time, e.Group, e.Folder, ""
	case Counted:
		for _, reading := range e.Readings {
			r.read(e.Time, reading)
		}
		return
	case Stopping:
		r.Off = true
	case NotOff:
		r.Off = false
	case Finished:
		r.EndTime, r.Decision, r.Reason = e.Time, e.Decision, e.Reason
		r.sum()
	case Opened, NotRenewed, Renewed, Lapsed, Restarted, Resumed, Demoted, Taken, Off:
	}
	if len(r.Events) >= maxEvents && e.Kind != Finished {
		r.Left++
		return
	}
	r.Events = append(r.Events, e)
}

// read adds a reading to its process.
func (r *Record) read(at time.Time, reading Reading) {
	key := reading.Executor + "\n" + reading.Instance
	i, ok := r.known[key]
	if !ok {
		start, sources := maps.Clone(reading.Decisions), reading.Sources
		if _, again := r.known[reading.Executor]; again { // it restarted during the run, so all its counts belong to the run
			start, sources = map[string]uint64{}, nil
		}
		i = len(r.Processes)
		r.Processes = append(r.Processes, Process{Executor: reading.Executor, Instance: reading.Instance, FirstTime: at, Start: start, SourcesStart: sources})
		r.known[key], r.known[reading.Executor] = i, i
	}
	p := &r.Processes[i]
	p.LastTime, p.End = at, reading.Decisions
	if reading.Sources != nil {
		p.SourcesEnd = reading.Sources
	}
	p.HourRequests, p.HourChanged, p.HourLimit, p.Latches = reading.HourRequests, reading.HourChanged, reading.HourLimit, reading.Latches
	if p.Latches == nil {
		p.Latches = []Latch{}
	}
	p.Decisions, p.Requests = between(p.Start, p.End)
}

// between returns the decisions between two readings of one process, and their sum.
func between(start, end map[string]uint64) (decisions map[string]uint64, requests uint64) {
	decisions = make(map[string]uint64, len(end))
	for reason, n := range end {
		decisions[reason] = n - start[reason]
		requests += n - start[reason]
	}
	return decisions, requests
}

// sum adds up the processes.
func (r *Record) sum() {
	r.Decisions, r.Requests, r.Sources = map[string]uint64{}, 0, r.sources()
	for _, p := range r.Processes {
		for reason, n := range p.Decisions {
			r.Decisions[reason] += n
		}
		r.Requests += p.Requests
	}
}

// sources adds up the requests of the processes by source.
func (r *Record) sources() evidence.Sources {
	sum := evidence.Sources{}
	for _, p := range r.Processes {
		for source, n := range p.SourcesEnd {
			if n > p.SourcesStart[source] {
				sum[source] += n - p.SourcesStart[source]
			}
		}
	}
	return sum
}

// Recheck returns the contradictions in the record: a sum, the plan or the phrase. source is the source of the file, and plan
// the plan in the file that it names; nil if the evidence lacks that file.
func (r *Record) Recheck(source evidence.Source, plan *Plan) []string {
	var found []string
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	if err := r.Plan.validate(); err != nil {
		add(true, "has an invalid plan: %v", err)
	}
	add(plan == nil, "was started by the plan %s, which is missing or was changed", r.PlanFile.Path)
	add(plan != nil && !reflect.DeepEqual(*plan, r.Plan), "has a plan other than %s", r.PlanFile.Path)
	nonce := r.Confirmation[strings.LastIndexByte(r.Confirmation, '=')+1:]
	add(r.Confirmation != phrase(&r.Plan, r.PlanFile.SHA256, nonce), "was confirmed by a phrase with other numbers than its plan")
	add(r.Promotion != r.Plan.Promotion, "names another promotion than its plan")
	add(!maps.Equal(r.Sources, r.sources()), "has sources that are not the sums of its processes")
	least := r.Sources.Least(r.Plan.Source)
	add(source != least, "says that its requests are %s, but by its plan and sources they are %s", source, least)
	total, requests := map[string]uint64{}, uint64(0)
	for _, p := range r.Processes {
		name := fmt.Sprintf("executor %s, process %s", p.Executor, p.Instance)
		for reason, n := range p.End {
			_, known := decide.ParseReason(reason)
			add(reason != byModel && (!known || reason == ""), "%s: unknown reason %q", name, reason)
			add(n < p.Start[reason], "%s: %s fell from %d to %d", name, reason, p.Start[reason], n)
		}
		for reason, n := range p.Start {
			_, there := p.End[reason]
			add(!there && n > 0, "%s: %s fell from %d to none", name, reason, n)
		}
		decisions, sum := between(p.Start, p.End)
		add(!maps.Equal(decisions, p.Decisions), "%s: its decisions do not match its first and last reading", name)
		add(sum != p.Requests, "%s: model and reasons add up to %d, but it reports %d requests", name, sum, p.Requests)
		for reason, n := range p.Decisions {
			total[reason] += n
		}
		requests += p.Requests
	}
	add(!maps.Equal(total, r.Decisions), "has decisions that are not the sums of its processes")
	add(requests != r.Requests, "reports %d requests, but its processes have %d", r.Requests, requests)
	start, end, off := time.Time{}, time.Time{}, false
	for _, e := range r.Events {
		switch e.Kind {
		case Started:
			start = e.Time
		case Finished:
			end = e.Time
		case Stopping:
			off = true
		case NotOff:
			off = false
		case Opened, Counted, NotRenewed, Renewed, Lapsed, Restarted, Resumed, Demoted, Taken, Off:
		}
	}
	add(!r.StartTime.Equal(start) || !r.EndTime.Equal(end), "lasted from %s to %s, but by its events from %s to %s", r.StartTime, r.EndTime, start, end)
	add(r.Off != off && r.Left == 0, "says off: %v, but by its events it is %v", r.Off, off)
	add(r.Decision == Running, "has no end")
	add(len(r.Events) == 0 || r.Events[len(r.Events)-1].Decision != r.Decision, "is %s, but its last event differs", r.Decision)
	return found
}

// Write writes the record to the evidence, and returns the file name. git is the revision of the program.
func (r *Run) Write(store *evidence.Store, git string) (string, error) {
	rec := r.Record
	inputs := append([]evidence.Input{rec.PlanFile}, rec.Promotion)
	in, err := evidence.InputOf(filepath.Join(r.Dir, journal.Name))
	if err != nil {
		return "", err
	}
	name := strings.ReplaceAll(rec.ID, "-", "_") + ".json" // gate_<time>_<random>.json
	header := evidence.Header{Schema: RunSchema, Source: rec.Sources.Least(rec.Plan.Source), Model: &rec.Plan.Model, Inputs: append(inputs, in), Git: git}
	if err := store.WriteJSON(name, header, rec); err != nil {
		return "", err
	}
	return name, r.done()
}

// readingOf returns the reading of an executor's answer.
func readingOf(addr string, got *executorv1.GetRolloutResponse) Reading {
	g := got.GetGate() // checked by fleet.CheckGate
	r := Reading{
		Executor: addr, Instance: got.GetInstanceId(), Percent: gatedPercent(got.GetRollout()), Open: g.GetOpen(), Decisions: map[string]uint64{},
		HourRequests: g.GetHourRequests(), HourChanged: g.GetHourChanged(), HourLimit: g.GetHourChangedLimit(),
	}
	for _, c := range g.GetDecisions() {
		if c.GetCount() == 0 {
			continue
		}
		key := byModel
		if c.GetDecidedBy() != executorv1.Decider_DECIDER_MODEL {
			key = decide.Reason(c.GetFallbackReason()).String()
		}
		r.Decisions[key] += c.GetCount()
	}
	for _, l := range g.GetLatches() {
		r.Latches = append(r.Latches, latchOf(l))
	}
	return r
}

// gatedPercent returns the share that the model may decide.
func gatedPercent(r *executorv1.Rollout) float64 {
	if r.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_GATED {
		return 0
	}
	return r.GetPercent()
}
