package page

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

// frame shows the page at widths that a browser window cannot have. Once the page has its figures, it sends its content and
// its width at each size to the test. The image keeps the browser from ending earlier.
const frame = `<!doctype html><html><body><iframe id="f" src="/" width="%d" height="2600"></iframe><img src="/seen"><script>
const t = setInterval(() => {
	const d = document.getElementById("f").contentDocument;
	if (!d || !d.querySelector("#models dd") || !d.querySelector(".psi")) return;
	clearInterval(t);
	const e = d.documentElement;
	fetch("/seen", { method: "POST", body: e.scrollWidth + " of " + e.clientWidth + "\n" + d.querySelector("main").innerHTML });
}, 50);
</script></body></html>`

// browser runs headless Chromium on the address and returns its console output.
func browser(t *testing.T, url string, flags ...string) (console string) {
	t.Helper()
	path := need.Program(t, "chromium", "chromium")
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
		"--user-data-dir=" + t.TempDir(), "--enable-logging=stderr", "--timeout=30000", "--dump-dom",
	}, flags...)
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, append(args, url)...)
	cmd.Stderr, cmd.WaitDelay = &stderr, 10*time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, "CONSOLE") {
			console += line
		}
	}
	return console
}

// show opens the frames of the servers in one browser and returns its console output.
func show(t *testing.T, servers []*httptest.Server, flags ...string) (console string) {
	t.Helper()
	var frames strings.Builder
	for _, s := range servers {
		_, _ = fmt.Fprintf(&frames, `<iframe src="%s/frame" width="1250" height="2650"></iframe>`, s.URL)
	}
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<!doctype html><html><body>"+frames.String()+"</body></html>")
	}))
	defer whole.Close()
	return browser(t, whole.URL, flags...)
}

// view is the page of a world at a width, with its required content and the browser's results.
type view struct {
	world  *world
	width  int
	wanted []string
	*sightings
}

// serve serves the page in a frame until the test ends.
func (v *view) serve(t *testing.T) *httptest.Server {
	t.Helper()
	p := v.world.start()
	inner := p.mux()
	v.sightings = newSightings(frame, v.width)
	v.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(framed{w}, r) })
	server := httptest.NewServer(v)
	t.Cleanup(func() {
		_ = p.Stop(context.WithoutCancel(t.Context()))
		server.Close()
	})
	return server
}

// sightings serves a frame and receives what its script sends.
type sightings struct {
	*http.ServeMux

	seen  chan string
	shown chan struct{}
}

func newSightings(frame string, width int) *sightings {
	s := &sightings{http.NewServeMux(), make(chan string, 1), make(chan struct{}, 1)}
	s.HandleFunc("/frame", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, frame, width) })
	s.HandleFunc("POST /seen", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.seen <- string(body)
		s.shown <- struct{}{}
	})
	s.HandleFunc("GET /seen", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.shown:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return s
}

// body returns what was sent; empty if nothing was.
func (s *sightings) body() string {
	select {
	case body := <-s.seen:
		s.seen <- body
		return body
	default:
		return ""
	}
}

// The page has all figures, fits its width, and leaves nothing in the console, with a gate and without.
func TestPageInABrowser(t *testing.T) {
	shadows := []string{
		`<p class="word">no</p>`, `<p class="word">yes</p>`, "n&nbsp;=&nbsp;1,000", "want ≥ 99&nbsp;%,", "PSI 0.0512 is below 0.1234",
		`<p class="big good">98.49 %</p>`, "97.86 % to 98.94 %, n = 1,990<", "SLO 95 %", `Match rate <span class="period" data-of="2">last 5 min</span>`, `<span class="period" aria-live="off">since start</span>`,
		"<td>0.55</td><td>0.96</td><td>1.00</td><td>1,000</td>", "beyond 0.05: 1.0 %",
		"<td>1,960</td><td>70.6 %</td><td>1,960</td>", "not sampled", "<td>2,777</td>",
		"0.250 fail", "noise 99 % 0.310", "n = 10,080", "No data, n = 0: vol1m.",
		`<p class="big good">closed</p>`, "too few requests to judge", "3, 20.00 %, n = 15 in its window",
		"canary-42", `<p class="big">25 %</p>`, "observe only", "s left, held by", "&lt;b&gt;phase",
		"<dt>copy</dt><dd>v1.8.1-test<br>match rate 98.49 % (97.86 % to 98.94 %, n = 1,990)<br>noise floor 0.00 % (0.00 % to 0.19 %, n = 1,980)<br>coverage 99.50 %, p95 4.50 ms, breaker closed</dd>",
		"<dt>gbm</dt><dd>no model has answered yet<br>match rate not known<br>coverage not known, p95 not known, breaker open</dd>",
		"heuristic-test", baselineDigest, "v1.8.1-test", shadowDigest, "instance-1",
		`id="decider-card" aria-labelledby="h-decider" hidden=""`,
	}
	decides := []string{
		`<p class="word">the baseline</p>`, "killed by token:alice since Nov 30 03:04:05 UTC; the model decided 90.00&nbsp;%",
		"<li><strong>KILLED</strong> by token:alice at 2026-11-30 03:04:05 UTC: &lt;i&gt;wild&lt;/i&gt; orders on port 4020</li>",
		`<p class="big bad">model 90.0 %</p>`, `<th scope="row">model</th><td>900</td><td>90.0 %</td><td>900</td>`,
		`<th scope="row">baseline: out of domain</th><td>30</td><td>3.0 %</td><td>30</td>`, `<th scope="row">n</th><td>1,000</td><td>100.0 %</td><td>1,000</td>`,
		"<dd>shut</dd>", "95 % of all symbols", "120 of 5,000 requests in the last hour by more than 0.05; at most 500", "n = 900; at most 5 ms",
	}
	for scheme, flags := range map[string][]string{"light": nil, "dark": {"--blink-settings=preferredColorScheme=0"}} {
		t.Run(scheme, func(t *testing.T) {
			views := []*view{
				{world: newWorld(t), width: 1200, wanted: shadows},
				{world: newWorld(t), width: 320, wanted: shadows},
				{world: newWorld(t).gated().killed(), width: 1200, wanted: decides},
				{world: newWorld(t).gated().killed(), width: 320, wanted: decides},
			}
			var servers []*httptest.Server
			for _, v := range views {
				servers = append(servers, v.serve(t))
			}
			if console := show(t, servers, flags...); console != "" {
				t.Errorf("the console has: %s", console)
			}
			for _, v := range views {
				v.check(t)
			}
		})
	}
}

