package natsgroup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"))
}

// open opens a carrier until the test ends, and waits until it is connected if there is a server.
func open(t *testing.T, o natsgroup.Options) *natsgroup.Carrier {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Group == "" {
		o.Group = "desk-a"
	}
	c, err := natsgroup.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const (
	abort = fleetv1.StopKind_STOP_KIND_ABORT
	kill  = fleetv1.StopKind_STOP_KIND_KILL
)

// patience bounds what a test waits for on a machine with a load. No test takes longer for it.
const patience = time.Minute

// until calls until the call succeeds.
func until(t *testing.T, what string, call func(context.Context) error) {
	t.Helper()
	for end := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := call(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// stored waits until the newest record is the wanted one, and returns its version.
func stored(t *testing.T, c group.Carrier, want string) (version uint64) {
	t.Helper()
	until(t, "record "+want, func(ctx context.Context) error {
		r, at, err := c.Record(ctx)
		if err == nil && string(r) != want {
			err = errors.New("got " + string(r))
		}
		version = at
		return err
	})
	return version
}

func TestConforms(t *testing.T) {
	s := natstest.Start(t, 1)
	a, b := open(t, natsgroup.Options{URL: s.URL}), open(t, natsgroup.Options{URL: s.URL})
	stored(t, a, "")
	grouptest.Conform(t, a, b)
}

// Groups on one server do not see each other.
func TestGroupsAreApart(t *testing.T) {
	s := natstest.Start(t, 1)
	a, b := open(t, natsgroup.Options{URL: s.URL}), open(t, natsgroup.Options{URL: s.URL, Group: "desk-b"})
	stored(t, a, "")
	if _, err := a.Put(t.Context(), []byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(t.Context(), abort, []byte("halt")); err != nil {
		t.Fatal(err)
	}
	stored(t, b, "")
	if stops, err := b.Stops(t.Context()); err != nil || len(stops) > 0 {
		t.Errorf("another group has the stops %q (%v)", stops, err)
	}
}

// With the permissions of docs/fleet.md an executor and the operator can do what they must, and an executor no more.
func TestPermissions(t *testing.T) {
	s := natstest.StartSecured(t)
	table := permissions(t)
	operator := open(t, natsgroup.Options{URL: s.URL, Creds: s.Creds(table["operator publish"], table["operator subscribe"])})
	executor := open(t, natsgroup.Options{URL: s.URL, Creds: s.Creds(table["executor publish"], table["executor subscribe"])})
	stored(t, operator, "")
	version, err := operator.Put(t.Context(), []byte("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	stored(t, executor, "one")
	messages := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_ = executor.Watch(ctx, "executor-1", func(_ group.Kind, data []byte) { messages <- string(data) })
	})
	reports := make(chan string, 10)
	running.Go(func() { _ = operator.Reports(ctx, func(data []byte) { reports <- string(data) }) })
	defer running.Wait()
	defer cancel()
	next := func(from <-chan string, want string) {
		t.Helper()
		if got := <-from; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	next(messages, "one")
	if _, err := operator.Put(t.Context(), []byte("two"), version); err != nil {
		t.Fatal(err)
	}
	next(messages, "two")
	if err := operator.Admit(t.Context(), "executor-1", []byte("welcome")); err != nil {
		t.Fatal(err)
	}
	next(messages, "welcome")
	if err := operator.Stop(t.Context(), abort, []byte("halt")); err != nil {
		t.Fatal(err)
	}
	next(messages, "halt")
	// What an executor must not do. The server refuses a publication without an answer to it, so the next report shows that it
	// was read.
	for what, call := range map[string]func(context.Context) error{
		"record": func(ctx context.Context) error { _, err := executor.Put(ctx, []byte("mine"), 0); return err },
		"stop":   func(ctx context.Context) error { return executor.Stop(ctx, abort, []byte("mine")) },
		"kill":   func(ctx context.Context) error { return executor.Stop(ctx, kill, []byte("mine")) },
	} {
		short, end := context.WithTimeout(t.Context(), 100*time.Millisecond) // the server does not answer
		if err := call(short); err == nil {
			t.Errorf("an executor may store a %s", what)
		}
		end()
	}
	_ = executor.Admit(t.Context(), "executor-1", []byte("mine"))
	_ = executor.PublishReport(t.Context(), "executor-2", []byte("of another"))
	if err := executor.PublishReport(t.Context(), "executor-1", []byte("alive")); err != nil {
		t.Fatal(err)
	}
	next(reports, "alive")
	if err := executor.PublishBlocks(t.Context(), "executor-1", "1", []byte("block")); err != nil {
		t.Fatal(err)
	}
	var blocks []string
	if err := operator.Blocks(t.Context(), func(data []byte) { blocks = append(blocks, string(data)) }); err != nil || len(blocks) != 1 {
		t.Errorf("the operator reads %q (%v)", blocks, err)
	}
	stored(t, operator, "two")
	if err := operator.Stop(t.Context(), kill, []byte("kill")); err != nil {
		t.Fatal(err)
	}
	for who, c := range map[string]group.Carrier{"operator": operator, "executor": executor} {
		until(t, who, func(ctx context.Context) error {
			stops, err := c.Stops(ctx)
			if got := string(bytes.Join(stops, []byte(" "))); err == nil && got != "kill halt" {
				err = errors.New("the stops are " + got)
			}
			return err
		})
	}
	cancel()
	running.Wait()
	for len(messages) > 0 {
		if m := <-messages; m == "mine" {
			t.Error("an executor has sent a message to an executor")
		}
	}
}

// A stop that cannot be stored is sent, and the error is an ErrNotStored.
func TestStopNotStored(t *testing.T) {
	s := natstest.StartSecured(t)
	table := permissions(t)
	operator := open(t, natsgroup.Options{URL: s.URL, Creds: s.Creds(table["operator publish"], table["operator subscribe"])})
	stored(t, operator, "")
	if _, err := operator.Put(t.Context(), []byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	messages := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	executor := open(t, natsgroup.Options{URL: s.URL, Creds: s.Creds(table["executor publish"], table["executor subscribe"])})
	stored(t, executor, "one")
	running.Go(func() {
		_ = executor.Watch(ctx, "executor-1", func(_ group.Kind, data []byte) { messages <- string(data) })
	})
	defer running.Wait()
	defer cancel()
	<-messages // the record: it is subscribed
	publish := slices.DeleteFunc(slices.Clone(table["operator publish"]), func(subject string) bool { return strings.HasPrefix(subject, "$KV.") })
	c := open(t, natsgroup.Options{URL: s.URL, Creds: s.Creds(publish, table["operator subscribe"])})
	stored(t, c, "one")
	var err error
	for wait := 100 * time.Millisecond; wait < patience && !errors.Is(err, group.ErrNotStored); wait *= 2 { // the server does not answer
		short, end := context.WithTimeout(t.Context(), wait)
		err = c.Stop(short, kill, []byte("halt"))
		end()
	}
	if !errors.Is(err, group.ErrNotStored) {
		t.Errorf("got %v", err)
	}
	if got := <-messages; got != "halt" {
		t.Errorf("got %q", got)
	}
	if stops, err := operator.Stops(t.Context()); err != nil || len(stops) > 0 {
		t.Errorf("the store has the stops %q (%v)", stops, err)
	}
}

// The stream of blocks has the limits of the command in docs/fleet.md, so that no executor can fill it.
func TestStreamLimits(t *testing.T) {
	s := natstest.Start(t, 1)
	c := open(t, natsgroup.Options{URL: s.URL})
	until(t, "blocks", func(ctx context.Context) error {
		return c.PublishBlocks(ctx, "a", strings.Repeat("k", 300), make([]byte, group.MaxBlocks))
	})
	if err := c.PublishBlocks(t.Context(), "a", "2", make([]byte, group.MaxBlocks+1<<10)); err == nil {
		t.Error("a message that is too long is stored")
	}
	nc, err := nats.Connect(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "greenlight-desk-a-blocks")
	if err != nil {
		t.Fatal(err)
	}
	o := stream.CachedInfo().Config
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("--max-age %.0fd --max-bytes %dGiB --max-msgs-per-subject %d --max-msg-size %d --dupe-window %.0fm",
		o.MaxAge.Hours()/24, o.MaxBytes>>30, o.MaxMsgsPerSubject, o.MaxMsgSize, o.Duplicates.Minutes())
	if !strings.Contains(string(raw), want) {
		t.Errorf("docs/fleet.md does not make a stream with %s", want)
	}
	if all := o.MaxMsgsPerSubject * int64(o.MaxMsgSize); all > o.MaxBytes/4 {
		t.Errorf("an executor can store %d bytes of %d", all, o.MaxBytes)
	}
}

// permissions reads the table of the documentation: the subjects of each line, for the group desk-a and executor-1.
func permissions(t *testing.T) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.Contains(cells[3], "`") {
			continue
		}
		key := strings.TrimSpace(cells[1]) + " " + strings.TrimSpace(cells[2])
		subject := strings.NewReplacer("GROUP", "desk-a", "EXECUTOR", "executor-1").Replace(strings.Trim(strings.TrimSpace(cells[3]), "`"))
		table[key] = append(table[key], subject)
	}
	if len(table) != 4 {
		t.Fatalf("the table has %d kinds of permissions, want 4: %v", len(table), table)
	}
	return table
}

// One of three servers is killed, the one that leads. What was acknowledged stays, and calls and watches work again.
func TestClusterLosesItsLeader(t *testing.T) {
	s := natstest.Start(t, 3)
	a, b := open(t, natsgroup.Options{URL: s.URL}), open(t, natsgroup.Options{URL: s.URL})
	stored(t, a, "")
	until(t, "put", func(ctx context.Context) error {
		_, err := a.Put(ctx, []byte("before"), 0)
		return err
	})
	leader := -1
	until(t, "leader", func(context.Context) error {
		if leader = s.Leader("KV_greenlight-desk-a"); leader < 0 {
			return errors.New("none")
		}
		return nil
	})
	s.Kill(leader)
	version := stored(t, b, "before")
	until(t, "put", func(ctx context.Context) error {
		_, err := a.Put(ctx, []byte("after"), version)
		if errors.Is(err, group.ErrVersion) { // an earlier try was stored without an answer
			return nil
		}
		return err
	})
	stored(t, b, "after")
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string)
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			_ = b.Watch(ctx, "x", func(_ group.Kind, data []byte) {
				select {
				case seen <- string(data):
				case <-ctx.Done():
				}
			})
		}
	})
	for got := ""; got != "after"; { // a server that lags may begin with the record before
		got = <-seen
	}
	cancel()
	running.Wait()
	s.Restart(leader)
}

