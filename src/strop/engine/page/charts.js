// Charts: where the time goes in order, the roofline, the arena over the steps.

function timeStrip(engine) {
  const whole = engine.steps.reduce((sum, step) => sum + stepTime(step), 0) || 1;
  const parts = engine.steps.map((step) => {
    const key = family(step.kind), bar = h("i", { tabindex: 0, role: "img", css: { width: `${100 * stepTime(step) / whole}%`, background: colour(key) } });
    return describe(bar, step.name, [step.kernel, `${time(stepTime(step))}, ${percent(stepTime(step) / whole)} of the run`, step.source.length > 1 && plural(step.source.length, "node")]);
  });
  return h("div", {}, h("div", { class: "strip", "aria-label": "Time of every kernel in the order of execution" }, parts),
    h("div", { class: "axis-row" }, h("span", {}, "first kernel"), h("span", {}, `${time(whole)} in ${plural(parts.length, "kernel")}`), h("span", {}, "last")),
    legend(engine.steps.map((step) => family(step.kind))));
}
const stepTime = (step) => (step.ns === null ? step.estimated_ns : step.ns);

function powers(low, high) {
  const found = [];
  for (let p = Math.ceil(Math.log10(low) - 1e-9); p <= Math.floor(Math.log10(high) + 1e-9); p += 1) found.push(10 ** p);
  return found;
}

