package facade_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// reply is a handler's answer as JSON.
type reply struct {
	RequestID    *string  `json:"requestId"`
	Score        *float64 `json:"score"`
	ModelVersion *string  `json:"modelVersion"`
	Code         int      `json:"code"`
	Message      string   `json:"message"`
	Details      []struct {
		Reason   string            `json:"reason"`
		Domain   string            `json:"domain"`
		Metadata map[string]string `json:"metadata"`
	} `json:"details"`
}

func echo(_ context.Context, req *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	return &mlenginev1.PredictResponse{RequestId: req.GetRequestId(), Score: req.GetFeatures()["spread_bp"]}, nil
}

// post sends the body and returns the status, the answer and the codes of refused bodies.
func post(t *testing.T, body io.Reader, call func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error)) (int, reply, []codes.Code) {
	t.Helper()
	return postWith(t, nil, body, call)
}

// postWith is post with additional headers.
func postWith(t *testing.T, header map[string]string, body io.Reader, call func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error)) (int, reply, []codes.Code) {
	t.Helper()
	var refused []codes.Code
	handler := facade.Unary(call, facade.Route[*mlenginev1.PredictRequest]{
		Bodies: new(facade.Bodies), Prepare: func(r *mlenginev1.PredictRequest) { facade.CanonicalNames(r.GetFeatures()) },
		Refused: func(c codes.Code) { refused = append(refused, c) },
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body)
	r.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		r.Header.Set(k, v)
	}
	handler.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type: got %q, want application/json", got)
	}
	var got reply
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return w.Code, got, refused
}

func TestUnaryAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		body  string
		id    string
		score float64
	}{
		"snake_case": {`{"request_id":"r1","features":{"spread_bp":0.25}}`, "r1", 0.25},
		"camelCase":  {`{"requestId":"r1","features":{"spreadBp":0.25}}`, "r1", 0.25},
		"nothing":    {`{}`, "", 0}, // zero fields are included
	} {
		code, r, refused := post(t, strings.NewReader(tt.body), echo)
		if code != http.StatusOK || r.RequestID == nil || *r.RequestID != tt.id || r.Score == nil || *r.Score != tt.score || r.ModelVersion == nil {
			t.Errorf("%s: got %d %+v, want 200, id %q, score %v", name, code, r, tt.id, tt.score)
		}
		if len(refused) != 0 {
			t.Errorf("%s: refused %v", name, refused)
		}
	}
}

func TestUnaryRefusesBodies(t *testing.T) {
	for name, tt := range map[string]struct {
		body io.Reader
		http int
		code codes.Code
	}{
		"no JSON":        {strings.NewReader("mid=1"), http.StatusBadRequest, codes.InvalidArgument},
		"empty":          {strings.NewReader(""), http.StatusBadRequest, codes.InvalidArgument},
		"an unknown key": {strings.NewReader(`{"feature":{}}`), http.StatusBadRequest, codes.InvalidArgument},
		"a wrong type":   {strings.NewReader(`{"features":{"mid":"high"}}`), http.StatusBadRequest, codes.InvalidArgument},
		"two values":     {strings.NewReader(`{}{}`), http.StatusBadRequest, codes.InvalidArgument},
		"too large":      {strings.NewReader(`{"requestId":"` + strings.Repeat("x", 5<<20) + `"}`), http.StatusTooManyRequests, codes.ResourceExhausted},
	} {
		code, r, refused := post(t, tt.body, echo)
		if code != tt.http || codes.Code(r.Code) != tt.code || r.Message == "" {
			t.Errorf("%s: got %d %+v, want %d and %v", name, code, r, tt.http, tt.code)
		}
		if len(refused) != 1 || refused[0] != tt.code {
			t.Errorf("%s: refused %v, want %v once", name, refused, tt.code)
		}
	}
	// A canceled request is not reported as refused.
	code, _, refused := post(t, io.MultiReader(strings.NewReader("{"), broken{}), echo)
	if code != 499 || len(refused) != 0 {
		t.Errorf("broken off: got %d, refused %v; want 499 and nothing refused", code, refused)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestUnaryStatusOfEveryCode(t *testing.T) {
	want := map[codes.Code]int{
		codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504, codes.NotFound: 404,
		codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.ResourceExhausted: 429, codes.FailedPrecondition: 400,
		codes.Aborted: 409, codes.OutOfRange: 400, codes.Unimplemented: 501, codes.Internal: 500, codes.Unavailable: 503,
		codes.DataLoss: 500, codes.Unauthenticated: 401,
	}
	for c := codes.OK + 1; c <= codes.Unauthenticated; c++ {
		code, r, refused := post(t, strings.NewReader("{}"), func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
			return nil, status.Error(c, "made up")
		})
		if code != want[c] || codes.Code(r.Code) != c || r.Message != "made up" {
			t.Errorf("%v: got %d %+v, want %d", c, code, r, want[c])
		}
		if len(refused) != 0 {
			t.Errorf("%v: the handler's own error was reported as refused", c)
		}
	}
}

func TestUnaryErrorHasItsReason(t *testing.T) {
	_, r, _ := post(t, strings.NewReader("{}"), func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
		return nil, &rpc.Error{Code: codes.InvalidArgument, Domain: "d", Reason: "FEATURE_MISSING", Message: "m", Features: []string{"mid", "vol1m"}}
	})
	if len(r.Details) != 1 || r.Details[0].Reason != "FEATURE_MISSING" || r.Details[0].Domain != "d" || r.Details[0].Metadata["features"] != "mid,vol1m" {
		t.Errorf("details: got %+v", r.Details)
	}
}

func TestUnaryGet(t *testing.T) {
	handler := facade.Unary(echo, facade.Route[*mlenginev1.PredictRequest]{})
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", strings.NewReader("not looked at")))
	if w.Code != http.StatusOK {
		t.Errorf("got %d %s, want 200", w.Code, w.Body)
	}
}

func TestCanonicalNames(t *testing.T) {
	type features = map[string]float64
	for name, tt := range map[string]struct{ in, want features }{
		"nothing":              {nil, nil},
		"names as they are":    {features{"mid": 1, "spread_bp": 2, "vol1m": 3}, features{"mid": 1, "spread_bp": 2, "vol1m": 3}},
		"camelCase":            {features{"spreadBp": 2, "midLogret1m": 3, "zscoreMid24h": 4}, features{"spread_bp": 2, "mid_logret_1m": 3, "zscore_mid_24h": 4}},
		"relative forms":       {features{"vol1mLogRel": 1, "rsi14Z": 2}, features{"vol1m_log_rel": 1, "rsi14_z": 2}},
		"mixed":                {features{"mid": 1, "spreadBp": 2}, features{"mid": 1, "spread_bp": 2}},
		"both spellings stay":  {features{"spreadBp": 2, "spread_bp": 3}, features{"spreadBp": 2, "spread_bp": 3}},
		"unknown ones stay":    {features{"spreadBP": 2, "SpreadBp": 3, "": 4}, features{"spreadBP": 2, "SpreadBp": 3, "": 4}},
		"of all six in camels": {features{"bias": 1, "mid": 2, "spreadBp": 3, "vol1m": 4, "rsi14": 5, "midLogret1m": 6}, features{"bias": 1, "mid": 2, "spread_bp": 3, "vol1m": 4, "rsi14": 5, "mid_logret_1m": 6}},
	} {
		facade.CanonicalNames(tt.in)
		if !maps.Equal(tt.in, tt.want) {
			t.Errorf("%s: got %v, want %v", name, tt.in, tt.want)
		}
	}
}
