// Package fleetscale measures what groups of executors cost: messages, CPU time and memory, and how long a change takes.
package fleetscale

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/pkg/table"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/natshost"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// GroupName is the name of the group, Share the percentage of its decisions that get a shadow.
const (
	GroupName = "lab"
	Share     = 10
)

const (
	// window is how long traffic and CPU time are measured.
	window = 20 * time.Second
	// reachTime is how long the executors of a group may take to reach a share.
	reachTime = 3 * time.Minute
	// maxConnections bounds the connections of members: above it, members share connections.
	maxConnections = 1000
	// samplePeriod is the time between two counts of the executors at 0 %.
	samplePeriod = 10 * time.Millisecond
)

// Result is what groups of several sizes cost.
type Result struct {
	Git     string      `json:"git,omitempty"`
	Machine rig.Machine `json:"machine"`
	LeaseS  float64     `json:"lease_s"`
	Rows    []Row       `json:"rows"`
}

// Row is the cost of a group of one size.
type Row struct {
	Executors int `json:"executors"`
	// Extrapolated means that the row was computed from the two largest measured ones, assuming linear growth.
	Extrapolated bool `json:"extrapolated"`
	// Connections carry the members of the group.
	Connections int `json:"connections"`
	// MessagesS and BytesS count the clients' messages that enter and leave the servers, per second.
	MessagesS float64 `json:"messages_per_s"`
	BytesS    float64 `json:"bytes_per_s"`
	// ServersCPU, ControllerCPU and MembersCPU are in cores; MembersCPU covers the whole group, without decisions.
	ServersCPU    float64 `json:"servers_cpu_cores"`
	ControllerCPU float64 `json:"controller_cpu_cores"`
	MembersCPU    float64 `json:"members_cpu_cores"`
	// ControllerBytes is the controller's resident memory.
	ControllerBytes float64 `json:"controller_resident_bytes"`
	// ReachS is the time until all are at a share, AbortS until all are at 0 % after an abort, LapseS until all are at 0 %
	// after the death of the controller.
	ReachS float64 `json:"reach_s"`
	AbortS float64 `json:"abort_s"`
	LapseS float64 `json:"lapse_s"`
}

// Options are what to measure.
type Options struct {
	// Sizes are the groups to measure, ascending. Extrapolate is a size to compute; 0 means none.
	Sizes       []int
	Extrapolate int
	Lease       time.Duration
	// Self is this program, Dir holds stores, keys and logs.
	Self, Dir string
	Key       *dsse.Signer
	KeyFile   string
	// Progress is called after every group.
	Progress func(done, all int)
}