// A server that starts after its clients is found, and one that was wiped gets the bucket again.
func TestServerIsAwayAndComesBack(t *testing.T) {
	s := natstest.Start(t, 1)
	c := open(t, natsgroup.Options{URL: s.URL})
	stored(t, c, "")
	if _, err := c.Put(t.Context(), []byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	watching := make(chan struct{}, 2)
	go func() {
		ended <- c.Watch(t.Context(), "x", func(group.Kind, []byte) { watching <- struct{}{} })
	}()
	<-watching
	s.Kill(0)
	if err := <-ended; err == nil {
		t.Error("a watch outlives its connection without an error")
	}
	for what, call := range map[string]func() error{
		"record":  func() error { _, _, err := c.Record(t.Context()); return err },
		"put":     func() error { _, err := c.Put(t.Context(), nil, 1); return err },
		"admit":   func() error { return c.Admit(t.Context(), "x", nil) },
		"stop":    func() error { return c.Stop(t.Context(), abort, nil) },
		"report":  func() error { return c.PublishReport(t.Context(), "x", nil) },
		"blocks":  func() error { return c.PublishBlocks(t.Context(), "x", "1", nil) },
		"read":    func() error { return c.Blocks(t.Context(), nil) },
		"reports": func() error { return c.Reports(t.Context(), nil) },
		"watch":   func() error { return c.Watch(t.Context(), "x", nil) },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "not connected to nats://127.0.0.1") {
			t.Errorf("%s without a server: %v", what, err)
		}
	}
	s.Wipe(0)
	s.Restart(0)
	stored(t, c, "")
	if _, err := c.Put(t.Context(), []byte("two"), 0); err != nil {
		t.Error(err)
	}
	until(t, "blocks", func(ctx context.Context) error { return c.PublishBlocks(ctx, "x", "1", []byte("block")) })
}

