package oipengine_test

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/link"
	"github.com/greenlight-ml/greenlight/pkg/shadow/oipengine"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/oiptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const width = 3

// score is the probability of every fake's model.
func score(x []float64) float64 { return 1 / (1 + math.Exp(0.5-x[0]-2*x[1]+0.3*x[2])) }

// trial is a dispatcher whose engine is a fake model server, as executor connects them.
type trial struct {
	*shadow.Dispatcher

	t      *testing.T
	server *oiptest.Server
	schema *feature.Schema
	log    *bytes.Buffer
}

// limits returns the limits of the connection, as executor sets them.
func limits(o shadow.Options) link.Options {
	return link.Options{Timeout: o.Timeout, MaxInFlight: o.MaxInFlight, MaxBatch: o.MaxBatch, Logger: o.Logger, Registerer: o.Registerer}
}

// start starts both. The parameters follow model=m.
func start(t *testing.T, server *oiptest.Server, parameters string, change func(*shadow.Options)) *trial {
	t.Helper()
	tr := &trial{t: t, server: server, schema: enginetest.Own(t, "desk", width), log: &bytes.Buffer{}}
	target, err := oipengine.ParseTarget("oip://passthrough:///bufnet:1?model=m" + parameters)
	if err != nil {
		t.Fatal(err)
	}
	opts := shadow.DefaultOptions()
	opts.Logger, opts.Registerer = slog.New(slog.NewTextHandler(tr.log, nil)), prometheus.NewRegistry()
	if change != nil {
		change(&opts)
	}
	engine, err := link.Connect(target.Addr, nil, limits(opts), append(oipengine.DialOptions(), server.Dialer())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	opts.Schemas = feature.NewKnown()
	if _, err := opts.Schemas.Add(tr.schema); err != nil {
		t.Fatal(err)
	}
	opts.Engine = oipengine.New(engine, target, tr.schema, opts.Logger)
	if tr.Dispatcher, err = shadow.New(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
		r := tr.Report()
		var ended uint64
		for _, o := range r.GetOutcomesTotal() {
			ended += o.GetCount()
		}
		if ended != r.GetRequestsTotal() || r.GetInFlight() != 0 {
			t.Errorf("%d requests and %d outcomes", r.GetRequestsTotal(), ended)
		}
	})
	synctest.Wait()
	return tr
}

// ask waits for the shadow of a state.
func (tr *trial) ask(x ...float64) shadow.Result {
	return tr.Wait(tr.t.Context(), shadow.Request{Arrival: time.Now(), Baseline: 0.5, State: shadow.State{Schema: tr.schema, Vector: x}})
}

// want checks an outcome, and a part of the text of its error.
func (tr *trial) want(r shadow.Result, outcome shadow.Outcome, text string) {
	tr.t.Helper()
	if r.Outcome != outcome || text != "" && (r.Err == nil || !strings.Contains(r.Err.Error(), text)) {
		tr.t.Errorf("got %v, %v; want %v, %q", r.Outcome, r.Err, outcome, text)
	}
}

