package gatekeeper

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
)

func TestTerms(t *testing.T) {
	t.Parallel()
	if err := testTerms().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Terms){
		"no percent":            func(p *Terms) { p.Percent = 0 },
		"NaN percent":           func(p *Terms) { p.Percent = math.NaN() },
		"over 100 %":            func(p *Terms) { p.Percent, p.ObservePercent = 101, 101 },
		"more than is observed": func(p *Terms) { p.Percent = 60 },
		"no symbols":            func(p *Terms) { p.AllSymbols = false },
		"all and some":          func(p *Terms) { p.Symbols = []string{"A"} },
		"an empty symbol":       func(p *Terms) { p.AllSymbols, p.Symbols = false, []string{""} },
		"a long symbol":         func(p *Terms) { p.AllSymbols, p.Symbols = false, []string{strings.Repeat("x", 65)} },
		"too many symbols":      func(p *Terms) { p.AllSymbols, p.Symbols = false, make([]string, 1001) },
		"scores upside down":    func(p *Terms) { p.MinScore, p.MaxScore = 0.6, 0.5 },
		"a score above 1":       func(p *Terms) { p.MaxScore = 1.1 },
		"no wait":               func(p *Terms) { p.WaitBudget = 0 },
		"a long wait":           func(p *Terms) { p.WaitBudget = gate.Duration(61 * time.Millisecond) },
		"no changes":            func(p *Terms) { p.ChangedPercent = 0 },
		"a short lease":         func(p *Terms) { p.Lease = gate.Duration(999 * time.Millisecond) },
		"a long lease":          func(p *Terms) { p.Lease = gate.Duration(time.Hour + 1) },
	} {
		terms := testTerms()
		change(&terms)
		if terms.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

// A plan whose call is larger than an executor takes is refused with both sizes, before it is written and before it is started.
func TestPlanFitsIntoACall(t *testing.T) {
	t.Parallel()
	f := testPlan()
	f.AllSymbols = false
	for f.fits() == nil {
		if len(f.Symbols) == maxSymbols {
			t.Fatal("a thousand symbols of 64 bytes fit")
		}
		f.Symbols = append(f.Symbols, fmt.Sprintf("%064d", len(f.Symbols)))
	}
	size := func() int {
		raw, err := proto.Marshal(f.request("gate-20260102T150405Z-abcdef", "greenlight gate start", wire.Plan(f.Quality)))
		if err != nil {
			t.Fatal(err)
		}
		return len(raw)
	}
	const longest = 11 // bytes of a revision
	if n := size() + longest; n <= 64<<10 || n > 64<<10+66 {
		t.Errorf("%d symbols, which do not fit, make a call of %d bytes", len(f.Symbols), n)
	}
	f.Symbols = make([]string, maxSymbols)
	for i := range f.Symbols {
		f.Symbols[i] = fmt.Sprintf("%064d", i)
	}
	want := fmt.Sprintf("with 1000 symbols the call has %d bytes, but an executor takes at most 65536", size()+longest)
	for what, err := range map[string]error{"a new plan": f.fits(), "a plan that is started": f.Verify(nil)} {
		if !errors.Is(err, ErrTooManySymbols) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
}

// The phrase and the worst case contain the numbers of the plan.
func TestPhrase(t *testing.T) {
	t.Parallel()
	const want = "ONAY: Gate START v1.8.1 5% D=0.05 F=10% wait=5ms lease=30s observe=50% symbols=all score=0-1 model=aaaaaaaaaaaa plan=cccccccccccc nonce=n"
	f := testPlan()
	if got := f.Phrase("n"); got != want {
		t.Errorf("phrase %q", got)
	}
	worst := strings.Join(f.Worst(), "\n")
	for _, number := range []string{"at most 0.05 (D)", "at most 10 % (F)", "5 % of the requests of any symbol", "at most 5 ms", "within 30s (lease)"} {
		if !strings.Contains(worst, number) {
			t.Errorf("the worst case lacks %q: %s", number, worst)
		}
	}
}

// A phrase starts only its own plan, once.
func TestConfirmed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := State(filepath.Join(dir, "state"))
	f := written(t, filepath.Join(dir, "evidence"), testPlan().Plan)
	ticket, err := state.Issue(f, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other := *testPlan().Plan
	other.Percent = 50
	if _, err := state.Confirmed(written(t, filepath.Join(dir, "other"), &other), ticket.Phrase); !errors.Is(err, ErrOtherPlan) {
		t.Errorf("another plan: %v", err)
	}
	if _, err := state.Confirmed(f, strings.Replace(ticket.Phrase, "5%", "50%", 1)); !errors.Is(err, confirmation.ErrMismatch) {
		t.Errorf("an edited phrase: %v", err)
	}
	if ticket, err = state.Confirmed(f, ticket.Phrase); err != nil {
		t.Fatal(err)
	}
	run, err := state.Begin(f, ticket)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Confirmed(f, ticket.Phrase); !errors.Is(err, confirmation.ErrUsed) {
		t.Errorf("a second time: %v", err)
	}
}

// An edited plan file is refused, or has another digest, which no phrase confirms.
func TestReadPlan(t *testing.T) {
	t.Parallel()
	f := written(t, t.TempDir(), testPlan().Plan)
	path := filepath.Join(f.Folder, f.Input.Path)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]struct{ from, to string }{
		"D":           {`"disagreement_cap": 0.05`, `"disagreement_cap": 0.5`},
		"the percent": {`"percent": 5`, `"percent": 500`},
		"the schema":  {PlanSchema, RunSchema},
		"the source":  {`"requests": "simulated"`, `"requests": "mine"`},
		"the form":    {"{", ""},
	} {
		edited := strings.Replace(string(raw), change.from, change.to, 1)
		if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlan(path); edited == string(raw) || err == nil || !strings.Contains(err.Error(), f.Input.Path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