// A server that accepts connections and never answers delays no call beyond its context, and no Close.
func TestHungServer(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepting.Go(func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
		}
	})
	defer accepting.Wait()
	defer l.Close()
	c := open(t, natsgroup.Options{URL: "nats://" + l.Addr().String()})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := c.Record(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
	c.Close()
}

func TestMessagesThatAreTooLong(t *testing.T) {
	s := natstest.Start(t, 1)
	c := open(t, natsgroup.Options{URL: s.URL})
	stored(t, c, "")
	long := bytes.Repeat([]byte("x"), group.MaxEnvelope+1)
	if _, err := c.Put(t.Context(), long, 0); err == nil {
		t.Error("a record that is too long is stored")
	}
	ctx, cancel := context.WithCancel(t.Context())
	messages, reports := make(chan int, 1), make(chan int, 1)
	first := func(to chan int, data []byte) {
		select {
		case to <- len(data):
		default:
		}
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = c.Watch(ctx, "x", func(_ group.Kind, data []byte) { first(messages, data) }) })
	running.Go(func() {
		_ = c.Reports(ctx, func(data []byte) {
			if data != nil { // it is too long
				first(reports, data)
			}
		})
	})
	longReport := bytes.Repeat([]byte("x"), group.MaxReport+1)
	for len(messages) == 0 || len(reports) == 0 {
		for _, data := range [][]byte{long, []byte("short")} {
			if err := c.Admit(t.Context(), "x", data); err != nil {
				t.Fatal(err)
			}
		}
		for _, data := range [][]byte{longReport, []byte("short")} {
			if err := c.PublishReport(t.Context(), "x", data); err != nil {
				t.Fatal(err)
			}
		}
		if ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond) // until both are subscribed
		}
	}
	if m, r := <-messages, <-reports; m != len("short") || r != len("short") {
		t.Errorf("taken %d and %d bytes", m, r)
	}
}

