"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en-US");
  const count = (v) => number.format(Number(v));
  const percent = (v, digits = 1) => (100 * v).toFixed(digits) + " %";
  const millis = (v) => (v < 0.1 ? v.toFixed(3) : v < 10 ? v.toFixed(2) : v.toFixed(0));
  const plural = (n, noun) => `${count(n)} ${noun}${Number(n) === 1 ? "" : "s"}`;
  const words = (name, prefix) => name.replace(prefix, "").toLowerCase().replaceAll("_", " ");

  // span formats a duration for people.
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
  // at converts a share of the width in [0,1]. Widths are shares and heights are pixels, so that text keeps its size on any screen.
  const at = (share) => (100 * Math.min(1, Math.max(0, share))).toFixed(2) + "%";
  const bar = (kind, from, to, y, height) => draw("rect", { class: kind, x: at(from), y, width: at(Math.max(0.006, to - from)), height, rx: 2 });
  const line = (kind, x, from, to) => draw("line", { class: kind, x1: at(x), x2: at(x), y1: from, y2: to });
  const label = (text, x, y) => draw("text", { x: at(x), y, "text-anchor": x < 0.12 ? "start" : x > 0.88 ? "end" : "middle" }, text);
  const picture = (height, text, ...children) => draw("svg", { height, role: "img", "aria-label": text }, ...children);

  const pairs = (id, entries) => $(id).replaceChildren(...entries.flatMap(([k, ...v]) => [el("dt", {}, k), el("dd", {}, ...v)]));

  // answers: screen readers announce a changed word, but not every changed figure.
  const answers = (s) => {
    const list = $("answers");
    while (list.children.length > s.answers.length) list.lastElementChild.remove();
    s.answers.forEach((a, i) => {
      const li = list.children[i] || list.appendChild(el("li", {},
        el("h2", { class: "question" }, a.question + " ", el("span", { class: "period", "aria-live": "off" })),
        el("p", { class: "word" }), el("p", { class: "muted", "aria-live": "off" })));
      li.className = a.tone;
      const [question, word, why] = li.children;
      question.lastElementChild.textContent = a.period;
      if (word.textContent !== a.word) word.textContent = a.word;
      why.textContent = a.why.replace(/(?<![.\d])\d{4,}/g, count).replaceAll(">=", "≥").replace(/ (?=[%=])|(?<==) (?=\d)/g, "\u00a0");
    });
  };

  // facts shows the current state in one line; the cards have the details.
  const breakerTone = { closed: "good", open: "bad" };
  const facts = (s) => {
    const r = s.report, state = words(r.breaker.state, "BREAKER_STATE_");
    $("facts").replaceChildren(...[
      ["breaker", state, breakerTone[state] || "neutral"],
      ["rollout", `${s.rollout.percent} %, ${words(s.rollout.mode, "ROLLOUT_MODE_")}`, ""],
      ["shadow", r.shadowVersion || "none has answered yet", ""],
      ["baseline", r.baselineVersion, ""],
      ["requests since start", count(r.requestsTotal), ""],
    ].map(([k, v, tone]) => el("li", {}, el("span", {}, k + " "), el("strong", { class: tone }, v))));
  };

  const match = (s) => {
    const w = s.report.window, n = Number(w.comparisons);
    if (n === 0) {
      $("match").replaceChildren(el("p", { class: "muted" }, "Nothing was compared in the window, n = 0."));
      return;
    }
    const rate = w.matchRate, low = w.matchRateLow, high = w.matchRateHigh;
    const from = low < 0.9 ? 0 : 0.9; // zoom in if the interval allows it
    const x = (v) => (v - from) / (1 - from);
    const slo = "SLO " + percent(s.matchTarget, 0);
    $("match").replaceChildren(
      el("p", { class: "big " + s.answers[2].tone }, percent(rate, 2)),
      el("p", { class: "muted" }, `95 % Wilson bounds ${percent(low, 2)} to ${percent(high, 2)}, n = ${count(n)}`),
      picture(54, `match rate ${percent(rate, 2)}, bounds ${percent(low, 2)} to ${percent(high, 2)}, ${slo}`,
        draw("rect", { class: "track", x: 0, y: 18, width: "100%", height: 16, rx: 3 }),
        bar("bar", x(low), x(high), 18, 16), line("mark", x(rate), 15, 37), line("target", x(s.matchTarget), 13, 40),
        label(slo, x(s.matchTarget), 10), label(percent(from, 0), 0, 51), label("100 %", 1, 51)),
      el("p", { class: "muted" }, `Coverage ${w.coverage == null ? "not known" : percent(w.coverage, 2)}; ` +
        (w.matchRateWorst == null ? "" : `between ${percent(w.matchRateWorst, 2)} and ${percent(w.matchRateBest, 2)} if all missing shadows were mismatches, or matches; `) +
        `error rate ${w.errorRate == null ? "not known" : percent(w.errorRate, 2)}.`));
  };

  const since = (d) => (d.seconds === 0 ? "since start" : "last " + span(d.seconds));

  // latency uses a logarithmic scale: baseline and shadow differ by powers of ten.
  const latency = (s) => {
    const least = 0.001, most = Math.max(100, s.baseline.p99, s.shadow.p99);
    const x = (v) => Math.log10(Math.max(v, least) / least) / Math.log10(most / least);
    const rows = (name, d, limit) => {
      const none = d.n === 0, figures = [d.p50, d.p95, d.p99].map((v) => (none ? "–" : millis(v)));
      const marks = [draw("rect", { class: "track", x: 0, y: 4, width: "100%", height: 8, rx: 2 })];
      if (!none) marks.push(bar(d.p99 > limit ? "over" : "bar", x(d.p50), x(d.p99), 4, 8), line("mark", x(d.p95), 1, 15));
      marks.push(line("target", x(limit), 0, 16));
      return [
        el("tr", { class: "figures" }, el("th", { scope: "row" }, name), ...figures.map((v) => el("td", {}, v)), el("td", {}, count(d.n))),
        el("tr", {}, el("td", { class: "strip", colspan: 5 },
          picture(16, none ? `${name}: no data` : `${name}: p50 ${figures[0]}, p95 ${figures[1]}, p99 ${figures[2]} ms; limit ${limit} ms`, ...marks))),
      ];
    };
    const ticks = [0.001, 0.01, 0.1, 1, 10, 100].map((v) => label(String(v), x(v), 12));
    $("latency").replaceChildren(...rows("baseline", s.baseline, s.baselineLimit), ...rows("shadow", s.shadow, s.shadowLimit),
      el("tr", { "aria-hidden": "true" }, el("td", { class: "strip", colspan: 5 }, draw("svg", { height: 14 }, ...ticks))));
    $("latency-note").textContent = `From the arrival of a request, ${since(s.baseline)}; including failed shadows. ` +
      `Bar: p50 to p99; solid: p95; dashed: the limit, ${s.baselineLimit} ms for the baseline and ${s.shadowLimit} ms for a shadow.`;
  };

  const delta = (s) => {
    const { edges, counts, n } = s.delta, w = s.report.window;
    if (n === 0) {
      $("delta").replaceChildren(el("p", { class: "muted" }, `Nothing was compared ${since(s.delta)}, n = 0.`));
      return;
    }
    const shown = counts.slice(0, edges.length), most = Math.max(...shown), step = 1 / shown.length;
    const tolerance = s.matchTolerance, border = step * (edges.indexOf(tolerance) + 1);
    const bars = shown.map((c, i) => {
      const height = c === 0 ? 0 : Math.max(2, 88 * c / most);
      return draw("rect", { class: edges[i] <= tolerance ? "bar" : "over", x: at(i * step + 0.003), y: 114 - height, width: at(step - 0.006), height },
        draw("title", {}, `${i === 0 ? 0 : edges[i - 1]} to ${edges[i]}: ${count(c)} (${percent(c / n)})`));
    });
    const labels = edges.map((e, i) => [e, i]).filter(([, i]) => i % 3 === 1).map(([e, i]) => label(String(e), (i + 1) * step, 130));
    const quantiles = `p50 ${s.delta.p50.toPrecision(2)}, p95 ${s.delta.p95.toPrecision(2)}, p99 ${s.delta.p99.toPrecision(2)}`;
    const beyond = shown.reduce((sum, c, i) => sum + (edges[i] > tolerance ? c : 0), counts[edges.length]);
    $("delta").replaceChildren(
      el("p", { class: "muted" }, `|shadow − baseline| per comparison, ${since(s.delta)}, n = ${count(n)}`),
      picture(134, `histogram of the differences, ${quantiles}, ${percent(beyond / n)} beyond ${tolerance}, n = ${count(n)}`,
        ...bars, draw("line", { class: "mark", x1: 0, x2: "100%", y1: 115, y2: 115 }), ...labels, line("target", border, 3, 115),
        draw("text", { x: at(border), dx: 6, y: 13 }, `beyond ${tolerance}: ${percent(beyond / n)}`)),
      el("p", { class: "muted" }, `${quantiles}; mean of shadow − baseline ${w.meanDelta == null ? "not known" : w.meanDelta.toPrecision(2)}, ` +
        `n = ${count(w.comparisons)}, ${s.answers[2].period}`));
  };

  const outcomes = (s) => {
    const totals = new Map(s.report.outcomesTotal.map((o) => [o.outcome, Number(o.count)])), recent = s.report.window.outcomes;
    const sum = (list) => list.reduce((n, o) => n + Number(o.count), 0), inWindow = sum(recent), inAll = sum(s.report.outcomesTotal);
    const share = (n) => (inWindow === 0 ? "–" : percent(n / inWindow));
    $("outcomes").replaceChildren(...recent.map((o) => {
      const all = totals.get(o.outcome) || 0;
      return el("tr", all === 0 ? { class: "zero" } : {}, el("th", { scope: "row" }, words(o.outcome, "SHADOW_OUTCOME_")),
        el("td", {}, count(o.count)), el("td", {}, share(Number(o.count))), el("td", {}, count(all)));
    }));
    $("outcomes-sum").replaceChildren(
      el("tr", {}, el("th", { scope: "row" }, "n"), el("td", {}, count(inWindow)), el("td", {}, share(inWindow)), el("td", {}, count(inAll))));
    $("window").textContent = s.answers[1].period;
  };

  const drift = (s) => {
    if (!s.drift) {
      $("drift").replaceChildren(el("p", {}, s.driftNote ? "Not reported: " + s.driftNote : "Not known: " + s.driftError));
      return;
    }
    const rows = (s.drift.features || []).map((f) => [f.feature, f.role, f.rows, f.reading]);
    const all = s.drift.overall ? [["overall", "mean of the model's features", s.drift.rows, s.drift.overall], ...rows] : rows;
    const known = all.filter(([, , , r]) => r), unknown = all.filter(([, , , r]) => !r);
    const scale = Math.max(0.4, ...known.flatMap(([, , , r]) => [r.psi, r.nullQ99 || 0]));
    const tones = { DRIFT_VERDICT_FAIL: "bad", DRIFT_VERDICT_PASS: "good" };
    $("drift").replaceChildren(
      el("p", { class: "muted" }, `${plural(s.drift.rows, "row")} of ${plural(s.drift.days, "day")}. Bar: PSI; dashed: threshold; solid: 99 % quantile without drift.`),
      ...known.map(([name, role, n, r]) => {
        const verdict = words(r.verdict, "DRIFT_VERDICT_"), noise = r.nullQ99 == null ? "noise not known" : `noise 99 % ${r.nullQ99.toFixed(3)}`;
        const marks = [line("target", r.threshold / scale, 0, 14)];
        if (r.nullQ99 != null) marks.push(line("mark", r.nullQ99 / scale, 0, 14));
        return el("div", { class: "psi" },
          el("span", { class: "name" }, name), el("span", { class: "verdict " + (tones[r.verdict] || "") }, `${r.psi.toFixed(3)} ${verdict}`),
          picture(14, `${name}: PSI ${r.psi.toFixed(3)}, ${verdict}`,
            draw("rect", { class: "track", x: 0, y: 3, width: "100%", height: 8, rx: 2 }),
            bar(r.verdict === "DRIFT_VERDICT_FAIL" ? "over" : "bar", 0, r.psi / scale, 3, 8), ...marks),
          el("small", {}, `${role}, ${noise}, threshold ${r.threshold}, n = ${count(n)}`));
      }),
      ...(unknown.length === 0 ? [] : [el("p", { class: "muted" }, `No data, n = 0: ${unknown.map(([name]) => name).join(", ")}.`)]));
  };

  // quality draws both bounds over time; at zero the model and the baseline are equal.
  const quality = (s) => {
    const points = s.bounds || [], a = s.answers[4];
    if (points.length < 2) {
      $("quality").replaceChildren(el("p", { class: "muted" }, a.why));
      return;
    }
    const first = Date.parse(points[0].time), last = Date.parse(points[points.length - 1].time);
    const most = Math.max(...points.flatMap((p) => [Math.abs(p.lower), Math.abs(p.upper)]));
    const x = (p) => (Date.parse(p.time) - first) / Math.max(1, last - first), y = (v) => 60 - 54 * v / most;
    const steps = (of) => points.slice(1).map((p, i) => draw("line", { class: "mark", x1: at(x(points[i])), x2: at(x(p)), y1: y(of(points[i])), y2: y(of(p)) }));
    $("quality").replaceChildren(
      picture(136, `bounds of the mean difference over time, now ${points[points.length - 1].lower.toFixed(4)} to ${points[points.length - 1].upper.toFixed(4)}`,
        draw("line", { class: "target", x1: 0, x2: "100%", y1: 60, y2: 60 }), ...steps((p) => p.lower), ...steps((p) => p.upper),
        label(points[0].time.slice(0, 10), 0, 132), label(points[points.length - 1].time.slice(0, 10), 1, 132)),
      el("p", { class: "muted" }, "Bounds of the mean difference of the Brier losses; dashed: no difference; above it the model is better. " + a.why));
  };

  // history draws a line for each figure over 24 hours. A gap is a time at which the figure was not known.
  const day = 24 * 3600 * 1000, pointStep = 5 * 60 * 1000;
  const history = (points) => {
    const now = Date.now(), x = (p) => 1 - (now - Date.parse(p.time)) / day;
    const rows = [
      ["match rate", "match", (v) => percent(v, 2)], ["coverage", "coverage", (v) => percent(v, 2)], ["shadow p95", "p95", (v) => millis(v) + " ms"],
      ["PSI, overall", "psi", (v) => v.toFixed(3)], ["better by", "quality", (v) => v.toFixed(4)],
    ].map(([name, key, text]) => {
      const known = points.filter((p) => p[key] != null && x(p) >= 0), values = known.map((p) => p[key]);
      const low = Math.min(...values), high = Math.max(...values), y = (v) => (high === low ? 14 : 25 - 22 * (v - low) / (high - low));
      const lines = known.slice(1).flatMap((p, i) => (Date.parse(p.time) - Date.parse(known[i].time) > 1.5 * pointStep ? [] :
        [draw("line", { class: "mark", x1: at(x(known[i])), x2: at(x(p)), y1: y(known[i][key]), y2: y(p[key]) })]));
      const last = known[known.length - 1];
      return el("div", { class: "psi" },
        el("span", { class: "name" }, name), el("span", { class: "verdict" }, last ? text(last[key]) : "not known"),
        picture(28, last ? `${name}: ${text(low)} to ${text(high)}, last ${text(last[key])}` : `${name}: not known`,
          draw("rect", { class: "track", x: 0, y: 0, width: "100%", height: 28, rx: 2 }), ...lines,
          ...(last ? [draw("circle", { class: "mark", cx: at(x(last)), cy: y(last[key]), r: 2 })] : [])),
        el("small", {}, known.length === 0 ? "no data yet" : `${text(low)} to ${text(high)}, ${plural(known.length, "point")}`));
    });
    $("history").replaceChildren(...rows);
  };
  const readHistory = async () => {
    try {
      const r = await fetch("status/history", { cache: "no-store" });
      if (r.ok) history(await r.json());
    } catch (e) { // the next reading tries again
      console.warn(e);
    }
  };
  setInterval(() => {
    if (!document.hidden) readHistory();
  }, pointStep / 5);
  readHistory();

  // decider shows who decides while a gate or a latch is set. Reasons without a decision since the start are left out.
  const decider = (s) => {
    $("decider-card").hidden = !s.gate;
    if (!s.gate) return;
    const d = s.decisions, g = s.gate, bounds = s.rollout.gate, a = s.answers[5], share = (n) => (d.n === 0 ? "–" : percent(n / d.n));
    $("decider-period").textContent = $("decider-window").textContent = a.period;
    $("latches").replaceChildren(...g.latches.map((l) => el("li", {}, el("strong", {}, words(l.latch, "GATE_LATCH_").toUpperCase()),
      ` by ${l.setBy} at ${l.setTime.slice(0, 19).replace("T", " ")} UTC: ${l.reason || "no reason given"}`)));
    $("decider").replaceChildren(el("p", { class: "big " + a.tone }, `model ${share(d.model)}`),
      picture(16, `the model decided ${count(d.model)} of ${plural(d.n, "request")}`,
        draw("rect", { class: "track", x: 0, y: 4, width: "100%", height: 8, rx: 2 }), ...(d.model === 0 ? [] : [bar("bar", 0, d.model / d.n, 4, 8)])));
    const total = d.reasons.reduce((n, r) => n - r.total, g.decisions.reduce((n, c) => n + Number(c.count), 0));
    const row = (name, n, all) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, count(n)), el("td", {}, share(n)), el("td", {}, count(all)));
    $("reasons").replaceChildren(row("model", d.model, total),
      ...d.reasons.filter((r) => r.total > 0).map((r) => row("baseline: " + r.reason.replaceAll("_", " "), r.count, r.total)));
    $("reasons-sum").replaceChildren(row("n", d.n, total + d.reasons.reduce((n, r) => n + r.total, 0)));
    const w = s.wait, most = Number(g.hourChangedLimit);
    pairs("guard", [
      ["gate", g.open ? "open" : "shut"],
      ...(!bounds ? [] : [
        ["may decide", `${s.rollout.percent} % of ${bounds.allSymbols ? "all symbols" : plural(bounds.symbols.length, "symbol")}`],
        ["model", el("code", {}, bounds.modelDigest)],
      ]),
      ["changed", `${count(g.hourChanged)} of ${plural(g.hourRequests, "request")} in the last hour by more than 0.05; at most ${count(g.hourChangedLimit)}`,
        picture(12, `${count(g.hourChanged)} of at most ${count(g.hourChangedLimit)} changes`, draw("rect", { class: "track", x: 0, y: 2, width: "100%", height: 8, rx: 2 }),
          ...(Number(g.hourChanged) === 0 ? [] : [bar(g.hourChanged > s.budgetWarning * most ? "over" : "bar", 0, most === 0 ? 1 : g.hourChanged / most, 2, 8)]))],
      ["wait", (w.n === 0 ? "no decision has waited" : `p50 ${millis(w.p50)}, p95 ${millis(w.p95)}, p99 ${millis(w.p99)} ms, n = ${count(w.n)}`) +
        (bounds && bounds.waitBudget ? `; at most ${1000 * parseFloat(bounds.waitBudget)} ms` : "")],
    ]);
  };

  const rollout = (s) => {
    const r = s.rollout, now = Date.parse(s.time);
    const sampled = s.report.samplePercent;
    $("phase").replaceChildren(el("p", { class: "big" }, `${sampled} %`),
      el("p", { class: "muted" }, `of the requests get a shadow: ${words(r.mode, "ROLLOUT_MODE_")}`),
      picture(12, `${sampled} % of the requests`, draw("rect", { class: "track", x: 0, y: 2, width: "100%", height: 8, rx: 2 }), bar("bar", 0, sampled / 100, 2, 8)));
    pairs("rollout", [
      ["set by", `${r.setBy}${r.setFrom ? " from " + r.setFrom : ""}, revision ${r.revision}`],
      ["reason", r.reason || "none given"],
      ["lease", r.leaseExpireTime ? `${span((Date.parse(r.leaseExpireTime) - now) / 1000)} left, held by ${r.holder}` : "none: permanent"],
    ]);
  };

  const breaker = (s) => {
    const b = s.report.breaker, state = words(b.state, "BREAKER_STATE_"), failures = Number(b.failures), n = Number(b.successes) + failures;
    $("state").replaceChildren(el("p", { class: "big " + (breakerTone[state] || "neutral") }, state));
    const entries = [
      ["failures", `${n === 0 ? "none" : `${count(failures)}, ${percent(failures / n, 2)}`}, n = ${count(n)} in its window`],
      ["opened", `${plural(b.tripsTotal, "time")} since start`],
      ["in flight", plural(s.report.inFlight, "shadow")],
    ];
    if (b.blind) entries.unshift(["blind", "too few requests to judge by rate"]);
    if (b.nextProbeTime) entries.unshift(["next probe", `in ${span((Date.parse(b.nextProbeTime) - Date.parse(s.time)) / 1000)}`]);
    if (b.trip) {
      const t = b.trip, all = Number(t.failures) + Number(t.successes);
      entries.unshift(
        ["open since", `${t.openTime.slice(11, 19)} UTC, for ${span((Date.parse(s.time) - Date.parse(t.openTime)) / 1000)}` +
          (Number(t.reopened) === 0 ? "" : `; ${plural(t.reopened, "probe")} failed since`)],
        ["because of", `${t.reason}: ${count(t.failures)} of ${plural(all, "prediction")} failed, ${count(t.consecutiveFailures)} in a row`]);
    }
    pairs("breaker", entries);
  };

  const models = (s) => {
    const r = s.report, model = (version, digest) => (version ? [version, el("br"), el("code", {}, digest)] : ["none has answered yet"]);
    pairs("models", [["baseline", ...model(r.baselineVersion, r.baselineDigest)], ["shadow", ...model(r.shadowVersion, r.shadowDigest)],
      ["executor", el("code", {}, r.instanceId || "not known"), el("br"), `since ${r.startTime.slice(0, 19).replace("T", " ")} UTC`]]);
  };

  const challengers = (s) => {
    const list = s.report.challengers || [];
    $("challengers-card").hidden = list.length === 0;
    const bounded = (what, v, low, high, n) => (v == null ? `${what} not known` : `${what} ${percent(v, 2)} (${percent(low, 2)} to ${percent(high, 2)}, n = ${count(n)})`);
    pairs("challengers", list.map((c) => {
      const w = c.window, f = c.noiseFloor, none = Number(w.latencyMs.count) === 0;
      const noise = f ? [bounded("noise floor", f.mismatchRate, f.mismatchRateLow, f.mismatchRateHigh, f.comparisons), el("br")] : [];
      return [c.name, c.modelVersion || "no model has answered yet", el("br"), bounded("match rate", w.matchRate, w.matchRateLow, w.matchRateHigh, w.comparisons), el("br"), ...noise,
        `coverage ${w.coverage == null ? "not known" : percent(w.coverage, 2)}, p95 ${none ? "not known" : millis(w.latencyMs.p95) + " ms"}, breaker ${words(c.breaker.state, "BREAKER_STATE_")}`];
    }));
  };

  const periods = (s) => {
    for (const p of document.querySelectorAll(".period[data-of]")) p.textContent = s.answers[p.dataset.of].period;
  };

  // name identifies the executor: its machine, and the first digits of its instance id.
  let executor = "";
  const name = (s) => {
    executor = `${s.host || location.host}, instance ${(s.report.instanceId || "not known").slice(0, 8)}`;
    $("name").textContent = executor;
  };

  // The connection to the executor is a stream, or polling if there is none. A status arrives every second. After patience
  // milliseconds without an answer, the executor counts as dead.
  const patience = 4000, retry = 2000;
  let paused = false, stream = null, timer = 0, last = 0, answered = Date.now(), link = "";
  const say = (text) => {
    if (text === link) return;
    link = text;
    $("link").textContent = text;
  };
  const title = (problem) => {
    document.title = `${problem}${executor || location.host}: Greenlight executor`;
  };
  const loaded = Date.now();
  const clock = (t) => new Date(t).toISOString().slice(11, 19) + " UTC";
  // showDead shows prominently whether the executor has stopped answering.
  const showDead = (dead) => {
    document.documentElement.classList.toggle("stale", dead);
    $("dead").hidden = !dead;
    if (!dead) return;
    const since = last || loaded;
    $("dead-since").textContent = `${executor || location.host} has sent nothing for ${span((Date.now() - since) / 1000)}, since ${clock(since)}. ` +
      (last ? "The figures below are from that time." : "There are no figures.");
    title("NO ANSWER: ");
    say("not connected");
  };
  const show = (s) => {
    last = answered = Date.now();
    $("time").textContent = s.time.slice(11, 19) + " UTC";
    $("time").dateTime = s.time;
    for (const part of [name, answers, periods, facts, match, latency, delta, outcomes, drift, quality, decider, rollout, breaker, models, challengers]) {
      try {
        part(s);
      } catch (e) { // an error in one part must not hide the others
        console.error(e);
      }
    }
    showDead(false);
    const alarm = s.answers.find((a) => a.tone === "bad");
    title(alarm ? `${alarm.question} ${alarm.word.toUpperCase()}: ` : "");
    say("live");
  };
  setInterval(() => {
    if (!paused && !document.hidden && Date.now() - answered > patience) showDead(true);
  }, 1000);
  const poll = async () => {
    try {
      const r = await fetch("status", { cache: "no-store" });
      answered = Date.now();
      if (!r.ok) throw new Error(await r.text());
      const s = await r.json();
      if (!paused) show(s);
    } catch (e) {
      if (!paused) say("not connected: " + e.message.trim().slice(0, 200));
    }
    if (!paused) timer = setTimeout(open, retry);
  };
  const open = () => {
    if (!window.EventSource) {
      poll();
      return;
    }
    stream = new EventSource("status/events");
    stream.onmessage = (e) => show(JSON.parse(e.data));
    stream.onerror = () => {
      say("not connected");
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
    if (paused) {
      say("paused");
      return;
    }
    answered = Date.now();
    open();
  });
  // A hidden tab costs the executor nothing.
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    close();
    if (document.hidden) return;
    answered = Date.now();
    open();
  });
  open();
})();
