// Tables: the five factors, engines side by side, layers, candidates, accuracy.

function factor(title, figure, unit, rows, note) {
  return h("div", { class: "card factor" }, h("h3", {}, title),
    figure === null ? h("div", { class: "big none" }, unit) : h("div", { class: "big" }, figure, h("small", {}, unit)),
    rows.length ? h("dl", {}, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])) : "",
    note ? h("p", {}, note) : "");
}
const ms = (value) => join(scaled(value * 1e6, ["ns", "µs", "ms", "s"], 1000));
// From low to high, the unit once when it is the same.
function span(low, high) {
  const [a, b] = [ms(low).split(" "), ms(high).split(" ")];
  return a[1] === b[1] ? `${a[0]} – ${b[0]} ${b[1]}` : `${a.join(" ")} – ${b.join(" ")}`;
}
const joules = (value) => join(scaled(value * 1e6, ["µJ", "mJ", "J"], 1000));

function factorsOf(engine) {
  const b = engine.bench, m = engine.memory;
  const cards = [];
  if (b) {
    const [rate, prefix] = scaled(b.qps, ["", "k", "M"], 1000);
    cards.push(factor("Throughput", rate, `${prefix} inferences/s`, [["samples/s", count(b.samples_per_s)], ["batch", b.batch], ["threads", b.threads], ["runs", b.runs.toLocaleString("en")]]));
    const has = b.joules_per_inference !== null;
    cards.push(has ? factor("Efficiency", ...joules(b.joules_per_inference).split(" "), [["samples/J", count(b.samples_per_joule)], ["power", `${b.energy.watts.toPrecision(3)} W`]], b.energy.meter)
      : factor("Efficiency", null, "unavailable", [], b.energy.reason.split("; ").map((r) => r.replace(/ \(.*\)| under \S+/g, "")).join("; ")));
    const l = b.latency_ms;
    cards.push(factor("Latency", ...ms(l.p50).split(" "), [["95 % CI", span(l.low, l.high)], ["p90", ms(l.p90)], ["p99", ms(l.p99)], ["min – max", span(l.min, l.max)], ["first, cold", ms(b.cold_ms.total)]]));
  } else {
    const estimate = engine.totals.time_ns || engine.steps.reduce((sum, step) => sum + stepTime(step), 0);
    cards.push(factor("Throughput", null, "not measured", []), factor("Efficiency", null, "not measured", []));
    cards.push(factor("Latency", ...time(estimate).split(" "), [], "The build's estimate for one core."));
  }
  const [first, ...others] = engine.scores;
  cards.push(first ? factor("Accuracy", first.right === null ? Number(first.value === null ? 0 : first.value).toPrecision(4) : (100 * first.value).toFixed(2), first.right === null ? first.metric : `% ${first.metric}`, others.map((s) => [s.metric, scoreText(s)]), engine.basis)
    : factor("Accuracy", null, "not measured", [], "strop report --data DATA, or --against MODEL"));
  const peak = b ? b.memory.predicted : engine.file + m.arena;
  const [total, unit] = scaled(peak, ["B", "KiB", "MiB", "GiB"], 1024);
  cards.push(factor("Memory", total, unit, [["weights", bytes(m.weights)], ["arena", bytes(m.arena)], ["workspace", bytes(b ? b.memory.scratch : m.scratch_per_thread)], ["measured", b ? bytes(b.memory.measured) : "no"], ["engine file", bytes(engine.file)]]));
  return h("div", { class: "factors" }, cards);
}
const scoreText = (score) => (score.right !== null ? `${(100 * score.value).toFixed(2)} %` : score.value === null ? "exact" : Number(score.value).toPrecision(4));

