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

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

const (
	// driftInterval is how often ml-engine is asked: its index moves over days.
	driftInterval = 30 * time.Second
	// driftRetry is how soon it is asked again after an error: an engine that is back is seen to be back.
	driftRetry   = 2 * time.Second
	driftTimeout = 5 * time.Second
)

// errNotAsked is what is known before the first answer.
var errNotAsked = errors.New("ml-engine is being asked")

// drift keeps ml-engine's latest answer. It asks in a goroutine of its own, so that an engine that hangs holds up nobody.
type drift struct {
	ask    func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error)
	wanted chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	answer *mlenginev1.GetDriftResponse
	raw    json.RawMessage
	err    error
	next   time.Time // when the answer is too old
}

func startDrift(ask func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error)) *drift {
	ctx, cancel := context.WithCancel(context.Background())
	d := &drift{ask: ask, wanted: make(chan struct{}, 1), cancel: cancel, err: errNotAsked}
	d.done.Go(func() {
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

func (d *drift) stop() {
	d.cancel()
	d.done.Wait()
}

// latest is the answer, as message and as JSON, or why there is none. It never waits; one that is too old is asked for.
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

// reason is why there is no answer, in words for people who know neither gRPC nor sockets.
func reason(err error) error {
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable:
		return errors.New("ml-engine is not reached")
	case codes.DeadlineExceeded:
		return fmt.Errorf("ml-engine does not answer within %v", driftTimeout)
	default:
		return errors.New(s.Message())
	}
}

// checkDrift returns an error if the page could not show the answer: a number or a verdict that there is none of.
func checkDrift(d *mlenginev1.GetDriftResponse) error {
	check := func(name string, r *mlenginev1.DriftReading) error {
		if r == nil {
			return nil
		}
		for _, v := range []float64{r.GetPsi(), r.GetNullExpected(), r.GetNullQ95(), r.GetNullQ99(), r.GetPValue(), r.GetThreshold()} {
			if !(v >= 0 && v <= math.MaxFloat64) { // NaN too
				return fmt.Errorf("ml-engine's answer makes no sense: the index of %q has the number %v", name, v)
			}
		}
		if _, known := mlenginev1.DriftVerdict_name[int32(r.GetVerdict())]; !known {
			return fmt.Errorf("ml-engine's answer makes no sense: the index of %q has the verdict %d", name, r.GetVerdict())
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
	fresh := time.Now().Before(d.next) // it was wanted again while it was on its way
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
