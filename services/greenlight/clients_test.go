package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// state is a market state of schema v1.8.1.
const state = "1,0.3,-0.2,0.1,0.4,0.5,-1"

// converse runs an example client: converse COMMAND ARG... The client asks executor for a decision for each line of its
// standard input, which has an id and the values of the state. The first line is sent as a call, the second as a message of a
// stream, and the third has no state. Then executor restarts at the same address, and the client must reconnect.
func (p *pairs) converse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: converse COMMAND ARG...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := exec.CommandContext(ctx, args[0], args[1:]...)
	client.Dir, client.Env = ts.MkAbs("."), append(client.Environ(), "PYTHONPATH="+ts.MkAbs("gen"))
	client.Stderr = ts.Stderr()
	in, err := client.StdinPipe()
	ts.Check(err)
	out, err := client.StdoutPipe()
	ts.Check(err)
	ts.Check(client.Start())
	answers := bufio.NewReader(out)
	ask := func(line string) string {
		_, err := fmt.Fprintln(in, line)
		ts.Check(err)
		answer, err := answers.ReadString('\n')
		if err != nil {
			ts.Fatalf("%s: no answer to %q: %v", args[0], line, err)
		}
		return strings.TrimSuffix(answer, "\n")
	}
	want := func(line, pattern string) {
		if answer := ask(line); !regexp.MustCompile(pattern).MatchString(answer) {
			ts.Fatalf("answer %q to %q does not match %q", answer, line, pattern)
		}
	}
	decided := `score 0\.\d{6} by v1\.8\.1-rc1, decided by DECIDER_MODEL, baseline 0\.\d{6}$`
	want("call "+state, `^call `+decided)
	want("message "+state, `^message `+decided)
	want("nothing", `^nothing INVALID_ARGUMENT INPUT_MISSING no input`)

	executor, _ := p.running.Load(service{ts, "executor"})
	ts.Check(executor.(running).Stop(10 * time.Second))
	want("away "+state, `^away UNAVAILABLE `)
	executor.(running).again()
	// After a restart the gate waits for its holder.
	back := regexp.MustCompile(`^back score 0\.\d{6} by heuristic-v1, decided by DECIDER_BASELINE, baseline 0\.\d{6}, FALLBACK_REASON_LEASE_LAPSED$`)
	for answer := ""; !back.MatchString(answer); answer = ask("back " + state) {
		if ctx.Err() != nil {
			ts.Fatalf("the client does not reconnect: %s", answer)
		}
	}
	ts.Check(in.Close())
	if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
		ts.Fatalf("after the end of its input the client prints %q (%v)", rest, err)
	}
	ts.Check(client.Wait())
}
