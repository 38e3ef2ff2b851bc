package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func wantClean(t *testing.T, s string, limit int) {
	t.Helper()
	if len(s) > limit || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		t.Errorf("got a text of %d bytes, %.100q; want at most %d, valid and without control characters", len(s), s, limit)
	}
}

// Every field of every response that executor requests is bounded, including fields added later.
func TestEveryFieldOfAResponseIsBounded(t *testing.T) {
	for _, m := range []proto.Message{
		&mlenginev1.BatchPredictResponse{}, &mlenginev1.PredictResponse{}, &mlenginev1.GetModelInfoResponse{}, &mlenginev1.GetDriftResponse{},
	} {
		fill(m.ProtoReflect())
		m.ProtoReflect().SetUnknown(protoreflect.RawFields{0xfa, 0x07, 3, 'a', 'b', 'c'})
		c := cleaner{left: maxEngineParts}
		if !c.message(m.ProtoReflect(), MaxName) {
			t.Errorf("%T has too many parts", m)
		}
		texts := 0
		checkTexts(t, m.ProtoReflect(), &texts)
		if n := proto.Size(m); texts == 0 || n > 100*MaxText {
			t.Errorf("%T: %d texts, %d bytes", m, texts, n)
		}
	}
}

// fill sets every field. Texts and bytes are long and invalid, lists have three entries.
func fill(m protoreflect.Message) {
	const odd = "\x1b[2J\xff"
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		value := func() protoreflect.Value {
			switch f.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString(odd + strings.Repeat("v", 1<<20))
			case protoreflect.BytesKind:
				return protoreflect.ValueOfBytes(make([]byte, 1<<20))
			case protoreflect.MessageKind:
				var sub protoreflect.Message
				if f.IsList() {
					sub = m.Mutable(f).List().NewElement().Message()
				} else {
					sub = m.NewField(f).Message()
				}
				fill(sub)
				return protoreflect.ValueOfMessage(sub)
			default:
				if f.IsList() {
					return m.Mutable(f).List().NewElement()
				}
				return f.Default()
			}
		}
		if !f.IsList() {
			m.Set(f, value())
			continue
		}
		for range 3 {
			m.Mutable(f).List().Append(value())
		}
	}
}

func checkTexts(t *testing.T, m protoreflect.Message, n *int) {
	t.Helper()
	if len(m.GetUnknown()) > 0 {
		t.Errorf("%s has unknown fields", m.Descriptor().FullName())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.StringKind && !f.IsList():
			*n++
			wantClean(t, v.String(), MaxText)
		case f.Kind() == protoreflect.BytesKind:
			t.Errorf("%s has bytes", f.FullName())
		case f.Kind() == protoreflect.MessageKind && f.IsList():
			for i := range v.List().Len() {
				checkTexts(t, v.List().Get(i).Message(), n)
			}
		case f.Kind() == protoreflect.MessageKind:
			checkTexts(t, v.Message(), n)
		}
		return true
	})
}

// Each code that gRPC does not define would add a series to grpc_client_handled_total.
func TestCodesAreThoseOfGRPC(t *testing.T) {
	for code := range codes.Code(40) {
		got := status.Code(cleanError(status.Error(code, "x")))
		if want := code; got != want && (code <= codes.Unauthenticated || got != codes.Unknown) {
			t.Errorf("code %d became %v", code, got)
		}
	}
}

// A peer that sends endlessly is read at a limited rate. One that drops connections gets new ones at a limited rate.
func TestAFloodIsReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := slowed{insecure.NewCredentials(), rate.NewLimiter(engineDialsPerSecond, engineDialBurst)}
		ours, theirs := net.Pipe()
		go func() {
			for frames := make([]byte, 9<<10); ; {
				if _, err := theirs.Write(frames); err != nil {
					return
				}
			}
		}()
		conn, _, err := creds.Clone().ClientHandshake(t.Context(), "engine", ours)
		if err != nil {
			t.Fatal(err)
		}
		start, read := time.Now(), 0
		for buffer := make([]byte, 32<<10); read < 10*engineBytesPerSecond; {
			n, err := conn.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			read += n
		}
		if took := time.Since(start).Seconds(); took < 9.8 || took > 10.2 {
			t.Errorf("%d bytes were read in %.2f s, want 10 s", read, took)
		}
		_ = conn.Close()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a read after the end: %v", err)
		}
		_ = theirs.Close()
		start = time.Now()
		for range engineDialBurst - 1 + 10*engineDialsPerSecond {
			a, b := net.Pipe()
			if _, _, err := creds.ClientHandshake(t.Context(), "engine", a); err != nil {
				t.Fatal(err)
			}
			_, _ = a.Close(), b.Close()
		}
		if took := time.Since(start); took > 11*time.Second || took < 5*time.Second { // the first phase has refilled part of the burst
			t.Errorf("%d connections took %v", engineDialBurst, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := creds.ClientHandshake(ctx, "engine", nil); err == nil {
			t.Error("a connection was made although there was no time to wait for it")
		}
	})
}

// The limits leave room for the largest valid answers.
func TestBoundsLeaveRoomForHonestAnswers(t *testing.T) {
	for _, rows := range []int{1, 64, 10_000} {
		r := &mlenginev1.BatchPredictResponse{
			Scores: make([]float64, rows), ModelVersion: strings.Repeat("v", 64), ModelDigest: strings.Repeat("d", 64),
		}
		for i := range rows {
			r.Errors = append(r.Errors, &mlenginev1.RowError{
				Row: uint32(i), Reason: mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID,
				Message: fmt.Sprintf("row %d: %s is NaN: want a finite number", i, strings.Repeat("n", 64)),
			})
		}
		before := proto.Clone(r)
		c := cleaner{left: maxEngineParts + rows}
		if limit := engineBaseBytes + engineRowBytes*rows; proto.Size(r) > limit || !c.message(r.ProtoReflect(), MaxName) || !proto.Equal(r, before) {
			t.Errorf("%d rows that all failed: %d bytes, limit %d, changed: %v", rows, proto.Size(r), limit, !proto.Equal(r, before))
		}
	}
}