// check checks what the browser saw.
func (v *view) check(t *testing.T) {
	t.Helper()
	body := v.body()
	if body == "" {
		t.Fatal("the page has not got its figures")
	}
	var scroll, client int
	if _, err := fmt.Sscanf(body, "%d of %d", &scroll, &client); err != nil || scroll > client || client > v.width || client < v.width-40 {
		t.Errorf("the page is %d wide in %d (%v), want no overflow in about %d", scroll, client, err, v.width)
	}
	for _, want := range v.wanted {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "baseline: shed") {
		t.Error("the page has a reason without a decision")
	}
	if t.Failed() {
		t.Log(body)
	}
}

// deadFrame shows the page, makes the executor go silent once there are figures, and sends the page's content to the test.
const deadFrame = `<!doctype html><html><body><iframe id="f" src="/" width="%d" height="1000"></iframe><img src="/seen"><script>
let killed = false;
const t = setInterval(() => {
	const d = document.getElementById("f").contentDocument;
	if (!d || !d.querySelector("#models dd")) return;
	if (!killed) fetch("/silence", { method: "POST" });
	killed = true;
	if (d.getElementById("dead").hidden) return;
	clearInterval(t);
	const faded = getComputedStyle(d.querySelector("main")).opacity;
	fetch("/seen", { method: "POST", body: d.title + "\n" + d.getElementById("dead").innerText + "\nopacity " + faded });
}, 50);
</script></body></html>`

// When an executor goes silent, with or without closing its connections, the page shows it prominently.
func TestADeadExecutorInABrowser(t *testing.T) {
	frozen, frozenServer := dying(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	gone, goneServer := dying(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_ = show(t, []*httptest.Server{frozenServer, goneServer}) // the console shows failed requests
	for name, s := range map[string]*sightings{"frozen": frozen, "gone": gone} {
		for _, want := range []string{
			"NO ANSWER: trader-7, instance instance", "EXECUTOR DOES NOT ANSWER\n", "trader-7, instance instance has sent nothing for ",
			" UTC. The figures below are from that time.", "opacity 0.4",
		} {
			if got := s.body(); !strings.Contains(got, want) {
				t.Errorf("%s: the page says %q, want %q", name, got, want)
			}
		}
	}
}

// dying serves the page of an executor until the browser has its figures. Then end handles all requests.
func dying(t *testing.T, end http.HandlerFunc) (*sightings, *httptest.Server) {
	t.Helper()
	p := newWorld(t).start()
	inner := p.mux()
	silent, silence := context.WithCancel(t.Context())
	s := newSightings(deadFrame, 1200)
	s.HandleFunc("POST /silence", func(http.ResponseWriter, *http.Request) { silence() })
	s.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if silent.Err() != nil {
			end(w, r)
			return
		}
		if !strings.HasSuffix(r.URL.Path, "/events") {
			inner.ServeHTTP(framed{w}, r)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer context.AfterFunc(silent, cancel)()
		inner.ServeHTTP(framed{w}, r.WithContext(ctx))
		if silent.Err() != nil {
			end(w, r)
		}
	})
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		_ = p.Stop(context.WithoutCancel(t.Context()))
		server.Close()
		silence()
	})
	return s, server
}

// framed lets servers of this test frame the page; the rest of its policy applies.
type framed struct{ http.ResponseWriter }

func (w framed) Write(b []byte) (int, error) {
	if strict := w.Header().Get("Content-Security-Policy"); strict != "" {
		w.Header().Set("Content-Security-Policy", strings.Replace(strict, "frame-ancestors 'none'", "frame-ancestors http://127.0.0.1:*", 1))
	}
	return w.ResponseWriter.Write(b)
}

func (w framed) Unwrap() http.ResponseWriter { return w.ResponseWriter }