// Every known kind of server accepts the requests, and its scores are read in the form in which it sends them.
func TestServers(t *testing.T) {
	for name, tt := range map[string]struct {
		kind       oiptest.Kind
		parameters string
		version    string
		single     bool // FP32
	}{
		"Triton":           {oiptest.Triton(), "&column=1", "m@1", true},
		"Triton, named":    {oiptest.Triton(), "&version=1&input=input__0&output=output__0&column=1", "m@1", true},
		"MLServer":         {oiptest.MLServer(), "&output=predict_proba&column=1", "m", false},
		"KServe":           {oiptest.KServe(), "", "m", false},
		"KServe, input":    {oiptest.KServe(), "&input=x", "m", false},
		"OVMS":             {oiptest.OVMS(), "&column=1", "m@1", true},
		"OVMS, by output":  {oiptest.OVMS(), "&output=probabilities&column=1", "m@1", true},
		"the other column": {oiptest.OVMS(), "&column=0", "m@1", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := start(t, oiptest.Start(t, tt.kind, width, score, false), tt.parameters, nil)
				if model, ok := tr.Ready(); !ok || model != tt.version {
					t.Fatalf("ready: got %q, %t, want %q\n%s", model, ok, tt.version, tr.log)
				}
				for i := range 20 {
					x := []float64{float64(i) / 7, 0.1, -float64(i) / 3}
					want := score(x)
					if tt.single {
						want = score([]float64{float64(float32(x[0])), float64(float32(x[1])), float64(float32(x[2]))})
					}
					if strings.HasSuffix(tt.parameters, "column=0") {
						want = 1 - want
					}
					if tt.single {
						want = float64(float32(want))
					}
					r := tr.ask(x...)
					if !r.Outcome.Compared() || math.Float64bits(r.Score) != math.Float64bits(want) {
						t.Fatalf("row %d: got %v, %v, %v; want %v", i, r.Outcome, r.Score, r.Err, want)
					}
					if r.Version != tt.version || !oip.Unpinned(r.Digest) || len(r.Digest) != 64 {
						t.Fatalf("model: got %q, %q", r.Version, r.Digest)
					}
				}
			})
		})
	}
}

// Rows that wait together go out in one call, and each gets the score of its row.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var settled []shadow.Result
		tr := start(t, oiptest.Start(t, oiptest.Triton(), width, score, false), "&column=1", func(o *shadow.Options) {
			o.MaxInFlight = 1
			o.OnSettled = func(_ shadow.Request, r shadow.Result) { settled = append(settled, r) }
		})
		tr.ask(0, 0, 0)
		for i := range 30 {
			tr.Detach(shadow.Request{Arrival: time.Now(), State: shadow.State{Schema: tr.schema, Vector: []float64{float64(i), 0, 0}}})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		calls := tr.server.Calls()
		if len(calls) != 2 || calls[1].GetInputs()[0].GetShape()[0] != 30 || len(settled) != 31 {
			t.Fatalf("got %d calls and %d results", len(calls), len(settled))
		}
		for i, r := range settled[1:] {
			if want := float64(float32(score([]float64{float64(i), 0, 0}))); r.Score != want {
				t.Errorf("row %d: got %v, want %v", i, r.Score, want)
			}
		}
	})
}

// A server may be ready without its model, or absent: both are unavailable, and recover without intervention.
func TestAbsence(t *testing.T) {
	for name, kind := range map[string]oiptest.Kind{"Triton": oiptest.Triton(), "MLServer": oiptest.MLServer(), "KServe": oiptest.KServe(), "OVMS": oiptest.OVMS()} {
		for way, absent := range map[string]func(*oiptest.Server, bool){
			"model": func(s *oiptest.Server, absent bool) { s.SetMissing(absent) },
			"server": func(s *oiptest.Server, absent bool) {
				if absent {
					s.Stop()
				} else {
					s.Restart()
				}
			},
		} {
			t.Run(name+" without "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := oiptest.Start(t, kind, width, score, false)
					absent(server, true)
					parameters := "&column=1"
					switch name {
					case "MLServer":
						parameters = "&output=predict_proba&column=1"
					case "KServe":
						parameters = ""
					}
					tr := start(t, server, parameters, nil)
					if _, ok := tr.Ready(); ok {
						t.Error("ready without a model")
					}
					tr.want(tr.ask(0, 0, 0), shadow.Unavailable, "has not been reached")
					absent(server, false)
					time.Sleep(5 * time.Second)
					if r := tr.ask(0.5, 0, 0); !r.Outcome.Compared() {
						t.Fatalf("after its return: %v, %v\n%s", r.Outcome, r.Err, tr.log)
					}
					absent(server, true) // after the model is known
					outcome := shadow.Unavailable
					if name == "MLServer" && way == "model" {
						outcome = shadow.Rejected // INVALID_ARGUMENT, as for a wrong request
					}
					tr.want(tr.ask(0, 0, 0), outcome, "")
					absent(server, false)
					time.Sleep(time.Minute)
					if r := tr.ask(0.5, 0, 0); !r.Outcome.Compared() {
						t.Errorf("at the end: %v, %v\n%s", r.Outcome, r.Err, tr.log)
					}
				})
			})
		}
	}
}

