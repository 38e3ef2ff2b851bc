package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// names is a name of ml-engine whose addresses the test sets. Each is an in-memory engine.
type names struct {
	*link

	engines []*enginetest.Engine
	mu      sync.Mutex
	named   []int
	err     error
}

func addrOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4010)
}

// newNames starts n engines, the first of which are named.
func newNames(t *testing.T, n int, named ...int) *names {
	t.Helper()
	s := &names{named: named}
	for range n {
		s.engines = append(s.engines, enginetest.Start(t, enginetest.Options{}))
	}
	s.link = &link{t: t, engine: s.engines[0], reg: prometheus.NewRegistry()}
	opts := options(s.reg)
	find := func(context.Context) (found []netip.AddrPort, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, i := range s.named {
			found = append(found, addrOf(i))
		}
		return found, s.err
	}
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		return s.engines[netip.MustParseAddrPort(addr).Addr().As4()[3]].Dial(ctx)
	}
	var err error
	if s.Engine, err = connect("dns:///ml-engine:4010", nil, opts, find, dial, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	synctest.Wait()
	return s
}

func (s *names) name(err error, named ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named, s.err = named, err
}

// calls makes n calls, one after another, and returns how many each engine got.
func (s *names) calls(n int) []int {
	s.t.Helper()
	for _, e := range s.engines {
		e.Forget()
	}
	for range n {
		s.want(shadow.Match)
	}
	return s.got()
}

func (s *names) got() []int {
	var got []int
	for _, e := range s.engines {
		got = append(got, len(e.Calls()))
	}
	return got
}

func (s *names) wantGot(got []int, want ...int) {
	s.t.Helper()
	if !slices.Equal(got, want) {
		s.t.Errorf("calls by engine: got %v, want %v", got, want)
	}
}

// Addresses with equally few rows in flight get batches in turn, and an address with rows in flight gets none.
func TestRowsGoToTheShortestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNames(t, 3, 0, 1, 2)
		s.wantGot(s.calls(30), 10, 10, 10)
		held, release := enginetest.Gate()
		for _, e := range s.engines {
			e.Break(held)
		}
		var busy sync.WaitGroup
		for range 3 {
			busy.Go(func() { _ = s.call(timeout) })
			synctest.Wait()
		}
		s.wantGot(s.got(), 11, 11, 11)
		release()
		busy.Wait()
		for i, e := range s.engines {
			if e.Heal(); i < 2 {
				e.Break(enginetest.Delay(50 * time.Millisecond))
			}
			e.Forget()
		}
		for range 3 {
			busy.Go(func() { _ = s.call(timeout) })
			synctest.Wait()
		}
		for range 10 {
			s.want(shadow.Match)
		}
		s.wantGot(s.got(), 1, 1, 11)
		busy.Wait()
	})
}

// An added address gets rows within 10 s. A removed one answers its rows and gets no more.
func TestAddressesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNames(t, 3, 0, 1)
		s.wantGot(s.calls(10), 5, 5, 0)
		s.name(nil, 0, 1, 2)
		time.Sleep(10 * time.Second)
		s.wantGot(s.calls(30), 10, 10, 10)
		s.name(nil, 1, 2)
		var slow sync.WaitGroup
		s.engines[0].Break(enginetest.Delay(59 * time.Millisecond))
		for end := time.Now().Add(resolveEvery); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			slow.Go(func() {
				if err := s.call(timeout); err != nil {
					t.Errorf("a row was lost when its address was removed: %v", err)
				}
			})
		}
		slow.Wait()
		s.wantGot(s.calls(10), 0, 5, 5)
		s.wantSeries(map[string]float64{
			"ml_shadow_engine_addresses ready": 2, "ml_shadow_engine_addresses draining": 0, "ml_shadow_engine_streams draining": 0,
		})
	})
}

// While one address is dead, all rows go to the others and none is lost.
func TestADeadAddressGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNames(t, 3, 0, 1, 2)
		s.calls(30)
		s.engines[0].Stop()
		synctest.Wait()
		s.wantGot(s.calls(30), 0, 15, 15)
		s.engines[0].Restart()
		time.Sleep(2 * time.Second)
		s.wantGot(s.calls(30), 10, 10, 10)
	})
}

