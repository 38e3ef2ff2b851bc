package fleetsim

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// edit replaces a text that occurs once in the file.
type edit struct{ file, old, text string }

// mutants are defects of package group: edits of its source, and the rules that must detect each.
var mutants = []struct {
	name  string
	edits []edit
	rules []Rule
}{
	{"lease from receipt", receipt, []Rule{AfterLease}},
	{"admission not checked", append([]edit{
		{follower, "case f.session != r.GetSession() || r.GetRevision() < f.least:", "case false:"},
	}, receipt...), []Rule{NotAdmitted}},
	{"renewal accepted again", append([]edit{
		{follower, "case at == seen && f.record != nil:\n\t\treturn nil\n", ""},
	}, receipt...), []Rule{AfterLease}},
	{"old record accepted", []edit{{follower, "case at.before(seen):", "case false:"}}, []Rule{OlderRecord, Held}},
	{"other body accepted", []edit{{follower, "at.revision == seen.revision && body != f.state.Body", "false"}}, []Rule{OtherBody}},
	{"abort not obeyed", []edit{{follower, "case r.GetRevision() <= f.state.Held:", "case false:"}}, []Rule{Held}},
	{"abort of one executor ends with the next revision", []edit{{follower, "case f.session == r.GetSession() && f.earlier():", "case false:"}}, []Rule{Held}},
	{"state lost", []edit{{follower, "return &Follower{m: m, state: s}", "return &Follower{m: m}"}}, []Rule{Held, OlderRecord}},
	{"lease from the admission's arrival", []edit{{follower, "made := f.nonces[i].made", "made := now"}}, []Rule{AfterLease}},
	{"admission answers any report", []edit{
		{follower, "case i < 0:", "case i < 0 && len(f.nonces) == 0:"},
		{follower, "made := f.nonces[i].made", "made := f.nonces[max(i, 0)].made"},
	}, []Rule{NotAdmitted, AfterLease}},
	{"signature not checked", []edit{{common, "raw, _, err := keys.Open(e, payloadType)", "raw, err := e.Payload, error(nil)"}}, []Rule{Forged, NotAdmitted}},
	{"group not checked", []edit{
		{common, "if r.GetGroup() != group {", "if false {"},
		{follower, "a.GetGroup() != f.m.Group || ", ""},
	}, []Rule{Forged}},
}

// The files with the rules.
const (
	follower = "follower.go"
	common   = "group.go"
)

// receipt lets the lease start when a record is received.
var receipt = []edit{
	{follower, "nonces []nonce\n", "nonces []nonce\n\tcame time.Time\n"},
	{follower, "f.record = r\n", "f.record, f.came = r, time.Now()\n"},
	{follower, "return f.zeroAt(now).Add(f.record.GetUptime().AsDuration() + f.record.GetLease().AsDuration())", "return f.came.Add(f.record.GetLease().AsDuration())"},
}

// mutantVar names the variable with the rules that TestMutant must see broken.
const mutantVar = "GREENLIGHT_MUTANT"

// proofVar names the variable that makes the test try all mutants, which takes minutes; make fleet-proof sets it.
const proofVar = "GREENLIGHT_PROOF"

// A follower with a defect is detected: the schedules and the witness detect what they are meant to.
func TestMutantsAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles package group once for each mutant")
	}
	folder, err := filepath.Abs("../../../../../pkg/group")
	if err != nil {
		t.Fatal(err)
	}
	chosen := mutants[:3]
	if os.Getenv(proofVar) != "" {
		chosen = mutants
	}
	for _, m := range chosen {
		t.Run(m.name, func(t *testing.T) {
			dir, replaced := t.TempDir(), map[string]string{}
			overlay := filepath.Join(dir, "overlay.json")
			for _, e := range m.edits {
				source, mutated := filepath.Join(folder, e.file), filepath.Join(dir, e.file)
				if replaced[source] != "" {
					source = mutated
				}
				raw, err := os.ReadFile(source)
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(string(raw), e.old); n != 1 {
					t.Fatalf("%s has %q %d times: renew the table of mutants", e.file, e.old, n)
				}
				if err := os.WriteFile(mutated, []byte(strings.Replace(string(raw), e.old, e.text, 1)), 0o600); err != nil {
					t.Fatal(err)
				}
				replaced[filepath.Join(folder, e.file)] = mutated
			}
			list, err := json.Marshal(map[string]any{"Replace": replaced})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(overlay, list, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-overlay", overlay, "-run", "^TestMutant$", ".")
			var rules []string
			for _, r := range m.rules {
				rules = append(rules, string(r))
			}
			cmd.Env = append(os.Environ(), mutantVar+"="+strings.Join(rules, ","))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestMutant runs in the process of a mutant, and fails unless one of its rules is broken.
func TestMutant(t *testing.T) {
	rules := os.Getenv(mutantVar)
	if rules == "" {
		t.Skip("see TestMutantsAreFound")
	}
	o := Options{Executors: 10, Keys: newKeys(t), Dir: t.TempDir()}
	var seen []Violation
	for seed := range uint64(150) {
		for _, v := range simulate(o, seed).Violations {
			if slices.Contains(strings.Split(rules, ","), string(v.Rule)) {
				t.Logf("seed %d: %s: %s", seed, v.Rule, v.What)
				return
			}
			seen = append(seen, v)
		}
	}
	t.Errorf("none of %s is broken in 150 schedules; others: %v", rules, seen)
}