// A changed description of the model is learned again.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oiptest.Start(t, oiptest.OVMS(), width, score, false)
		tr := start(t, server, "&column=1", nil)
		first := tr.ask(0.5, 0, 0)
		tr.want(first, shadow.Match, "")

		server.Change(width+1, nil)
		tr.want(tr.ask(0.5, 0, 0), shadow.Rejected, "unexpected shape [1 3]")
		time.Sleep(time.Second)
		tr.want(tr.ask(0.5, 0, 0), shadow.Rejected, `input "X" has the shape [-1 4]: schema desk needs [-1, 3]`)
		if !strings.Contains(tr.log.String(), "every shadow will be rejected") {
			t.Errorf("log: %s", tr.log)
		}

		server.Change(width, func(k *oiptest.Kind) {
			k.Version = "12"
			k.Metadata = &inference.ModelMetadataResponse{Name: "m", Versions: []string{"2", "12"}, Inputs: k.Metadata.GetInputs(), Outputs: k.Metadata.GetOutputs()}
		})
		time.Sleep(time.Second)
		r := tr.ask(0.5, 0, 0)
		tr.want(r, shadow.Match, "")
		if r.Version != "m@12" || r.Digest == first.Digest {
			t.Errorf("got %s, %s after %s, %s", r.Version, r.Digest, first.Version, first.Digest)
		}
		if model, _ := tr.Ready(); model != "m@12" {
			t.Errorf("ready: %s", model)
		}
	})
}

