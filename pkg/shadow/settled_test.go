package shadow

import (
	"math"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// settlements collects the calls of OnSettled.
type settlements struct {
	mu      sync.Mutex
	results map[string][]Result
}

func (s *settlements) onSettled(r Request, res Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.results == nil {
		s.results = map[string][]Result{}
	}
	s.results[r.ID] = append(s.results[r.ID], res)
}

// OnSettled is called exactly once for every request, with the outcome that was counted.
func TestOnSettledIsCalledOncePerRequest(t *testing.T) {
	for name, fault := range map[string]enginetest.Fault{
		"healthy": {}, "slow": enginetest.Delay(50 * time.Millisecond), "hung": enginetest.Hang(),
		"failing": enginetest.Fail(codes.Internal), "out of range": enginetest.Answer(17), "refusing": enginetest.Fail(codes.InvalidArgument),
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				var s settlements
				tr := newTrial(t, enginetest.Options{}, func(o *Options) {
					o.OnSettled, o.QueueSize = s.onSettled, 50
				})
				tr.engine.Break(fault)
				const n = 300
				var waiters sync.WaitGroup
				for i := range n {
					r := tr.request()
					r.ID = strconv.Itoa(i)
					switch i % 3 {
					case 0:
						tr.Skip(r)
					case 1:
						tr.Detach(r)
					default:
						waiters.Go(func() {
							if got := tr.Wait(t.Context(), r); got.Latency > timeout {
								t.Errorf("waited %v", got.Latency)
							}
						})
					}
					if i%10 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				waiters.Wait()
				time.Sleep(timeout)
				synctest.Wait()
				tr.wantConserved(0)
				counts := map[Outcome]uint64{}
				for id, results := range s.results {
					if len(results) != 1 {
						t.Errorf("%s: called %d times", id, len(results))
					}
					r := results[0]
					counts[r.Outcome]++
					if r.Schema == nil || r.Schema.Name != "v1.8.1" {
						t.Errorf("%s: schema %v, want that of the model under trial", id, r.Schema)
					}
					if r.Outcome.Compared() && (r.Version != "v1.8.1-test" || r.Digest != tr.engine.Model().Digest()) {
						t.Errorf("%s: got %+v", id, r)
					}
				}
				if len(s.results) != n {
					t.Errorf("called for %d requests, want %d", len(s.results), n)
				}
				tr.wantTotals(counts)
			})
		})
	}
}

func TestOnSettledBeforeTheModelIsKnown(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		var s settlements
		tr := newTrial(t, enginetest.Options{Absent: true}, func(o *Options) { o.OnSettled = s.onSettled })
		r := tr.request()
		r.ID = "only"
		tr.Wait(t.Context(), r)
		synctest.Wait() // OnSettled may be called after Wait has returned
		if got := s.results["only"]; len(got) != 1 || got[0].Outcome != Unavailable || got[0].Schema != nil {
			t.Errorf("got %+v, want unavailable without a schema", got)
		}
	})
}

// Without OnSettled a request that is not sampled allocates nothing.
func TestOnSettledUnsetDoesNotAllocate(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Absent: true}, nil)
		r := tr.request()
		tr.Skip(r) // allocates the slot of the window
		if n := testing.AllocsPerRun(100, func() { tr.Skip(r) }); n != 0 {
			t.Errorf("%v allocations for a request that is not sampled, want none", n)
		}
	})
}

// An undefined feature counts as missing for a model of any other schema than the state's own.
func TestUndefinedFeaturesAreMissing(t *testing.T) {
	newer, older := mustSchema(t, "v1.8.1"), mustSchema(t, "v1.8")
	s := State{Schema: older, Vector: make([]float64, older.Len())}
	s.Vector[older.Index("rsi14")] = math.NaN()
	if _, ok := s.Value("rsi14"); ok {
		t.Error("NaN is a value")
	}
	if _, ok := s.Value("mid"); !ok {
		t.Error("0 is no value")
	}
	if _, ok := s.Project(newer); ok {
		t.Error("a state of v1.8 has the features of v1.8.1")
	}
}