function comparison(engines) {
  const get = (path) => (e) => path.split(".").reduce((at, key) => (at === null || at === undefined ? null : at[key]), e);
  const metrics = [
    ["latency, median", get("bench.latency_ms.p50"), ms, -1], ["latency, p99", get("bench.latency_ms.p99"), ms, -1],
    ["inferences/s", get("bench.qps"), count, 1], ["samples/s", get("bench.samples_per_s"), count, 1],
    ["energy per inference", get("bench.joules_per_inference"), joules, -1], ["first inference, cold", get("bench.cold_ms.total"), ms, -1],
    ["engine file", get("file"), bytes, -1], ["weights", get("memory.weights"), bytes, -1], ["arena", get("memory.arena"), bytes, -1],
    ["kernels", (e) => e.steps.length, count, -1], ["operations", get("totals.flops"), count, 0],
  ];
  for (const name of new Set(engines.flatMap((e) => e.scores.map((s) => s.metric)))) {
    const score = (e) => e.scores.find((s) => s.metric === name);
    const higher = engines.map(score).find(Boolean).higher;
    metrics.push([name, (e) => (score(e) ? (score(e).value === null ? Infinity : score(e).value) : null), (v) => (v === Infinity ? "exact" : ["top1", "top5", "agreement"].includes(name) ? `${(100 * v).toFixed(2)} %` : v.toPrecision(4)), higher ? 1 : -1]);
  }
  const rows = metrics.map(([label, value, show, better]) => {
    const values = engines.map(value), known = values.filter((v) => v !== null && v !== undefined);
    if (!known.length) return null;
    const best = better > 0 ? Math.max(...known) : Math.min(...known);
    const differs = known.some((v) => v !== best), most = Math.max(...known.filter(Number.isFinite), 0) || 1;
    return h("tr", {}, h("th", { scope: "row" }, label), values.map((v) => h("td", {}, v === null || v === undefined ? h("span", { class: "dim" }, "not measured")
      : h("div", { class: "meter" }, h("i", { css: { width: `${Math.max(1, 70 * Math.min(1, v / most))}px`, background: better && differs && v === best ? "var(--good)" : "var(--strong)" } }), h("span", { class: better && differs && v === best ? "best" : "" }, show(v))))));
  });
  return [h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, ""), engines.map((e) => h("th", { scope: "col" }, e.name, h("div", { class: "dim" }, `${precisions(e)}, ${plural(e.threads, "thread")}`))))), h("tbody", {}, rows))),
    h("div", { class: "card", css: { "margin-top": "14px" } }, familyBars(engines))];
}
function precisions(engine) {
  const sums = new Map();
  for (const l of engine.layers) if (l.precision && l.flops > 0) sums.set(l.precision, (sums.get(l.precision) || 0) + l.flops);
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, 2).map(([p]) => p).join(" and ") || "no arithmetic";
}

