package live

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// A symbol whose quotes are all ignored is named and counted. It recovers with a reset or by itself.
func TestLockedSymbols(t *testing.T) {
	book, _ := load(t, "")
	reg := prometheus.NewRegistry()
	book.RegisterMetrics(reg)
	gauges := func(locked, waiting, resets string) {
		t.Helper()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ml_feature_symbol_resets_total Symbols reset by an operator.
# TYPE ml_feature_symbol_resets_total counter
ml_feature_symbol_resets_total `+resets+`
# HELP ml_feature_symbols_locked Symbols whose last 10 or more quotes were all ignored. /readyz names them.
# TYPE ml_feature_symbols_locked gauge
ml_feature_symbols_locked `+locked+`
# HELP ml_feature_symbols_waiting Symbols with a quote after a jump in time that waits for a confirming second quote.
# TYPE ml_feature_symbols_waiting gauge
ml_feature_symbols_waiting `+waiting+`
`), "ml_feature_symbols_locked", "ml_feature_symbols_waiting", "ml_feature_symbol_resets_total"); err != nil {
			t.Error(err)
		}
	}
	see := func(symbol string, minute int, want feature.Note) {
		t.Helper()
		if got, err := book.Observe(symbol, quote(minute)); got != want || err != nil {
			t.Fatalf("%s, minute %d: got %v, %v, want %v", symbol, minute, got, err, want)
		}
	}
	const month = 30 * 24 * 60
	for _, symbol := range []string{"A", "B", "C", "D", "FINE"} {
		see(symbol, 0, feature.Accepted)
		see(symbol, 1, feature.Accepted)
	}
	see("FINE", month, feature.Jump)
	gauges("0", "1", "0")
	if got, want := book.Trouble(), `a second quote must confirm a jump in time for "FINE" (the last 1: jump)`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	see("FINE", 2, feature.Accepted)
	for _, symbol := range []string{"A", "B", "C", "D"} { // two wrong quotes agree
		see(symbol, month, feature.Jump)
		see(symbol, month+1, feature.Accepted)
	}
	for i := range 9 {
		for _, symbol := range []string{"A", "B", "C", "D"} {
			see(symbol, 2+i, feature.OutOfOrder)
		}
	}
	gauges("0", "0", "0")
	if got := book.Trouble(); got != "" {
		t.Errorf("got %q", got)
	}
	for _, symbol := range []string{"A", "B", "C", "D"} {
		see(symbol, 11, feature.OutOfOrder)
	}
	gauges("4", "0", "0")
	want := `every quote is ignored for "A" (the last 10: out_of_order), "B" (the last 10: out_of_order), "C" (the last 10: out_of_order) and 1 more`
	if got := book.Trouble(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !book.Reset("A") || book.Reset("A") {
		t.Error("A was not reset, or twice")
	}
	see("A", 12, feature.Accepted)
	see("B", month+2, feature.Accepted) // by itself
	gauges("2", "0", "1")
}

// A reset is saved even if no quote follows, so that a restart does not restore the symbol.
func TestResetIsSaved(t *testing.T) {
	dir := t.TempDir()
	book, _ := load(t, Folder(dir))
	k := Keep(book, Folder(dir), slog.New(slog.DiscardHandler))
	observe(t, book, 0, 3)
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, snapshotName))
	if err != nil {
		t.Fatal(err)
	}
	book.Reset("S")
	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(dir, snapshotName))
	if err != nil || bytes.Equal(before, after) {
		t.Errorf("the snapshot was not saved: %v", err)
	}
	if again, _ := load(t, Folder(dir)); len(again.Symbols()) != 0 {
		t.Errorf("got %v", again.Symbols())
	}
}

func TestResetSymbol(t *testing.T) {
	var log bytes.Buffer
	features, err := feature.NewBuilders(feature.BuildersOptions{})
	if err != nil {
		t.Fatal(err)
	}
	book := NewBook(features, slog.New(slog.NewTextHandler(&log, nil)))
	observe(t, book, 0, 3)
	s := NewService(book)
	for _, tt := range []struct {
		name string
		req  *executorv1.ResetSymbolRequest
		code codes.Code
		text string
	}{
		{"no symbol", &executorv1.ResetSymbolRequest{}, codes.InvalidArgument, "symbol is empty: name the one to reset"},
		{"long symbol", &executorv1.ResetSymbolRequest{Symbol: strings.Repeat("x", 65)}, codes.InvalidArgument, "symbol has 65 bytes: at most 64"},
		{"long reason", &executorv1.ResetSymbolRequest{Symbol: "S", Reason: strings.Repeat("x", 257)}, codes.InvalidArgument, "reason has 257 bytes: at most 256"},
		{"another symbol", &executorv1.ResetSymbolRequest{Symbol: "T"}, codes.NotFound, `symbol "T" has no features: none of its quotes was accepted`},
		{"the symbol", &executorv1.ResetSymbolRequest{Symbol: "S", Reason: "wrong prices"}, codes.OK, ""},
		{"again", &executorv1.ResetSymbolRequest{Symbol: "S"}, codes.NotFound, `symbol "S" has no features: none of its quotes was accepted`},
	} {
		_, err := s.ResetSymbol(t.Context(), tt.req)
		if got := status.Convert(err); got.Code() != tt.code || got.Message() != tt.text {
			t.Errorf("%s: got %v %q, want %v %q", tt.name, got.Code(), got.Message(), tt.code, tt.text)
		}
	}
	if !strings.Contains(log.String(), `symbol=S who="" reason="wrong prices"`) {
		t.Errorf("log: %s", log.String())
	}
	if n, err := book.Observe("S", market.Quote{Time: quote(-5).Time, Bid: 1, Ask: 2}); n != feature.Accepted || err != nil {
		t.Errorf("a quote of before: %v, %v", n, err)
	}
}