func TestOptions(t *testing.T) {
	good := natsgroup.Options{URL: "nats://a:4222,tls://b:4222", Group: "desk-a"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*natsgroup.Options){
		"no address":   func(o *natsgroup.Options) { o.URL = "" },
		"http":         func(o *natsgroup.Options) { o.URL = "http://a" },
		"no scheme":    func(o *natsgroup.Options) { o.URL = "a:4222" },
		"path":         func(o *natsgroup.Options) { o.URL = "nats://a:4222/x" },
		"password":     func(o *natsgroup.Options) { o.URL = "nats://me:secret@a:4222" },
		"broken":       func(o *natsgroup.Options) { o.URL = "nats://me:secret@a:x" },
		"second empty": func(o *natsgroup.Options) { o.URL += "," },
		"group":        func(o *natsgroup.Options) { o.Group = "a.b" },
		"no creds":     func(o *natsgroup.Options) { o.Creds = filepath.Join(t.TempDir(), "none") },
		"no CA":        func(o *natsgroup.Options) { o.CA = filepath.Join(t.TempDir(), "none") },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A report or a block that claims to be of another executor than that of its subject is handed over as nil: credentials allow the
// own subject alone.
func TestOtherExecutors(t *testing.T) {
	t.Parallel()
	c := open(t, natsgroup.Options{URL: natstest.Start(t, 1).URL, Group: "desk-a"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	encode := func(m proto.Message) []byte {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	report := func(id string) []byte { return encode(&fleetv1.Report{Group: "desk-a", ExecutorId: id}) }
	blocks := func(id string) []byte {
		return encode(&fleetv1.Blocks{Group: "desk-a", Quality: &executorv1.GetQualityReportResponse{ExecutorId: id}})
	}
	until(t, "blocks", func(ctx context.Context) error { return c.PublishBlocks(ctx, "a", "1", blocks("b")) })
	until(t, "blocks", func(ctx context.Context) error { return c.PublishBlocks(ctx, "a", "2", blocks("a")) })
	var stored []string
	if err := c.Blocks(ctx, func(raw []byte) { stored = append(stored, string(raw)) }); err != nil || !slices.Equal(stored, []string{"", string(blocks("a"))}) {
		t.Errorf("blocks: %q, %v", stored, err)
	}
	got := make(chan string, 100)
	var done sync.WaitGroup
	done.Go(func() { _ = c.Reports(ctx, func(raw []byte) { got <- string(raw) }) })
	defer done.Wait()
	defer cancel()
	for others := false; ; {
		for _, id := range []string{"b", "a"} {
			if err := c.PublishReport(ctx, "a", report(id)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case raw := <-got:
			switch {
			case raw == "":
				others = true
			case raw != string(report("a")):
				t.Errorf("got %q", raw)
			case others:
				return
			}
		case <-ctx.Done():
			t.Fatal("no report came")
		case <-time.After(10 * time.Millisecond): // it is not subscribed yet
		}
	}
}
