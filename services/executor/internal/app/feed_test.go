package app_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Quotes ahead of the clock are ignored, the error of a request with one explains it, and a locked symbol is named until an
// operator resets it.
func TestLockedFeedsAreNamedAndReset(t *testing.T) {
	o := options(t, loopback(t))
	o.Control.Insecure = true
	r := start(t, o)
	ready := func() string {
		_, body := r.Get("/readyz")
		return body
	}
	at := func(d time.Duration) *executorv1.Quote {
		return &executorv1.Quote{Time: timestamppb.New(time.Now().Add(d)), Bid: 99, Ask: 101}
	}
	if _, err := r.observe([]*executorv1.Quote{at(2 * time.Hour), at(-2 * time.Minute), at(-time.Minute), at(30 * time.Second), at(2 * time.Minute)}).CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if got := r.metric("ml_feature_quotes_total ahead") + r.metric("ml_feature_quotes_total accepted"); got != "23" {
		t.Errorf("ahead and accepted: got %s, want 2 and 3", got)
	}
	code, body := r.Post("/predict-with-shadow", `{"symbol":"SIM","quote":{"time":"2150-01-01T00:00:00Z","bid":99,"ask":101}}`)
	if code != http.StatusBadRequest || !strings.Contains(body, "NOT_READY") || !strings.Contains(body, "ahead of this machine's clock by more than --max-quote-ahead") {
		t.Errorf("got %d %s", code, body)
	}
	if body := ready(); strings.Contains(body, "every quote is ignored") {
		t.Errorf("/readyz: %s", body)
	}
	var late []*executorv1.Quote
	for range 12 {
		late = append(late, at(-24*time.Hour))
	}
	if _, err := r.observe(late).CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if body := ready(); !strings.Contains(body, `; every quote is ignored for "SIM" (the last 14: out_of_order)`) {
		t.Errorf("/readyz: %s", body)
	}
	feeds := executorv1.NewFeedServiceClient(r.Conn)
	if _, err := feeds.ResetSymbol(t.Context(), &executorv1.ResetSymbolRequest{Symbol: "SIM", Reason: "the feed is of yesterday"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.observe(late).CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if body := ready(); strings.Contains(body, "every quote is ignored") {
		t.Errorf("/readyz: %s", body)
	}
	if log := r.Log(); !strings.Contains(log, "method=/greenlight.executor.v1.FeedService/ResetSymbol") || !strings.Contains(log, "the feed is of yesterday") {
		t.Errorf("audit: %s", log)
	}
}