// An invalid answer is rejected with a description; an invalid score fails only its row.
func TestAnswers(t *testing.T) {
	constant := func(v float64) func([]float64) float64 { return func([]float64) float64 { return v } }
	one := func(out oiptest.Output) func(*oiptest.Kind) {
		return func(k *oiptest.Kind) {
			k.Outputs = func([]float64, []string) ([]oiptest.Output, error) { return []oiptest.Output{out}, nil }
		}
	}
	for name, tt := range map[string]struct {
		kind       oiptest.Kind
		change     func(*oiptest.Kind)
		score      func([]float64) float64
		parameters string
		x          []float64
		outcome    shadow.Outcome
		text       string
	}{
		"[n, 1]":             {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "FP64", Shape: []int64{1, 1}, Values: []float64{0.5}}), nil, "", nil, shadow.Match, ""},
		"[n, 1, 1]":          {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "FP32", Shape: []int64{1, 1, 1}, Values: []float64{0.5}}), nil, "", nil, shadow.Match, ""},
		"0":                  {oiptest.KServe(), nil, constant(0), "", nil, shadow.Mismatch, ""},
		"1":                  {oiptest.KServe(), nil, constant(1), "", nil, shadow.Mismatch, ""},
		"above 1":            {oiptest.KServe(), nil, constant(1.0000001), "", nil, shadow.InvalidScore, "want a score in [0,1]"},
		"below 0":            {oiptest.OVMS(), nil, constant(-0.5), "&column=1", nil, shadow.InvalidScore, "want a score in [0,1]"},
		"not a number":       {oiptest.MLServer(), nil, constant(math.NaN()), "&output=predict_proba&column=1", nil, shadow.InvalidScore, "NaN"},
		"two columns":        {oiptest.Triton(), nil, nil, "", nil, shadow.Rejected, `output "output__0" has 2 columns: name the one with the score, for example column=1`},
		"no such column":     {oiptest.Triton(), nil, nil, "&column=2", nil, shadow.Rejected, "2 columns, numbered from 0: there is no column 2"},
		"columns, no meta":   {oiptest.MLServer(), nil, nil, "&output=predict_proba", nil, shadow.Rejected, "has 2 columns"},
		"a column of one":    {oiptest.KServe(), nil, nil, "&column=1", nil, shadow.Rejected, "has 1 column, numbered from 0: there is no column 1"},
		"no such output":     {oiptest.OVMS(), nil, nil, "&output=score", nil, shadow.Rejected, `no output is called "score": the outputs are "label" (INT64), "probabilities" (FP32)`},
		"a label":            {oiptest.OVMS(), nil, nil, "&output=label", nil, shadow.Rejected, `output "label" has the datatype INT64: want FP64 or FP32`},
		"only labels":        {oiptest.MLServer(), nil, nil, "", nil, shadow.Rejected, "the outputs are"},
		"no such input":      {oiptest.OVMS(), nil, nil, "&input=x&column=1", nil, shadow.Rejected, `no input is called "x": the inputs are "X" (FP32)`},
		"refused by server":  {oiptest.MLServer(), nil, nil, "&output=decision_function", nil, shadow.Rejected, "SKLearnModel only supports"},
		"more rows":          {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "FP64", Shape: []int64{2}, Values: []float64{0.5, 0.5}}), nil, "", nil, shadow.Rejected, "has the shape [2] for 1 row"},
		"no rows":            {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "FP64", Shape: nil, Values: []float64{0.5}}), nil, "", nil, shadow.Rejected, "has the shape [] for 1 row"},
		"fewer elements":     {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "FP64", Shape: []int64{1}}), nil, "", nil, shadow.Rejected, "the shape needs 1 elements"},
		"negative dimension": {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "FP64", Shape: []int64{1, -1}, Values: []float64{0.5}}), nil, "", nil, shadow.Rejected, "has the shape [1 -1]"},
		"a huge dimension":   {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "FP64", Shape: []int64{1, 1 << 10, 1 << 10, 1 << 60}, Values: []float64{0.5}}), nil, "&column=0", nil, shadow.Rejected, "at most 1024 columns"},
		"another datatype":   {oiptest.KServe(), one(oiptest.Output{Name: "s", Datatype: "INT64", Shape: []int64{1}, Values: []float64{1}}), nil, "", nil, shadow.Rejected, "the outputs are"},
		"no outputs": {oiptest.KServe(), func(k *oiptest.Kind) {
			k.Outputs = func([]float64, []string) ([]oiptest.Output, error) { return nil, nil }
		}, nil, "", nil, shadow.Rejected, "the outputs are : name one"},
		"beyond FP32": {oiptest.OVMS(), nil, nil, "&column=1", []float64{1e300, 0, 1e301}, shadow.Rejected, "own_0 is 1e+300: the model takes FP32"},
		"a fixed batch": {oiptest.OVMS(), func(k *oiptest.Kind) {
			in := k.Metadata.GetInputs()[0]
			k.Metadata = &inference.ModelMetadataResponse{Outputs: k.Metadata.GetOutputs(), Inputs: []*inference.ModelMetadataResponse_TensorMetadata{{Name: in.GetName(), Datatype: "FP32", Shape: []int64{4, 0}}}}
		}, nil, "&column=1", nil, shadow.Rejected, "the model takes exactly 4 rows, but the batch has 1"},
		"an input of integers": {oiptest.OVMS(), func(k *oiptest.Kind) {
			k.Metadata = &inference.ModelMetadataResponse{Inputs: []*inference.ModelMetadataResponse_TensorMetadata{{Name: "X", Datatype: "INT8", Shape: []int64{-1, 0}}}}
		}, nil, "", nil, shadow.Rejected, `input "X" has the datatype INT8: want FP64 or FP32`},
		"an input per feature": {oiptest.OVMS(), func(k *oiptest.Kind) {
			k.Metadata = &inference.ModelMetadataResponse{Inputs: []*inference.ModelMetadataResponse_TensorMetadata{{Name: "a", Datatype: "FP32"}, {Name: "b", Datatype: "FP32"}}}
		}, nil, "", nil, shadow.Rejected, `the inputs are "a" (FP32), "b" (FP32): name one with input=`},
		"two probabilities": {oiptest.OVMS(), func(k *oiptest.Kind) {
			k.Metadata = &inference.ModelMetadataResponse{
				Inputs: k.Metadata.GetInputs(), Outputs: []*inference.ModelMetadataResponse_TensorMetadata{{Name: "a", Datatype: "FP32"}, {Name: "b", Datatype: "FP64"}},
			}
		}, nil, "", nil, shadow.Rejected, `the outputs are "a" (FP32), "b" (FP64): name one with output=`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if tt.score == nil {
					tt.score = score
				}
				if tt.x == nil {
					tt.x = []float64{0.5, 0, 0}
				}
				server := oiptest.Start(t, tt.kind, width, tt.score, false)
				if tt.change != nil {
					server.Change(width, tt.change)
				}
				tr := start(t, server, tt.parameters, nil)
				tr.want(tr.ask(tt.x...), tt.outcome, tt.text)
			})
		})
	}
}