// Measure measures groups of several sizes: three servers in this process, all members in a second one, the controller in a
// third one.
func Measure(ctx context.Context, o Options) (*Result, error) {
	s := &Result{LeaseS: o.Lease.Seconds()}
	watch := rig.WatchMachine()
	for i, n := range o.Sizes {
		dir := filepath.Join(o.Dir, fmt.Sprint(n))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		err := natshost.With(ctx, filepath.Join(dir, "stores"), func(servers *natshost.Servers) error {
			row, err := o.measure(ctx, servers, dir, n)
			s.Rows = append(s.Rows, row)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%d executors: %w", n, err)
		}
		o.Progress(i+1, len(o.Sizes))
	}
	s.Machine = watch.Machine()
	if n := len(s.Rows); n >= 2 && o.Extrapolate > o.Sizes[n-1] {
		s.Rows = append(s.Rows, extrapolate(s.Rows[n-2], s.Rows[n-1], o.Extrapolate))
	}
	return s, nil
}

// measure measures a group of n executors.
func (o *Options) measure(ctx context.Context, s *natshost.Servers, dir string, n int) (row Row, err error) {
	row = Row{Executors: n, Connections: min(n, maxConnections)}
	samples := filepath.Join(dir, "samples")
	r := &rig.Rig{Dir: dir}
	start := func(name string, flags ...string) (*process.Process, error) {
		return r.Start(name, func(at string) (*process.Process, error) {
			return process.Start(ctx, o.Self, at, append([]string{"fleet", name, "--fleet", s.Direct(), "--fleet-key", o.KeyFile, "--lease", o.Lease.String()}, flags...)...)
		})
	}
	members, err := start("members", "--executors", fmt.Sprint(n), "--samples", samples)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, members.Kill()) }()
	run := func(then func(controller *process.Process) error) error {
		began := time.Now()
		controller, err := start("controller")
		if err != nil {
			return err
		}
		at, err := awaitCount(ctx, samples, n, began, reachTime)
		if err == nil {
			row.ReachS = at.Sub(began).Seconds() // keep the second run: in the first, the servers elect their leaders
			err = then(controller)
		}
		return errors.Join(err, controller.Kill())
	}
	err = run(func(controller *process.Process) error {
		if err := o.window(ctx, s, members, controller, &row); err != nil {
			return err
		}
		sent, err := o.abort(ctx, s)
		if err != nil {
			return err
		}
		at, err := awaitCount(ctx, samples, 0, sent, o.Lease+reachTime)
		row.AbortS = at.Sub(sent).Seconds()
		return err
	})
	if err != nil {
		return row, err
	}
	return row, run(func(controller *process.Process) error {
		died := time.Now()
		if err := controller.Kill(); err != nil {
			return err
		}
		at, err := awaitCount(ctx, samples, 0, died, o.Lease+reachTime)
		row.LapseS = at.Sub(died).Seconds()
		return err
	})
}

// window measures traffic, CPU time and memory.
func (o *Options) window(ctx context.Context, s *natshost.Servers, members, controller *process.Process, row *Row) error {
	pids := []int{os.Getpid(), members.PID(), controller.PID()}
	read := func() (used [3]time.Duration, messages, bytes int64) {
		for i, pid := range pids {
			used[i], _ = rig.CPU(pid)
		}
		messages, bytes = s.Traffic()
		return used, messages, bytes
	}
	began := time.Now()
	cpu, messages, bytes := read()
	traffic.Pause(ctx, window)
	cpu2, messages2, bytes2 := read()
	took := time.Since(began).Seconds()
	row.MessagesS, row.BytesS = float64(messages2-messages)/took, float64(bytes2-bytes)/took
	for i, to := range []*float64{&row.ServersCPU, &row.MembersCPU, &row.ControllerCPU} {
		*to = (cpu2[i] - cpu[i]).Seconds() / took
	}
	resident, err := controller.Resident()
	row.ControllerBytes = float64(resident)
	return errors.Join(err, ctx.Err())
}

// abort stops the group.
func (o *Options) abort(ctx context.Context, s *natshost.Servers) (time.Time, error) {
	c, err := natsgroup.Open(natsgroup.Options{URL: s.Direct(), Group: GroupName, Name: "abort", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return time.Time{}, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, o.Lease)
	defer cancel()
	if _, _, err := c.Record(ctx); err != nil { // it connects
		return time.Time{}, err
	}
	sent := time.Now()
	envelope, err := group.Stop(o.Key, GroupName, "lab", fleetv1.StopKind_STOP_KIND_ABORT, uint64(sent.UnixMilli()), "", sent)
	if err != nil {
		return sent, err
	}
	return sent, c.Stop(ctx, fleetv1.StopKind_STOP_KIND_ABORT, envelope)
}

// maxSamples bounds the file of samples, in bytes.
const maxSamples = 16 << 20

// awaitCount waits until n executors are at the share, and returns when that happened, not before since.
func awaitCount(ctx context.Context, samples string, want int, since time.Time, within time.Duration) (time.Time, error) {
	count := -1
	for end := since.Add(within); time.Now().Before(end) && ctx.Err() == nil; traffic.Pause(ctx, samplePeriod) {
		raw, err := durable.ReadFile(samples, maxSamples)
		if err != nil {
			continue // not yet
		}
		lines := bufio.NewScanner(bytes.NewReader(raw))
		var at int64
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &at, &count); err != nil {
				break
			}
		}
		if count == want {
			if t := time.Unix(0, at); t.After(since) {
				return t, nil
			}
			return since, nil
		}
	}
	return time.Now(), errors.Join(fmt.Errorf("%d executors are at the share within %v: want %d", count, within, want), ctx.Err())
}

