package bench

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// The names of the curves that [Scale.Capacity] reads.
const (
	ofRates        = "decisions a second, 100 % shadow"
	executorCPU    = "CPU of executor per decision"
	engineCPU      = "CPU of ml-engine per decision"
	executorMemory = "memory of executor"
	engineMemory   = "memory of ml-engine"
)

// minDecisions is the smallest number of decisions per rate.
const minDecisions = 1000

// rates measures decisions with a shadow at a fixed rate, which need not saturate the machine.
func (s *scaling) rates(ctx context.Context, rate, round int) ([]float64, error) {
	on := s.sides[shadowOn]
	length := max(s.opts.Open, minDecisions*time.Second/time.Duration(rate))
	before, _ := rig.CPU(s.engine.PID())
	got, err := on.open(ctx, float64(rate), seed(round, rate), span{length: length})
	if err != nil {
		return nil, err
	}
	after, _ := rig.CPU(s.engine.PID())
	executor, _ := on.process.Resident() // 0 if the system reports no CPU times
	engine, _ := s.engine.Resident()
	return []float64{
		cpuPerCall(got), float64((after - before).Nanoseconds()) / 1e3 / float64(got.all), float64(executor) / 1e6, float64(engine) / 1e6,
	}, nil
}

// capacityRates are the rates of the capacity table, in decisions per second.
var capacityRates = []int{1000, 10_000, 100_000}

// busyAtMost is the planned utilization of a core. Above one half, queueing grows faster than load, and there is no spare
// capacity if a replica fails.
const busyAtMost = 0.5

// Capacity is what a rate of decisions with a shadow needs.
type Capacity struct {
	Rate int `json:"rate"`
	// ExecutorCores and EngineCores are cores like those of the measured machine, half busy.
	ExecutorCores float64 `json:"executor_cores"`
	EngineCores   float64 `json:"engine_cores"`
	// MeasuredAt is the measured rate whose cost per decision is used: the highest one up to this rate.
	MeasuredAt int `json:"measured_at"`
}

// Capacities returns the capacities for 1,000, 10,000 and 100,000 decisions per second; none if CPU times are unknown.
func (s *Scale) Capacities() []Capacity {
	var executor, engine *Curve
	for i := range s.Curves {
		switch c := &s.Curves[i]; {
		case c.Of == ofRates && c.Measure == executorCPU:
			executor = c
		case c.Of == ofRates && c.Measure == engineCPU:
			engine = c
		}
	}
	if executor == nil || engine == nil {
		return nil
	}
	var list []Capacity
	for _, rate := range capacityRates {
		at := -1
		for i, p := range executor.Points {
			if p.Size <= rate {
				at = i
			}
		}
		if at < 0 || !(executor.Points[at].Value.Median > 0) {
			continue
		}
		cores := func(c *Curve) float64 { return float64(rate) * c.Points[at].Value.Median / 1e6 / busyAtMost }
		list = append(list, Capacity{Rate: rate, ExecutorCores: cores(executor), EngineCores: cores(engine), MeasuredAt: executor.Points[at].Size})
	}
	return list
}

// capacityTable writes what to provision.
func (s *Scale) capacityTable(w io.Writer) error {
	list := s.Capacities()
	if len(list) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(w)
	t := table.New(fmt.Sprintf(">to provision, cores %.0f %% busy: decisions/s", 100*busyAtMost), ">cores of executor", ">cores of ml-engine", ">costs as at")
	for _, c := range list {
		t.Row(c.Rate, threeDigits(c.ExecutorCores), threeDigits(c.EngineCores), fmt.Sprintf("%d/s", c.MeasuredAt))
	}
	return t.Text(w)
}