// Contents may be mixed, although the protocol forbids it: the packing of raw contents is an extra step in servers, as in
// https://github.com/SeldonIO/MLServer/pull/770, where the review asks whether the typed contents are removed.
func TestMixedContents(t *testing.T) {
	typed := &inference.InferTensorContents{Fp32Contents: []float32{0.25, 0.75}}
	label := &inference.InferTensorContents{Int64Contents: []int64{1}}
	raw := oip.FP32.Raw([]float64{0.25, 0.75})
	for name, tt := range map[string]struct {
		label, probabilities *inference.InferTensorContents
		raw                  [][]byte
		fails                string
	}{
		"both forms of each":            {label, typed, [][]byte{make([]byte, 8), raw}, ""},
		"the label typed, the rest raw": {label, nil, [][]byte{raw}, ""},
		"the label raw, the rest typed": {nil, typed, [][]byte{make([]byte, 8)}, ""},
		"an empty entry for the typed":  {label, nil, [][]byte{nil, raw}, ""},
		"all raw":                       {nil, nil, [][]byte{make([]byte, 8), raw}, ""},
		"all typed":                     {label, typed, nil, ""},
		"only the label":                {label, nil, nil, "0 bytes of raw contents"},
		"too few raw contents":          {nil, nil, [][]byte{make([]byte, 8)}, "0 bytes of raw contents"},
		"too many raw contents":         {label, nil, [][]byte{raw, nil, nil}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := oiptest.Start(t, oiptest.OVMS(), width, score, false)
				server.Change(width, func(k *oiptest.Kind) {
					k.Alter = func(r *inference.ModelInferResponse) {
						r.Outputs[0].Contents, r.Outputs[1].Contents, r.RawOutputContents = tt.label, tt.probabilities, tt.raw
					}
				})
				tr := start(t, server, "&column=1", nil)
				r := tr.ask(0, 0, 0)
				if tt.fails != "" {
					tr.want(r, shadow.Rejected, tt.fails)
				} else if !r.Outcome.Compared() || r.Score != 0.75 {
					t.Errorf("got %v, %v, %v", r.Outcome, r.Score, r.Err)
				}
			})
		})
	}
}

// A row that cannot be sent in FP32 does not fail the others of its batch.
func TestRowBeyondFP32(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var settled []shadow.Result
		tr := start(t, oiptest.Start(t, oiptest.Triton(), width, score, false), "&column=1", func(o *shadow.Options) {
			o.MaxInFlight = 1
			o.OnSettled = func(_ shadow.Request, r shadow.Result) { settled = append(settled, r) }
		})
		tr.ask(0, 0, 0)
		for _, x := range [][]float64{{1, 0, 0}, {0, 1e39, 0}, {2, 0, 0}} {
			tr.Detach(shadow.Request{Arrival: time.Now(), State: shadow.State{Schema: tr.schema, Vector: x}})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(settled) != 4 || !settled[1].Outcome.Compared() || settled[2].Outcome != shadow.Rejected || !settled[3].Outcome.Compared() {
			t.Fatalf("got %v", settled)
		}
		if want := float64(float32(score([]float64{2, 0, 0}))); settled[3].Score != want {
			t.Errorf("got %v, want %v", settled[3].Score, want)
		}
	})
}