// extrapolate continues the line through two rows.
func extrapolate(a, b Row, n int) Row {
	line := func(x, y float64) float64 {
		return max(y, y+(y-x)/float64(b.Executors-a.Executors)*float64(n-b.Executors))
	}
	return Row{
		Executors: n, Extrapolated: true, Connections: n,
		MessagesS: line(a.MessagesS, b.MessagesS), BytesS: line(a.BytesS, b.BytesS), ServersCPU: line(a.ServersCPU, b.ServersCPU),
		ControllerCPU: line(a.ControllerCPU, b.ControllerCPU), MembersCPU: line(a.MembersCPU, b.MembersCPU),
		ControllerBytes: line(a.ControllerBytes, b.ControllerBytes), ReachS: line(a.ReachS, b.ReachS), AbortS: line(a.AbortS, b.AbortS), LapseS: b.LapseS,
	}
}

// Table prints the result.
func (s *Result) Table(w io.Writer) error {
	t := table.New(">executors", "figures", ">messages/s", ">MB/s", ">servers, cores", ">controller, cores", ">controller, MiB", ">members, % of a core each",
		">to the share", ">to 0 % by an abort", ">by a dead controller")
	for _, r := range s.Rows {
		kind := "measured"
		if r.Extrapolated {
			kind = "extrapolated"
		}
		t.Row(r.Executors, kind, fmt.Sprintf("%.0f", r.MessagesS), fmt.Sprintf("%.2f", r.BytesS/1e6), fmt.Sprintf("%.3f", r.ServersCPU),
			fmt.Sprintf("%.3f", r.ControllerCPU), fmt.Sprintf("%.0f", r.ControllerBytes/(1<<20)), fmt.Sprintf("%.3f", 100*r.MembersCPU/float64(r.Executors)),
			fmt.Sprintf("%.1f s", r.ReachS), fmt.Sprintf("%.2f s", r.AbortS), fmt.Sprintf("%.1f s", r.LapseS))
	}
	if err := t.Text(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nlease %g s; %d CPUs, other load %.0f %%\n%s\n", s.LeaseS, s.Machine.CPUs, 100*s.Machine.OtherLoad, s.bend())
	return err
}

// bend describes what saturates first as the group grows, extrapolating from the last two measured rows.
func (s *Result) bend() string {
	var rows []Row
	for _, r := range s.Rows {
		if !r.Extrapolated {
			rows = append(rows, r)
		}
	}
	if len(rows) < 2 {
		return "one size gives no line"
	}
	a, b := rows[len(rows)-2], rows[len(rows)-1]
	var limits []string
	for _, l := range []struct {
		name string
		of   func(Row) float64
		most float64
	}{
		{"a core of the controller", func(r Row) float64 { return r.ControllerCPU }, 1},
		{"a core of each server", func(r Row) float64 { return r.ServersCPU }, natshost.N},
		{"a network of 1 Gbit/s", func(r Row) float64 { return r.BytesS }, 125e6},
	} {
		each := (l.of(b) - l.of(a)) / float64(b.Executors-a.Executors)
		if each > 0 {
			limits = append(limits, fmt.Sprintf("%s is saturated at about %.2g executors", l.name, float64(b.Executors)+(l.most-l.of(b))/each))
		}
	}
	return strings.Join(limits, "; ")
}