function rooflineChart(engine) {
  const { peaks } = engine;
  const points = engine.layers.filter((l) => l.ns > 0 && l.fate !== "fused" && l.flops >= 1 && l.bytes > 0 && l.share > 0.0005);
  if (!points.length) return h("p", { class: "dim" }, "No layer does arithmetic.");
  const W = 1080, H = 440, L = 66, R = 24, T = 18, B = 46;
  const xs = points.map((p) => p.intensity), ys = points.map((p) => p.flops_per_s / 1e9);
  if (peaks) ys.push(peaks.flops / 1e9);
  const ridge = peaks ? peaks.flops / Math.max(peaks.bandwidth, peaks.cache_bandwidth) : 1;
  const x0 = Math.min(...xs, ridge) / 2, x1 = Math.max(...xs, peaks ? peaks.flops / peaks.bandwidth : 1) * 2.2;
  const y0 = Math.min(...ys) / 2, y1 = Math.max(...ys) * 2;
  const X = (v) => L + (W - L - R) * Math.log(v / x0) / Math.log(x1 / x0);
  const Y = (v) => H - B - (H - T - B) * Math.log(v / y0) / Math.log(y1 / y0);
  const parts = [];
  for (const v of powers(x0, x1)) parts.push(s("line", { class: "axis", x1: X(v), x2: X(v), y1: T, y2: H - B }), s("text", { x: X(v), y: H - B + 18, "text-anchor": "middle" }, count(v)));
  for (const v of powers(y0, y1)) parts.push(s("line", { class: "axis", x1: L, x2: W - R, y1: Y(v), y2: Y(v) }), s("text", { x: L - 8, y: Y(v) + 4, "text-anchor": "end" }, v >= 1 ? String(v) : v.toPrecision(1)));
  parts.push(s("text", { x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle" }, "operations per byte"),
    s("text", { x: 16, y: (T + H - B) / 2, "text-anchor": "middle", transform: `rotate(-90 16 ${(T + H - B) / 2})` }, "Gflop/s"));
  if (peaks) {
    const top = peaks.flops / 1e9;
    for (const [rate, far, label] of [[peaks.cache_bandwidth, false, "cache"], [peaks.bandwidth, true, "memory"]]) {
      if (!rate) continue;
      const corner = peaks.flops / rate, start = Math.max(x0, y0 * 1e9 / rate);
      parts.push(s("path", { class: far ? "roof far" : "roof", d: `M${X(start)} ${Y(rate * start / 1e9)}L${X(corner)} ${Y(top)}${far ? "" : `L${X(x1)} ${Y(top)}`}` }));
      const at = Math.sqrt(start * corner);
      const slope = Math.atan2(Y(top) - Y(rate * start / 1e9), X(corner) - X(start)) * 180 / Math.PI;
      parts.push(s("text", { x: X(at), y: Y(rate * at / 1e9) - 7, "text-anchor": "middle", transform: `rotate(${slope.toFixed(1)} ${X(at)} ${Y(rate * at / 1e9) - 7})` }, `${label} ${(rate / 1e9).toFixed(0)} GB/s`));
    }
    parts.push(s("text", { x: W - R, y: Y(top) - 8, "text-anchor": "end" }, `${top.toFixed(0)} Gflop/s in f32`));
  }
  const named = [...points].sort((a, b) => b.share - a.share).slice(0, 3);
  for (const p of [...points].sort((a, b) => b.share - a.share)) {
    const mark = s("circle", { class: "pt", tabindex: -1, role: "img", cx: X(p.intensity).toFixed(1), cy: Y(p.flops_per_s / 1e9).toFixed(1), r: (3 + 26 * Math.sqrt(p.share)).toFixed(1), css: { fill: colour(family(p.op)) } });
    parts.push(describe(mark, p.name, [`${p.op}, ${p.kernel}`, `${(p.flops_per_s / 1e9).toFixed(1)} Gflop/s at ${p.intensity.toPrecision(3)} flop/byte`, p.of_roof !== null && `${percent(p.of_roof)} of the roof`, `${time(p.ns)}, ${percent(p.share)} of the time`]));
  }
  const placed = [];
  for (const p of named) {
    const x = X(p.intensity), y = Y(p.flops_per_s / 1e9);
    if (placed.some(([a, b]) => Math.abs(a - x) < 210 && Math.abs(b - y) < 15)) continue;
    placed.push([x, y]);
    const room = 6 + 26 * Math.sqrt(p.share), end = x > W - 320;
    parts.push(s("text", { class: "mark-text", x: end ? x - room : x + room, y: y + 4, "text-anchor": end ? "end" : "start" }, short(p.name, 34)));
  }
  return h("div", {}, s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": "Roofline of the layers" }, parts), legend(points.map((p) => family(p.op))));
}

// Bytes that spans cover together: a result that overwrites its operand shares its bytes.
function covered(spans) {
  let sum = 0, end = -1;
  for (const [a, b] of spans.sort((x, y) => x[0] - y[0])) { sum += Math.max(0, b - Math.max(a, end)); end = Math.max(end, b); }
  return sum;
}

function memoryChart(engine) {
  const { buffers, memory, steps } = engine;
  if (!buffers.length) return h("p", { class: "dim" }, "This engine keeps nothing between its kernels, or was built by a version that did not record what.");
  const W = 1080, H = 340, L = 74, R = 18, T = 16, B = 44, n = steps.length;
  const X = (step) => L + (W - L - R) * step / n;
  const Y = (at) => H - B - (H - T - B) * at / Math.max(1, memory.arena);
  const live = steps.map((_, k) => covered(buffers.filter((b) => b[3] <= k && k <= b[4]).map((b) => [b[1], b[1] + b[2]])));
  const parts = [];
  for (let k = 0; k <= 4; k += 1) {
    const v = memory.arena * k / 4;
    parts.push(s("line", { class: "axis", x1: L, x2: W - R, y1: Y(v), y2: Y(v) }), s("text", { x: L - 8, y: Y(v) + 4, "text-anchor": "end" }, bytes(Math.round(v))));
  }
  const every = Math.max(1, Math.ceil(n / 12));
  for (let k = 0; k < n; k += every) parts.push(s("text", { x: X(k + 0.5), y: H - B + 18, "text-anchor": "middle" }, k + 1));
  parts.push(s("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle" }, "kernel, in the order of execution"));
  for (const [name, offset, size, first, last] of buffers) {
    const maker = steps[first];
    const box = s("rect", { class: "pt", tabindex: -1, role: "img", x: X(first).toFixed(1), y: Y(offset + size).toFixed(2), width: Math.max(1.5, X(last + 1) - X(first)).toFixed(1), height: Math.max(0.8, Y(offset) - Y(offset + size)).toFixed(2), rx: 2, css: { fill: colour(family(maker.kind)) } });
    parts.push(describe(box, name, [`${bytes(size)} at ${bytes(offset)}`, `made by kernel ${first + 1} (${maker.name})`, `needed until kernel ${last + 1} (${steps[last].name})`]));
  }
  const most = live.indexOf(Math.max(...live));
  return h("div", {}, s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": "The arena over the steps" }, parts),
    legend(buffers.map(([, , , first]) => family(steps[first].kind))),
    h("p", { class: "dim" }, `Most is alive at kernel ${most + 1}, ${steps[most].name}. The arena takes ${bytes(memory.arena)}${memory.arena <= memory.live_peak ? ", the least that any plan needs" : `; no plan could do with less than ${bytes(memory.live_peak)}`}. Blocks that overlap share their bytes: a result in the place of its operand.`));
}

// Time by family of ops, one bar per engine, all on one scale.
function familyBars(engines) {
  const totals = engines.map((e) => e.steps.reduce((sum, step) => sum + stepTime(step), 0));
  const most = Math.max(...totals, 1);
  return h("div", {}, engines.map((engine, k) => {
    const sums = new Map();
    for (const layer of engine.layers) if (layer.ns > 0) sums.set(family(layer.op || "copy"), (sums.get(family(layer.op || "copy")) || 0) + layer.ns);
    const parts = [...sums].sort((a, b) => b[1] - a[1]).map(([key, ns]) =>
      describe(h("i", { tabindex: 0, role: "img", css: { width: `${100 * ns / most}%`, background: colour(key) } }), familyName(key), [`${time(ns)}, ${percent(ns / totals[k])} of ${engine.name}`]));
    return h("div", { css: { "margin-bottom": "10px" } }, h("div", { class: "axis-row" }, h("span", {}, engine.name), h("span", {}, time(totals[k]))), h("div", { class: "strip" }, parts));
  }), legend(engines.flatMap((e) => e.layers.filter((l) => l.ns > 0).map((l) => family(l.op || "copy")))));
}
