package live

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quote(minute int) market.Quote {
	return market.Quote{Time: 1_736_121_600_000 + int64(minute)*market.MinuteMS, Bid: 100 + float64(minute), Ask: 101 + float64(minute)}
}

// load returns the book that a start loads, and its log.
func load(t *testing.T, f Folder) (*Book, string) {
	t.Helper()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	features, err := f.Load(feature.BuildersOptions{}, logger)
	if err != nil {
		t.Fatal(err)
	}
	return NewBook(features, logger), log.String()
}

func observe(t *testing.T, b *Book, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if note, err := b.Observe("S", quote(i)); err != nil || note != feature.Accepted {
			t.Fatalf("minute %d: %v, %v", i, note, err)
		}
	}
}

func snapshot(t *testing.T, b *Book) []byte {
	t.Helper()
	var w bytes.Buffer
	if err := b.Snapshot(&w); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// The features are saved every minute and at shutdown, and restored bit for bit.
func TestKeeper(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		folder := Folder(dir)
		book, _ := load(t, folder)
		k := Keep(book, folder, slog.New(slog.DiscardHandler))
		synctest.Wait()
		time.Sleep(2 * savePeriod)
		synctest.Wait()
		if got := files(t, dir); len(got) != 0 {
			t.Errorf("nothing was observed, but there are %v", got)
		}
		observe(t, book, 0, 100)
		want := snapshot(t, book)
		time.Sleep(savePeriod)
		synctest.Wait()
		got, err := os.ReadFile(filepath.Join(dir, snapshotName))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("after a minute: %d bytes, %v; want the %d of the book", len(got), err, len(want))
		}
		observe(t, book, 100, 130)
		want = snapshot(t, book)
		if err := k.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := files(t, dir); !slices.Equal(got, []string{snapshotName}) {
			t.Errorf("files: got %v", got)
		}
		again, log := load(t, Folder(dir))
		if got := snapshot(t, again); !bytes.Equal(got, want) || !strings.Contains(log, "symbols=1") {
			t.Errorf("another state came back: %s", log)
		}
		// Counters start at zero with the process.
		if got := again.Count(feature.Accepted); got != 0 {
			t.Errorf("%d quotes counted after a restart, want 0", got)
		}
		observe(t, again, 130, 131)
		observe(t, book, 130, 131)
		if got := again.Count(feature.Accepted); got != 1 || !bytes.Equal(snapshot(t, again), snapshot(t, book)) {
			t.Errorf("after the next quote the two differ (%d)", got)
		}
	})
}