// The table of layers: sortable, searchable, the costly ones first.
function layerTable(engine) {
  const most = Math.max(...engine.layers.map((l) => l.share), 1e-9), mostBytes = Math.max(...engine.layers.map((l) => l.bytes), 1);
  const hasNoise = engine.layers.some((l) => l.sqnr_text), loudest = Math.max(10, ...engine.layers.map((l) => l.sqnr || 0));
  const bar = (width, text, fill) => h("div", { class: "meter" }, h("i", { css: { width: `${Math.max(1, width)}px`, background: fill } }), h("span", {}, text));
  const columns = [
    ["layer", (l) => l.name, (l) => [l.name]],
    ["op", (l) => l.op, (l) => [h("span", { class: "op" }, dot(family(l.op || "copy")), l.op || "copy")]],
    ["time", (l) => l.ns, (l) => (l.steps.length ? [bar(96 * l.share / most, `${time(l.ns)}  ${percent(l.share)}`, colour(family(l.op || "copy")))] : [h("span", { class: "dim" }, "free")])],
    ["bytes", (l) => l.bytes, (l) => (l.bytes ? [bar(56 * l.bytes / mostBytes, bytes(Math.round(l.bytes)), "var(--strong)")] : [])],
    ["precision", (l) => l.precision, (l) => (l.precision ? [h("span", { class: "tag" }, l.precision)] : [])],
    ["SQNR dB", (l) => (l.sqnr_text === "exact" ? 1e9 : l.sqnr === null ? -1 : l.sqnr), (l) => (l.sqnr !== null ? [bar(44 * Math.max(0, l.sqnr) / loudest, l.sqnr_text, "var(--accent)")] : [l.sqnr_text || ""]), hasNoise],
    ["of roof", (l) => (l.of_roof === null ? -1 : l.of_roof), (l) => (l.of_roof === null ? [] : [percent(l.of_roof)]), engine.peaks !== null],
    ["energy", (l) => l.joules || 0, (l) => (l.joules ? [joules(l.joules)] : []), engine.joules !== null],
    ["kernel", (l) => l.kernel, (l) => [h("span", { class: "dim" }, (l.fate === "fused" ? "in " : "") + l.kernel.split("(")[0])]],
  ].filter((c) => c[3] !== false);
  let order = { column: 2, down: true }, words = "", limit = 30;
  const body = h("tbody"), status = h("span", { class: "count", role: "status" });
  const heads = columns.map(([label], k) => h("th", { scope: "col" }, h("button", { type: "button", onclick: () => { order = { column: k, down: order.column === k ? !order.down : k > 1 }; draw(); } }, label)));
  const more = h("button", { type: "button", "aria-pressed": "false", onclick: () => { limit = limit === Infinity ? 30 : Infinity; draw(); } }, "show all");
  const natural = h("button", { type: "button", onclick: () => { order = { column: -1, down: false }; limit = Infinity; draw(); } }, "model order");
  const draw = () => {
    const rows = engine.layers.map((l, k) => [l, k]).filter(([l]) => (words === "" ? limit === Infinity || l.steps.length : `${l.name} ${l.op} ${l.kernel} ${l.precision}`.toLowerCase().includes(words)));
    const key = order.column < 0 ? null : columns[order.column][1];
    if (key) rows.sort(([a, i], [b, j]) => { const x = key(a), y = key(b); return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1) || i - j; });
    heads.forEach((head, k) => (k === order.column ? head.setAttribute("aria-sort", order.down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
    const shown = rows.slice(0, words === "" ? limit : Infinity);
    body.replaceChildren(...shown.map(([l]) => h("tr", {}, columns.map(([label, , cells]) => h("td", { class: label === "layer" ? "name" : label === "of roof" || label === "energy" ? "n" : "" }, cells(l))))));
    status.textContent = `${shown.length} of ${plural(engine.layers.length, "layer")}`;
    more.setAttribute("aria-pressed", String(limit === Infinity));
  };
  const search = h("input", { type: "search", placeholder: "Filter layers", "aria-label": "Filter layers", oninput: (event) => { words = event.target.value.trim().toLowerCase(); draw(); } });
  draw();
  return [h("div", { class: "tools" }, search, more, natural, status), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Layers" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body))];
}

// Steps that are listed at first; and how many times the fastest a candidate may take before its bar ends.
const MOST_STEPS = 12, MOST_TIMES = 4;
// What was tried for every kernel; the winner stands first and is marked.
function candidateList(engine) {
  const known = engine.steps.filter((step) => step.tried.length);
  if (!known.length) return h("p", { class: "dim" }, "This engine does not tell what was tried.");
  const order = [...known].sort((a, b) => stepTime(b) - stepTime(a));
  const rows = order.map((step) => {
    const times = step.tried.map(([, estimated, measured, verdict]) => (verdict ? null : measured === null ? estimated : measured));
    const slow = Math.max(...times.filter((t) => t !== null), 1), fast = Math.min(...times.filter((t) => t !== null), slow);
    const cap = Math.min(slow, MOST_TIMES * fast);
    const at = (t) => 4 + 152 * (cap > fast ? Math.log(Math.min(t, cap) / fast) / Math.log(cap / fast) : 0);
    const spark = s("svg", { class: "spark", viewBox: "0 0 160 16", preserveAspectRatio: "xMinYMid", "aria-hidden": "true" }, s("line", { class: "axis", x1: 0, x2: 160, y1: 8, y2: 8, css: { stroke: "var(--line)" } }),
      times.map((t, k) => (t === null ? null : s("circle", { cx: at(t), cy: 8, r: k === 0 ? 4 : 2.6, css: { fill: k === 0 ? "var(--accent)" : "var(--strong)" } }))).reverse());
    const measured = step.tried.filter((t) => t[2] !== null).length;
    const tries = step.tried.map(([label, estimated, found, verdict], k) => h("div", { class: k === 0 ? "try won" : "try" }, h("span", { class: "name" }, label),
      verdict ? h("span", { class: "wrong" }, verdict) : h("span", { class: "rail" }, h("i", { css: { width: `${100 * Math.min(1, times[k] / cap)}%` } })),
      h("span", { class: "dim" }, found === null ? `${time(estimated)} estimated` : `${time(found)} measured`)));
    return h("details", { class: "step" }, h("summary", {}, h("span", { class: "name" }, step.name), h("span", { class: "kernel" }, step.kernel.split("(")[0], h("small", {}, (step.kernel.match(/\((.*)\)/) || ["", ""])[1].replaceAll("=", " "))), h("span", { class: "dim n" }, time(stepTime(step))), spark),
      h("div", { class: "tries" }, h("p", { class: "dim" }, `${plural(step.candidates || step.tried.length, "candidate")}, ${measured ? `${measured} of them measured` : "told apart by the cost model"}${step.candidates > step.tried.length ? `; the best ${step.tried.length} are shown` : ""}.`), tries));
  });
  const card = h("div", { class: "card", css: { padding: "6px 0" } }, rows.slice(0, MOST_STEPS));
  if (rows.length <= MOST_STEPS) return card;
  const more = h("button", { type: "button", class: "more", onclick: () => { card.append(...rows.slice(MOST_STEPS)); more.remove(); } }, `show all ${rows.length} kernels`);
  return h("div", {}, card, more);
}

function accuracyTable(engines) {
  const rows = engines.flatMap((e) => e.scores.map((score) => h("tr", {}, engines.length > 1 ? h("td", {}, e.name) : "", h("td", {}, score.metric), h("td", { class: "n" }, scoreText(score)),
    h("td", { class: "n" }, score.low === null ? "" : `${(100 * score.low).toFixed(2)} – ${(100 * score.high).toFixed(2)} %`), h("td", { class: "n" }, score.samples.toLocaleString("en")), h("td", {}, e.basis))));
  if (!rows.length) return h("div", { class: "card dim" }, "No samples were given. strop report --data DATA scores an engine by its labels, --against MODEL compares it with another network, layer by layer.");
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, engines.length > 1 ? h("th", {}, "engine") : "", h("th", {}, "metric"), h("th", { class: "n" }, "value"), h("th", { class: "n" }, "95 % Wilson interval"), h("th", { class: "n" }, "samples"), h("th", {}, "on"))), h("tbody", {}, rows)));
}