// An address that hangs loses its rows in flight, and gets few more.
func TestAHungAddressGetsFewRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNames(t, 3, 0, 1, 2)
		s.calls(30)
		s.engines[0].Break(enginetest.Hang())
		lost := 0
		for range 1000 {
			if s.call(timeout) != nil {
				lost++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if lost < 5 || lost > 30 { // about one a second, since it is tried that often
			t.Errorf("%d of 1000 rows in more than 10 s were lost, want about one a second", lost)
		}
		s.engines[0].Heal()
		time.Sleep(reopenAtMost)
		s.calls(3)
		s.wantGot(s.calls(30), 10, 10, 10)
	})
}

// A lookup that fails or finds nothing keeps the addresses.
func TestLookupsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNames(t, 2)
		if err := s.call(timeout); shadow.OutcomeOf(err) != shadow.Unavailable {
			t.Errorf("without an address: got %v, want unavailable", err)
		}
		s.name(nil, 0, 1)
		time.Sleep(resolveRetry + time.Millisecond)
		s.wantGot(s.calls(10), 5, 5)
		s.name(errors.New("no such host"))
		time.Sleep(time.Minute)
		s.wantGot(s.calls(10), 5, 5)
		s.name(nil)
		time.Sleep(time.Minute)
		s.wantGot(s.calls(10), 5, 5)
	})
}

// A rolling restart, in which addresses change as pods are replaced, loses no row.
func TestARollingRestartLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNames(t, 4, 0, 1)
		stop := make(chan struct{})
		var traffic sync.WaitGroup
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(7 * time.Millisecond):
				}
				if err := s.call(timeout); err != nil {
					t.Errorf("a row was lost: %v", err)
				}
			}
		})
		for i := range 2 { // a new pod is ready before an old one stops, and the name follows after a while
			s.name(nil, i, i+1, i+2)
			time.Sleep(10 * time.Second)
			s.engines[i].Shutdown()
			time.Sleep(time.Second)
			s.name(nil, i+1, i+2)
			time.Sleep(10 * time.Second)
		}
		close(stop)
		traffic.Wait()
		s.wantGot(s.calls(10), 0, 0, 5, 5)
	})
}

// An executor uses at most 32 addresses, always the same ones, and another executor uses others.
func TestAddressesAreBounded(t *testing.T) {
	var found []netip.AddrPort
	for i := range 100 {
		found = append(found, addrOf(i), addrOf(i))
	}
	seed := maphash.MakeSeed()
	first := chosen(found, seed)
	slices.Reverse(found)
	if again := chosen(found, seed); len(first) != maxAddresses || !slices.Equal(first, again) {
		t.Errorf("got %d and %d addresses, want the same %d", len(first), len(again), maxAddresses)
	}
	used := map[string]int{}
	for range 100 {
		for _, name := range chosen(found, maphash.MakeSeed()) {
			used[name]++
		}
	}
	if len(used) != 100 {
		t.Errorf("100 executors use %d of 100 addresses, want all", len(used))
	}
	if got, want := chosen(found[:4], seed), 2; len(got) != want {
		t.Errorf("two addresses, each twice: got %v, want %d", got, want)
	}
}

// Only dns targets are resolved here.
func TestTargetsWithOneAddress(t *testing.T) {
	for target, want := range map[string]string{
		"dns:///ml-engine:4010": "ml-engine:4010", "dns:ml-engine:4010": "ml-engine:4010", "dns://10.0.0.1/ml-engine:4010": "ml-engine:4010",
		"dns://10.0.0.1:5353/ml-engine.desk:4010": "ml-engine.desk:4010", "127.0.0.1:4010": "", "ml-engine:4010": "", "unix:/run/e.sock": "",
	} {
		got := ""
		if lookupOf(target, (&net.Dialer{}).DialContext) != nil {
			got = endpointOf(target)
		}
		if got != want {
			t.Errorf("%s: resolved as %q, want %q", target, got, want)
		}
	}
}

