package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

const (
	// driftInterval is how often ml-engine is asked. Its index changes over days.
	driftInterval = 30 * time.Second
	// driftRetry is the wait after an error, short enough that a recovered engine is noticed.
	driftRetry   = 2 * time.Second
	driftTimeout = 5 * time.Second
)

var (
	// errNotAsked is the state before the first answer.
	errNotAsked = errors.New("ml-engine is being asked")
	// errNotReported is the state with an engine that is not asked.
	errNotReported = errors.New(oip.NoDrift)
)

// drift holds ml-engine's latest answer. A separate goroutine asks, so that a hung engine does not delay statuses.
type drift struct {
	ask    func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error)
	wanted chan struct{}
	stop   func()

	mu     sync.Mutex
	answer *mlenginev1.GetDriftResponse
	raw    json.RawMessage
	err    error
	next   time.Time // when to ask again
}

func startDrift(ask func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error)) *drift {
	d := &drift{ask: ask, wanted: make(chan struct{}, 1), stop: func() {}, err: errNotAsked}
	if ask == nil {
		d.err = errNotReported
		return d
	}
	d.stop = serve.Go(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.wanted:
				d.refresh(ctx)
			}
		}
	})
	return d
}

// latest returns the last answer, as message and as JSON, or an error if there is none. It never waits: if the answer is too
// old, it requests a new one.
func (d *drift) latest() (*mlenginev1.GetDriftResponse, json.RawMessage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !time.Now().Before(d.next) {
		select {
		case d.wanted <- struct{}{}:
		default:
		}
	}
	return d.answer, d.raw, d.err
}

// reason translates a gRPC error for people who do not know gRPC.
func reason(err error) error {
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable:
		return errors.New("ml-engine cannot be reached")
	case codes.DeadlineExceeded:
		return fmt.Errorf("ml-engine did not answer within %v", driftTimeout)
	default:
		return errors.New(s.Message())
	}
}

// checkDrift returns an error if the answer has an invalid number or an unknown verdict.
func checkDrift(d *mlenginev1.GetDriftResponse) error {
	check := func(name string, r *mlenginev1.DriftReading) error {
		if r == nil {
			return nil
		}
		for _, v := range []float64{r.GetPsi(), r.GetNullExpected(), r.GetNullQ95(), r.GetNullQ99(), r.GetPValue(), r.GetThreshold()} {
			if !(v >= 0 && v <= math.MaxFloat64) { // NaN too
				return fmt.Errorf("ml-engine's answer is invalid: the index of %q has the number %v", name, v)
			}
		}
		if _, known := mlenginev1.DriftVerdict_name[int32(r.GetVerdict())]; !known {
			return fmt.Errorf("ml-engine's answer is invalid: the index of %q has the verdict %d", name, r.GetVerdict())
		}
		return nil
	}
	if err := check("overall", d.GetOverall()); err != nil {
		return err
	}
	for _, f := range d.GetFeatures() {
		if err := check(f.GetFeature(), f.GetReading()); err != nil {
			return err
		}
	}
	return nil
}

func (d *drift) refresh(ctx context.Context) {
	d.mu.Lock()
	fresh := time.Now().Before(d.next) // it was requested again while this request was pending
	d.mu.Unlock()
	if fresh {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	answer, err := d.ask(ctx, &mlenginev1.GetDriftRequest{})
	var raw json.RawMessage
	if err == nil {
		err = checkDrift(answer)
	}
	if err == nil {
		raw, err = message(answer)
	}
	keep := driftInterval
	if err != nil {
		answer, err, keep = nil, reason(err), driftRetry
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer, d.raw, d.err, d.next = answer, raw, err, time.Now().Add(keep)
}