// The answers of a model server are bounded like ml-engine's.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oiptest.Start(t, oiptest.KServe(), width, score, false)
		tr := start(t, server, "", nil)
		many := make([]oiptest.Output, 5000)
		for i := range many {
			many[i] = oiptest.Output{Name: "s", Datatype: "FP64"}
		}
		answer := func(outputs []oiptest.Output, version string) shadow.Result {
			server.Change(width, func(k *oiptest.Kind) {
				k.Version, k.Raw = version, func(bool) bool { return true }
				k.Outputs = func([]float64, []string) ([]oiptest.Output, error) { return outputs, nil }
			})
			return tr.ask(0, 0, 0)
		}
		tr.want(answer(many, ""), shadow.Internal, "parts")
		large := []oiptest.Output{{Name: "s", Datatype: "FP64", Shape: []int64{1, 16384}, Values: make([]float64, 16384)}}
		tr.want(answer(large, ""), shadow.Unavailable, "larger than max")
		fine := []oiptest.Output{{Name: "s", Datatype: "FP64", Shape: []int64{1}, Values: []float64{0.5}}}
		r := answer(fine, strings.Repeat("v\x1b", 5000))
		tr.want(r, shadow.Match, "")
		if len(r.Version) > 64 || strings.Contains(r.Version, "\x1b") {
			t.Errorf("version: %q", r.Version)
		}
	})
}

// gRPC's servers close connections that ping more than they allow: by default once in five minutes.
func TestNoPingsWithoutCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oiptest.Start(t, oiptest.Triton(), width, score, false)
		opts := shadow.DefaultOptions()
		opts.Logger, opts.Registerer = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
		engine, err := link.Connect("passthrough:///bufnet", nil, limits(opts), append(oipengine.DialOptions(), server.Dialer())...)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if n := server.Dials(); n != 1 {
			t.Errorf("%d connections in 30 quiet minutes, want 1", n)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestParseTarget(t *testing.T) {
	got, err := oipengine.ParseTarget("oip://triton:8001?model=m&version=2&input=a%20b&output=p&column=1")
	if want := (oipengine.Target{Addr: "triton:8001", Model: "m", Version: "2", Input: "a b", Output: "p", Column: 1}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for in, addr := range map[string]string{
		"oip://127.0.0.1:8001?model=m": "127.0.0.1:8001", "oip://[::1]:8001?model=m": "[::1]:8001",
		"oip://dns:///triton:8001?model=m": "dns:///triton:8001", "oip://unix:/run/ovms.sock?model=m": "unix:/run/ovms.sock",
	} {
		if got, err := oipengine.ParseTarget(in); err != nil || got != (oipengine.Target{Addr: addr, Model: "m", Column: -1}) {
			t.Errorf("%s: got %+v, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"oip://triton:8001":                                   "the model is missing",
		"oip://triton:8001?model=":                            "model must have one value",
		"oip://triton:8001?model=a&model=b":                   "model must have one value",
		"oip://triton?model=m":                                "there is no port",
		"oip://?model=m":                                      "it is empty",
		"oip://http://triton:8001?model=m":                    "http:// is not a gRPC scheme",
		"oip://triton:8001/v2?model=m":                        "the port must be a number",
		"oip://triton:8001?model=m&datatype=FP32":             `"datatype" is not a parameter`,
		"oip://triton:8001?model=m&column=x":                  `column "x" is not a number`,
		"oip://triton:8001?model=m&column=-1":                 `column "-1" is not a number`,
		"oip://triton:8001?model=m&column=1024":               "0 to 1023",
		"oip://triton:8001?model=%zz":                         "invalid URL escape",
		"oip://triton:8001?model=" + strings.Repeat("m", 257): "1 to 256 bytes",
		"triton:8001?model=m":                                 "want oip://",
	} {
		if _, err := oipengine.ParseTarget(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %q", in, err, want)
		}
	}
}