// Wrong limits are an error, not a panic.
func TestConnectRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no calls": func(o *Options) { o.MaxInFlight = -1 }, "no rows": func(o *Options) { o.MaxBatch = 0 }, "no logger": func(o *Options) { o.Logger = nil },
		"no time": func(o *Options) { o.Timeout = 0 },
	} {
		opts := options(prometheus.NewRegistry())
		change(&opts)
		if _, err := Connect("127.0.0.1:1", nil, opts); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// A name server in the target is asked, and no other.
func TestNameServerOfTheTarget(t *testing.T) {
	for target, want := range map[string]string{
		"dns://127.0.0.1:5353/ml-engine.test:4010": "127.0.0.1:5353", "dns://127.0.0.1/ml-engine.test:4010": "127.0.0.1:53", "dns://[::1]/ml-engine.test:4010": "[::1]:53",
	} {
		var asked atomic.Value // A and AAAA are queried concurrently
		_, err := lookupOf(target, func(_ context.Context, _, addr string) (net.Conn, error) {
			asked.Store(addr)
			return nil, fmt.Errorf("no network in a test")
		})(t.Context())
		if err == nil || asked.Load() != want {
			t.Errorf("%s: asked %v, error %v; want %q", target, asked.Load(), err, want)
		}
		if failed := new(net.DNSError); !errors.As(err, &failed) || failed.Server != want {
			t.Errorf("%s: the error %v does not name %q", target, err, want)
		}
	}
	if found, err := lookupOf("dns:///127.0.0.1:4010", (&net.Dialer{}).DialContext)(t.Context()); err != nil || len(found) != 1 || found[0].String() != "127.0.0.1:4010" {
		t.Errorf("an address as the name: got %v, %v", found, err)
	}
}

// certified counts the calls of a server whose certificate is only for the name.
type certified struct {
	mlenginev1.UnimplementedScoringServiceServer

	authority, token atomic.Pointer[string]
}

func (s *certified) StreamPredict(stream batches.Stream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.authority.Store(&md.Get(":authority")[0])
	s.token.Store(&md.Get("authorization")[0])
	return batches.Answer(stream, nil, func(context.Context, *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
		return &mlenginev1.BatchPredictResponse{Scores: []float64{1}}, nil
	})
}

// On the connection to each address, certificates are checked against the name, not the address, and tokens are sent.
func TestEveryAddressIsTheName(t *testing.T) {
	for name, tt := range map[string]struct {
		target, serverName string
		want               bool
	}{
		"the name":             {"dns:///ml-engine:4010", "", true},
		"another name":         {"dns:///executor:4010", "", false},
		"another name, known":  {"dns:///executor:4010", "ml-engine", true},
		"the name, not wanted": {"dns:///ml-engine:4010", "executor", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, authority := t.TempDir(), certstest.NewAuthority(t, "desk")
			pair := authority.Issue("ml-engine")
			cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
			if err != nil {
				t.Fatal(err)
			}
			trusted := certs.Client{CA: certstest.Write(t, dir, "ca.pem", authority.PEM)}
			store, err := trusted.Open("engine-", "ml-engine", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			var engines [2]certified
			var listeners [2]*bufconn.Listener
			for i := range engines {
				server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
				mlenginev1.RegisterScoringServiceServer(server, &engines[i])
				listeners[i] = bufconn.Listen(1 << 20)
				served := make(chan error, 1)
				go func() { served <- server.Serve(listeners[i]) }()
				t.Cleanup(func() {
					server.Stop()
					<-served
				})
			}
			opts := options(prometheus.NewRegistry())
			find := func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{addrOf(0), addrOf(1)}, nil }
			dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
				return listeners[netip.MustParseAddrPort(addr).Addr().As4()[3]].DialContext(ctx)
			}
			token := grpc.WithPerRPCCredentials(rpc.Token(certstest.Write(t, dir, "token", []byte("0123456789abcdef\n"))))
			e, err := connect(tt.target, store.Credentials(tt.serverName), opts, find, dial, []grpc.DialOption{token})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			<-e.resolved
			waitConnected(t, e)
			for range 2 {
				_, err = e.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Values: []float64{1}})
				if (err == nil) != tt.want {
					t.Fatalf("got %v, want an answer: %t", err, tt.want)
				}
			}
			for i := range engines {
				if !tt.want {
					continue
				}
				host, _, _ := strings.Cut(strings.TrimPrefix(tt.target, "dns:///"), ":")
				if tt.serverName != "" {
					host = tt.serverName
				}
				if a := engines[i].authority.Load(); a == nil || !strings.HasPrefix(*a, host) {
					t.Errorf("engine %d: authority %v, want %s", i, a, host)
				}
				if a := engines[i].token.Load(); a == nil || *a != "Bearer 0123456789abcdef" {
					t.Errorf("engine %d: token %v", i, a)
				}
			}
		})
	}
}

// waitConnected waits until the client is connected to all addresses, or cannot be.
func waitConnected(t *testing.T, e *Engine) {
	t.Helper()
	for _, a := range *e.current.Load() {
		for s := a.conn.GetState(); s != connectivity.Ready && s != connectivity.TransientFailure; s = a.conn.GetState() {
			if !a.conn.WaitForStateChange(t.Context(), s) {
				t.Fatal(t.Context().Err())
			}
		}
	}
}