func TestWithoutAFolder(t *testing.T) {
	folder := Folder("")
	book, _ := load(t, folder)
	k := Keep(book, folder, slog.New(slog.DiscardHandler))
	observe(t, book, 0, 1)
	if err := k.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// An unusable snapshot is kept under another name and logged, and does not prevent a start.
func TestUnusableSnapshots(t *testing.T) {
	good := func(t *testing.T) []byte {
		book, _ := load(t, "")
		observe(t, book, 0, 50)
		return snapshot(t, book)
	}
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"empty":         {func([]byte) []byte { return nil }, "truncated"},
		"cut":           {func(b []byte) []byte { return b[:len(b)-1] }, "truncated"},
		"a bit flipped": {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "not a usable snapshot"},
		"another file":  {func([]byte) []byte { return []byte("PAR1 and what not else there may be in it") }, "does not begin with"},
		"other version": {func(b []byte) []byte { b[8]++; return b }, "another version"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bad := tt.change(good(t))
			if err := os.WriteFile(filepath.Join(dir, snapshotName), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			book, log := load(t, Folder(dir))
			names := files(t, dir)
			if len(book.Symbols()) != 0 || len(names) != 1 || !strings.HasPrefix(names[0], snapshotName+".unusable-") {
				t.Fatalf("symbols %v, files %v; want none, and the file under a new name", book.Symbols(), names)
			}
			if kept, err := os.ReadFile(filepath.Join(dir, names[0])); err != nil || !bytes.Equal(kept, bad) {
				t.Errorf("the file that was set aside is another: %v", err)
			}
			for _, want := range []string{"level=ERROR", tt.want, names[0]} {
				if !strings.Contains(log, want) {
					t.Errorf("log %q: want %q in it", log, want)
				}
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	folder := Folder(dir)
	book, _ := load(t, folder)
	for _, symbol := range []string{"A", "B", "C"} {
		if _, err := book.Observe(symbol, quote(0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := folder.save(book.Builders); err != nil {
		t.Fatal(err)
	}
	if _, err := folder.Load(feature.BuildersOptions{MaxSymbols: 2}, logger); !errors.Is(err, feature.ErrTooManySymbols) || !strings.Contains(err.Error(), "raise --max-symbols") {
		t.Errorf("fewer symbols than before: got %v", err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{snapshotName}) {
		t.Errorf("files: got %v, want the snapshot as it was", got)
	}
}

// A failing disk is logged, and the save is retried.
func TestSaveFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		folder := Folder(dir)
		var log bytes.Buffer
		book, _ := load(t, folder)
		k := Keep(book, folder, slog.New(slog.NewTextHandler(&log, nil)))
		observe(t, book, 0, 10)
		blocked := filepath.Join(dir, "."+snapshotName+".tmp")
		if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o755); err != nil { // so that no file can be created with that name
			t.Fatal(err)
		}
		time.Sleep(savePeriod)
		synctest.Wait()
		if !strings.Contains(log.String(), "the features are not written: a restart may continue with older ones") {
			t.Errorf("log: got %q", log.String())
		}
		if got := k.Trouble(); got != "the features are not written" {
			t.Errorf("trouble: %q", got)
		}
		reg := prometheus.NewRegistry()
		k.RegisterMetrics(reg)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ml_feature_state_write_errors_total Failed writes of the features to the state folder.
# TYPE ml_feature_state_write_errors_total counter
ml_feature_state_write_errors_total 1
`)); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(blocked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(savePeriod)
		synctest.Wait()
		if got := files(t, dir); !slices.Equal(got, []string{snapshotName}) || k.Trouble() != "" {
			t.Errorf("after the disk is back: files %v, trouble %q", got, k.Trouble())
		}
		observe(t, book, 10, 20)
		if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := k.Stop(context.WithoutCancel(t.Context())); err == nil || !strings.Contains(err.Error(), "the features are not written") {
			t.Errorf("stop: got %v, want the failure of the last save", err)
		}
	})
}

func TestMetrics(t *testing.T) {
	features, err := feature.NewBuilders(feature.BuildersOptions{MaxSymbols: 1})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	book, reg := NewBook(features, slog.New(slog.NewTextHandler(&log, nil))), prometheus.NewRegistry()
	book.RegisterMetrics(reg)
	observe(t, book, 0, 3)
	_, _ = book.Observe("S", quote(0))
	for range 2 {
		if _, err := book.Observe("OTHER", quote(0)); !errors.Is(err, feature.ErrTooManySymbols) {
			t.Errorf("got %v", err)
		}
	}
	if n := strings.Count(log.String(), "too many symbols: the quotes"); n != 1 {
		t.Errorf("logged %d times that there are too many symbols, want once", n)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ml_feature_quotes_total Quotes observed, by how they were handled.
# TYPE ml_feature_quotes_total counter
ml_feature_quotes_total{note="accepted"} 3
ml_feature_quotes_total{note="ahead"} 0
ml_feature_quotes_total{note="bad_price"} 0
ml_feature_quotes_total{note="bad_time"} 0
ml_feature_quotes_total{note="crossed"} 0
ml_feature_quotes_total{note="crossed_kept"} 0
ml_feature_quotes_total{note="duplicate"} 0
ml_feature_quotes_total{note="jump"} 0
ml_feature_quotes_total{note="out_of_order"} 1
ml_feature_quotes_total{note="too_many_symbols"} 2
# HELP ml_feature_symbol_resets_total Symbols reset by an operator.
# TYPE ml_feature_symbol_resets_total counter
ml_feature_symbol_resets_total 0
# HELP ml_feature_symbols Symbols whose features are computed from quotes.
# TYPE ml_feature_symbols gauge
ml_feature_symbols 1
# HELP ml_feature_symbols_locked Symbols whose last 10 or more quotes were all ignored. /readyz names them.
# TYPE ml_feature_symbols_locked gauge
ml_feature_symbols_locked 0
# HELP ml_feature_symbols_waiting Symbols with a quote after a jump in time that waits for a confirming second quote.
# TYPE ml_feature_symbols_waiting gauge
ml_feature_symbols_waiting 0
`)); err != nil {
		t.Error(err)
	}
}
