"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en-US");
  const count = (v) => number.format(Number(v));
  const percent = (v, digits = 1) => (100 * v).toFixed(digits) + " %";
  const millis = (v) => (v < 0.1 ? v.toFixed(3) : v < 10 ? v.toFixed(2) : v.toFixed(0));
  const words = (name, prefix) => name.replace(prefix, "").toLowerCase().replaceAll("_", " ");

  // span is a length of time for people.
  const span = (seconds) => (seconds < 90 ? Math.max(0, Math.round(seconds)) + " s" :
    seconds < 5400 ? Math.round(seconds / 60) + " min" : (seconds / 3600).toFixed(1) + " h");

  // el makes an element; children are elements or text, never markup.
  const el = (tag, attributes, ...children) => {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
    e.append(...children);
    return e;
  };
  const draw = (tag, attributes, ...children) => {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    e.append(...children);
    return e;
  };
  const pairs = (id, entries) => $(id).replaceChildren(...entries.flatMap(([k, ...v]) => [el("dt", {}, k), el("dd", {}, ...v)]));

  // answers are read out when a word changes, not each time that a figure does.
  const answers = (s) => {
    const at = $("answers");
    s.answers.forEach((a, i) => {
      const li = at.children[i] || at.appendChild(el("li", {},
        el("h2", { class: "question" }, a.question), el("p", { class: "word" }), el("p", { class: "muted", "aria-live": "off" })));
      li.className = a.tone;
      const [, word, why] = li.children;
      if (word.textContent !== a.word) word.textContent = a.word;
      why.textContent = a.why;
    });
  };

  const match = (s) => {
    const w = s.report.window, n = Number(w.comparisons);
    if (n === 0) {
      $("match").replaceChildren(el("p", { class: "muted" }, "Nothing was compared in the window, n = 0."));
      return;
    }
    const rate = w.matchRate, low = w.matchRateLow, high = w.matchRateHigh;
    const from = low < 0.9 ? 0 : 0.9; // the scale begins where there is something to see
    const x = (v) => 10 + 380 * (v - from) / (1 - from);
    const slo = "SLO " + percent(s.matchTarget, 0);
    $("match").replaceChildren(
      el("p", { class: "big" }, percent(rate, 2)),
      el("p", { class: "muted" }, `95 % Wilson bounds ${percent(low, 2)} to ${percent(high, 2)}, n = ${count(n)} in ${span(parseFloat(w.length))}`),
      draw("svg", { viewBox: "0 0 400 52", role: "img", "aria-label": `match rate ${percent(rate, 2)}, bounds ${percent(low, 2)} to ${percent(high, 2)}, ${slo}` },
        draw("rect", { class: "track", x: 10, y: 18, width: 380, height: 16, rx: 3 }),
        draw("rect", { class: "bar", x: x(low), y: 18, width: Math.max(3, x(high) - x(low)), height: 16 }),
        draw("line", { class: "mark", x1: x(rate), x2: x(rate), y1: 15, y2: 37 }),
        draw("line", { class: "target", x1: x(s.matchTarget), x2: x(s.matchTarget), y1: 12, y2: 40 }),
        draw("text", { x: x(s.matchTarget), y: 9, "text-anchor": "middle" }, slo),
        draw("text", { x: 10, y: 50 }, percent(from, 0)),
        draw("text", { x: 390, y: 50, "text-anchor": "end" }, "100 %")),
      el("p", { class: "muted" }, `Coverage ${w.coverage == null ? "not known" : percent(w.coverage, 2)}; ` +
        (w.matchRateWorst == null ? "" : `${percent(w.matchRateWorst, 2)} if all that is missing were a mismatch, `) +
        `error rate ${w.errorRate == null ? "not known" : percent(w.errorRate, 2)}.`));
  };

  const since = (d) => (d.seconds === 0 ? "since start" : "last " + span(d.seconds));

  const latency = (s) => {
    const w = s.report.window;
    const row = (name, q, n) => el("tr", {}, el("th", { scope: "row" }, name),
      ...(Number(n) === 0 ? ["–", "–", "–"] : [q.p50, q.p95, q.p99].map(millis)).map((v) => el("td", {}, v)), el("td", {}, count(n)));
    $("latency").replaceChildren(row("baseline", s.baseline, s.baseline.n), row("shadow", w.latencyMs, w.latencyMs.count));
    $("latency-note").textContent = `From the arrival of a request. Baseline: ${since(s.baseline)}. Shadow: the comparisons of the last ${span(parseFloat(w.length))}.`;
  };

  const delta = (s) => {
    const { edges, counts, n } = s.delta, w = s.report.window;
    if (n === 0) {
      $("delta").replaceChildren(el("p", { class: "muted" }, `Nothing was compared ${since(s.delta)}, n = 0.`));
      return;
    }
    const shown = counts.slice(0, edges.length), most = Math.max(...shown), step = 380 / shown.length;
    const tolerance = 0.05, border = 10 + step * (edges.indexOf(tolerance) + 1);
    const bars = shown.map((c, i) => {
      const height = c === 0 ? 0 : Math.max(2, 92 * c / most);
      return draw("rect", { class: edges[i] <= tolerance ? "bar" : "over", x: 11 + i * step, y: 114 - height, width: step - 2, height },
        draw("title", {}, `${i === 0 ? 0 : edges[i - 1]} to ${edges[i]}: ${count(c)} (${percent(c / n)})`));
    });
    const labels = edges.map((e, i) => [e, i]).filter(([, i]) => i % 3 === 1)
      .map(([e, i]) => draw("text", { x: 10 + (i + 1) * step, y: 129, "text-anchor": "middle" }, String(e)));
    $("delta").replaceChildren(
      el("p", { class: "muted" }, `|shadow − baseline| per comparison, ${since(s.delta)}, n = ${count(n)}`),
      draw("svg", { viewBox: "0 0 400 134", role: "img", "aria-label": `histogram of the differences, p50 ${s.delta.p50.toPrecision(2)}, p95 ${s.delta.p95.toPrecision(2)}, p99 ${s.delta.p99.toPrecision(2)}, n = ${count(n)}` },
        draw("line", { class: "mark", x1: 10, x2: 390, y1: 115, y2: 115 }), ...bars, ...labels,
        draw("line", { class: "target", x1: border, x2: border, y1: 3, y2: 115 }),
        draw("text", { x: border + 5, y: 12 }, `${tolerance}: mismatch beyond`)),
      el("p", { class: "muted" }, `p50 ${s.delta.p50.toPrecision(2)}, p95 ${s.delta.p95.toPrecision(2)}, p99 ${s.delta.p99.toPrecision(2)}; ` +
        `mean of shadow − baseline ${w.meanDelta == null ? "not known" : w.meanDelta.toPrecision(2)}, n = ${count(w.comparisons)} in ${span(parseFloat(w.length))}`));
  };

  const outcomes = (s) => {
    const totals = new Map(s.report.outcomesTotal.map((o) => [o.outcome, Number(o.count)]));
    let inWindow = 0, inAll = 0;
    $("outcomes").replaceChildren(...s.report.window.outcomes.map((o) => {
      const recent = Number(o.count), all = totals.get(o.outcome) || 0;
      inWindow += recent;
      inAll += all;
      return el("tr", all === 0 ? { class: "zero" } : {}, el("th", { scope: "row" }, words(o.outcome, "SHADOW_OUTCOME_")),
        el("td", {}, count(recent)), el("td", {}, count(all)));
    }));
    $("outcomes-sum").replaceChildren(
      el("tr", {}, el("th", { scope: "row" }, "n"), el("td", {}, count(inWindow)), el("td", {}, count(inAll))));
    $("window").textContent = "last " + span(parseFloat(s.report.window.length));
  };

  const drift = (s) => {
    if (!s.drift) {
      $("drift").replaceChildren(el("p", {}, "Not known: " + s.driftError));
      return;
    }
    const rows = (s.drift.features || []).map((f) => [f.feature, f.role, f.rows, f.reading]);
    const all = s.drift.overall ? [["overall", "mean of the model's features", s.drift.rows, s.drift.overall], ...rows] : rows;
    const scale = Math.max(0.4, ...all.flatMap(([, , , r]) => (r ? [r.psi, r.nullQ99 || 0] : [])));
    const x = (v) => 400 * v / scale;
    $("drift").replaceChildren(
      el("p", { class: "muted" }, `${count(s.drift.rows)} rows of ${s.drift.days} days. Bar: PSI; dashed: threshold; solid mark: what noise alone reaches once in a hundred times.`),
      ...all.map(([name, role, n, r]) => {
        if (!r) return el("div", { class: "psi" }, el("span", { class: "name" }, name), el("span", {}, "no data"), el("small", {}, `${role}, n = 0`));
        const verdict = words(r.verdict, "DRIFT_VERDICT_"), noise = r.nullQ99 == null ? "noise not known" : `noise 99 % ${r.nullQ99.toFixed(3)}`;
        const marks = [draw("line", { class: "target", x1: x(r.threshold), x2: x(r.threshold), y1: 0, y2: 14 })];
        if (r.nullQ99 != null) marks.push(draw("line", { class: "mark", x1: x(r.nullQ99), x2: x(r.nullQ99), y1: 0, y2: 14 }));
        return el("div", { class: "psi" },
          el("span", { class: "name" }, name), el("span", {}, `${r.psi.toFixed(3)} ${verdict}`),
          draw("svg", { viewBox: "0 0 400 14", role: "img", "aria-label": `${name}: PSI ${r.psi.toFixed(3)}, ${verdict}` },
            draw("rect", { class: "track", x: 0, y: 3, width: 400, height: 8, rx: 2 }),
            draw("rect", { class: r.verdict === "DRIFT_VERDICT_FAIL" ? "over" : "bar", x: 0, y: 3, width: Math.max(1, x(r.psi)), height: 8, rx: 2 }), ...marks),
          el("small", {}, `${role}, ${noise}, threshold ${r.threshold}, n = ${count(n)}`));
      }));
  };

  const rollout = (s) => {
    const r = s.rollout, b = s.report.breaker, now = Date.parse(s.time);
    const entries = [
      ["sampled", `${r.percent} % of the requests, ${words(r.mode, "ROLLOUT_MODE_")}`],
      ["set by", `${r.setBy}${r.setFrom ? " from " + r.setFrom : ""}, revision ${r.revision}`],
      ["reason", r.reason || "none given"],
      ["lease", r.leaseExpireTime ? `${span((Date.parse(r.leaseExpireTime) - now) / 1000)} left, held by ${r.holder}` : "none: for good"],
      ["breaker", `${words(b.state, "BREAKER_STATE_")}${b.blind ? ", blind: too few requests to judge by rate" : ""}`],
      ["its window", `${count(b.failures)} failures, n = ${count(Number(b.successes) + Number(b.failures))}; opened ${count(b.tripsTotal)} times since start`],
    ];
    if (b.nextProbeTime) entries.push(["next probe", `in ${span((Date.parse(b.nextProbeTime) - now) / 1000)}`]);
    entries.push(["requests", `${count(s.report.requestsTotal)} since ${s.report.startTime.slice(0, 19).replace("T", " ")} UTC, ${count(s.report.inFlight)} shadows in flight`]);
    pairs("rollout", entries);
  };

  const models = (s) => {
    const r = s.report, model = (version, digest) => (version ? [version, el("br"), el("code", {}, digest)] : ["none has answered yet"]);
    pairs("models", [["baseline", ...model(r.baselineVersion, r.baselineDigest)], ["shadow", ...model(r.shadowVersion, r.shadowDigest)],
      ["executor", el("code", {}, r.instanceId || "not known")]]);
  };

  // The link to the executor: a stream, or one status at a time while there is none.
  let paused = false, stream = null, timer = 0, last = 0, link = "";
  const say = (text) => {
    document.documentElement.classList.toggle("stale", text !== "live" && text !== "paused" && last !== 0);
    if (text === link) return;
    link = text;
    $("link").textContent = text;
  };
  const show = (s) => {
    last = Date.now();
    for (const part of [answers, match, latency, delta, outcomes, drift, rollout, models]) part(s);
    say("live");
  };
  const poll = async () => {
    try {
      const r = await fetch("status", { cache: "no-store" });
      if (!r.ok) throw new Error(await r.text());
      const s = await r.json();
      if (!paused) show(s);
    } catch (e) {
      if (!paused) say("not connected: " + e.message.trim());
    }
    if (!paused) timer = setTimeout(open, 5000);
  };
  const open = () => {
    if (!window.EventSource) {
      poll();
      return;
    }
    stream = new EventSource("status/events");
    stream.onmessage = (e) => show(JSON.parse(e.data));
    stream.onerror = () => {
      say("not connected: the executor does not answer");
      if (stream.readyState === EventSource.CLOSED) poll();
    };
  };
  const close = () => {
    clearTimeout(timer);
    if (stream) stream.close();
    stream = null;
  };
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    close();
    if (paused) say("paused"); else open();
  });
  // A tab that nobody sees costs the executor nothing.
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    close();
    if (!document.hidden) open();
  });
  open();
})();
