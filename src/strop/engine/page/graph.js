// The graphs before and after: two views of one network that light up together.
const ARROW = 6;

function curve(points) {
  let d = `M${points[0][0]} ${points[0][1]}`;
  for (let k = 1; k < points.length; k += 1) {
    const [x0, y0] = points[k - 1], [x1, y1] = points[k];
    const bend = (y1 - y0) / 2;
    d += x0 === x1 ? `L${x1} ${y1}` : `C${x0} ${y0 + bend} ${x1} ${y1 - bend} ${x1} ${y1}`;
  }
  return d;
}

// A pannable, zoomable drawing. Keys: arrows move, + and - zoom, 0 fits.
class Canvas {
  constructor(title, subtitle, drawing) {
    this.drawing = drawing;
    this.group = s("g");
    this.svg = s("svg", { tabindex: 0, role: "group", "aria-label": `${title}: arrow keys move, plus and minus zoom, 0 shows all` }, this.group);
    const tool = (text, label, action) => h("button", { type: "button", "aria-label": `${label} ${title.toLowerCase()}`, onclick: action }, text);
    this.element = h("div", { class: "card graph" },
      h("header", {}, h("h3", {}, title, h("small", {}, subtitle)),
        tool("−", "Zoom out of", () => this.zoom(0.75)), tool("+", "Zoom into", () => this.zoom(1.33)), tool("fit", "Show all of", () => this.fit())), this.svg);
    this.boxes = [];
    this.lines = drawing.edges.map(([, , points]) => s("path", { class: "edge", d: curve(points) }));
    this.group.append(...this.lines);
    this.view = { x: 0, y: 0, k: 1 };
    this.listen();
  }
  listen() {
    let from = null;
    this.svg.addEventListener("pointerdown", (event) => { from = { x: event.clientX, y: event.clientY, view: { ...this.view }, moved: false }; });
    this.svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      const dx = event.clientX - from.x, dy = event.clientY - from.y;
      if (Math.abs(dx) + Math.abs(dy) > 3 && !from.moved) { from.moved = true; this.svg.setPointerCapture(event.pointerId); }
      if (from.moved) this.move(from.view.x + dx, from.view.y + dy, this.view.k);
    });
    for (const name of ["pointerup", "pointercancel"]) this.svg.addEventListener(name, () => { from = null; });
    this.svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.svg && !this.svg.contains(document.activeElement)) {
        return; // the page scrolls until the drawing has the focus
      }
      event.preventDefault();
      const box = this.svg.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.svg.addEventListener("keydown", (event) => {
      const step = 60, { x, y, k } = this.view;
      const moves = { ArrowUp: [x, y + step], ArrowDown: [x, y - step], ArrowLeft: [x + step, y], ArrowRight: [x - step, y] };
      if (moves[event.key]) this.move(...moves[event.key], k);
      else if (event.key === "+" || event.key === "=") this.zoom(1.25);
      else if (event.key === "-") this.zoom(0.8);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
    });
  }
  move(x, y, k) {
    this.view = { x, y, k };
    this.group.classList.toggle("far", k < 0.3);
    this.group.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${k.toFixed(4)})`);
  }
  size() { const box = this.svg.getBoundingClientRect(); return [box.width || 560, box.height || 620]; }
  zoom(factor, x, y) {
    const [w, t] = this.size(), cx = x === undefined ? w / 2 : x, cy = y === undefined ? t / 2 : y;
    const k = Math.max(0.02, Math.min(3, this.view.k * factor)), f = k / this.view.k;
    this.move(cx - (cx - this.view.x) * f, cy - (cy - this.view.y) * f, k);
  }
  fit() {
    const [w, t] = this.size();
    const k = Math.min((w - 40) / this.drawing.width, (t - 40) / this.drawing.height, 1.4);
    this.move((w - this.drawing.width * k) / 2, (t - this.drawing.height * k) / 2, k);
  }
  start() { // the beginning, at a size that can be read
    const [w, t] = this.size();
    const k = Math.min(1, Math.max((w - 40) / this.drawing.width, 0.85));
    const first = this.drawing.boxes.length ? this.drawing.boxes.reduce((a, b) => (b[1] < a[1] ? b : a)) : [0, 0, 0, 0];
    const whole = this.drawing.width * k <= w - 40;
    const x = whole ? (w - this.drawing.width * k) / 2 : w / 2 - first[0] * k;
    this.move(x, this.drawing.height * k < t - 48 ? (t - this.drawing.height * k) / 2 : 24, k);
  }
  show(index) { // brings a box into the middle
    const [w, t] = this.size(), [x, y, , tall] = this.drawing.boxes[index], k = Math.max(this.view.k, 0.75);
    this.move(w / 2 - x * k, t / 2 - (y + tall / 2) * k, k);
  }
  sees(index) {
    const [w, t] = this.size(), [x, y] = this.drawing.boxes[index], { k } = this.view;
    const px = this.view.x + x * k, py = this.view.y + y * k;
    return px > 20 && px < w - 20 && py > 20 && py < t - 40 && k > 0.35;
  }
  add(box, label, rows, press, attributes) {
    const [x, y, wide, tall] = box;
    const node = s("g", { class: "node", tabindex: -1, role: "button", transform: `translate(${x - wide / 2} ${y})`, ...attributes },
      s("rect", { class: "box", width: wide, height: tall, rx: 7 }), rows);
    node.addEventListener("click", press);
    node.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); press(); } });
    this.group.append(node);
    this.boxes.push(node);
    return node;
  }
}

// Where a node is, without the op type that exporters put at the end of its name.
function placeOf(layer) {
  const parts = layer.name.split("/").filter(Boolean);
  if (parts.length > 1 && parts[parts.length - 1].replace(/_\d+$/, "") === layer.op) parts.pop();
  return parts.join("/");
}

function explain(node, layer) {
  return describe(node, layer.name, [`${layer.op}  ${layer.result}`, layer.steps.length ? `${layer.fate === "fused" ? "fused into" : "computed by"} ${layer.kernel}` : "takes no time", layer.ns > 0 && `${time(layer.ns)}, ${percent(layer.share)} of the run`]);
}

function nodeBox(canvas, box, layer, press) {
  const key = family(layer.op);
  return explain(canvas.add(box, layer.name, [
    s("rect", { x: 0, y: 9, width: 3.5, height: box[3] - 18, rx: 1.5, css: { fill: colour(key), stroke: "none" } }),
    s("text", { x: 12, y: 15 }, short(layer.op || "node", 20)),
    s("text", { class: "sub", x: 12, y: 27 }, short(layer.result, 24)),
  ], press, { "data-source": layer.name, css: { "--family": colour(key) } }), layer);
}

function kernelBox(canvas, box, step, layers, members, most, press) {
  const key = family(step.kind), shown = members.slice(0, most);
  const rows = [
    s("rect", { x: 0, y: 0, width: box[2], height: 5, rx: 2.5, css: { fill: colour(key), stroke: "none" } }),
    s("text", { x: 12, y: 22, "font-weight": 600 }, short(step.kernel.split("(")[0], 20)),
    s("text", { class: "sub", x: box[2] - 12, y: 22, "text-anchor": "end" }, time(step.ns === null ? step.estimated_ns : step.ns)),
  ];
  shown.forEach((k, row) => rows.push(
    s("rect", { x: 12, y: 33 + 18 * row, width: 7, height: 7, rx: 2, css: { fill: colour(family(layers[k].op)), stroke: "none" } }),
    s("text", { x: 25, y: 40 + 18 * row, class: "op-name" }, short(layers[k].op, 18), s("tspan", { class: "where", dx: 6 }, short(placeOf(layers[k]), Math.max(4, 24 - Math.min(18, layers[k].op.length)))))));
  if (members.length > shown.length) rows.push(s("text", { class: "sub", x: 25, y: 40 + 18 * shown.length }, `and ${members.length - shown.length} more`));
  return canvas.add(box, step.name, rows, press, { "data-step": canvas.boxes.length, css: { "--family": colour(key) }, "aria-label": `kernel ${step.kernel} for ${members.length} nodes` });
}

function graphSection(engine) {
  const { layers, steps, before, after } = engine;
  const drawnAt = new Map(before.nodes.map((k, place) => [k, place]));
  const left = new Canvas("Before", plural(before.nodes.length, "node") + " of the model", before);
  const right = new Canvas("After", plural(steps.length, "kernel"), after);
  const about = h("div", { class: "card about", "aria-live": "polite" }, h("p", {}, "Choose a node to see which kernel it went into, or a kernel to see which nodes it computes."));
  const search = h("input", { type: "search", placeholder: "Find a layer, op or kernel", "aria-label": "Find a layer, op or kernel" });
  const hits = h("span", { class: "count", role: "status" });

  const light = (nodes, kernels) => {
    left.boxes.forEach((b, place) => b.classList.toggle("lit", nodes.includes(before.nodes[place])));
    right.boxes.forEach((b, k) => b.classList.toggle("lit", kernels.includes(k)));
    left.lines.forEach((line, e) => line.classList.toggle("lit", nodes.includes(before.nodes[before.edges[e][0]]) && nodes.includes(before.nodes[before.edges[e][1]])));
    const place = nodes.map((k) => drawnAt.get(k)).find((p) => p !== undefined);
    if (place !== undefined && !left.sees(place)) left.show(place);
    if (kernels.length && !right.sees(kernels[0])) right.show(kernels[0]);
  };
  const pickNode = (k) => {
    const layer = layers[k];
    const same = layer.steps.length ? after.members[layer.steps[0]] : [k];
    light(layer.steps.length ? same : [k], layer.steps);
    const others = same.length - 1;
    const fate = layer.fate === "free" ? "It takes no time: a view, or computed when the engine was built."
      : layer.fate === "fused" ? `Fused into ${layer.kernel} with ${plural(others, "other node")}.`
      : `Computed by ${layer.kernel}${others ? `, with ${plural(others, "other node")} fused in` : ""}.`;
    about.replaceChildren(h("h4", {}, layer.name), h("p", {}, `${layer.op}  ${layer.result}`), h("p", {}, fate),
      layer.ns > 0 && h("p", {}, `${time(layer.ns)} (${percent(layer.share)}), ${bytes(layer.bytes)}, ${count(layer.flops)}flop in ${layer.precision}`) || "");
  };
  const pickStep = (k) => {
    const step = steps[k];
    light(after.members[k], [k]);
    about.replaceChildren(h("h4", {}, step.kernel), h("p", {}, `${step.kind}  ${step.output}`),
      h("p", {}, `${time(step.ns === null ? step.estimated_ns : step.ns)}, ${bytes(step.bytes)}, ${count(step.flops)}flop`),
      h("p", { class: "wide" }, `Computes ${step.source.join(", ") || "no node of the model: it arranges data"}.`));
  };
  before.nodes.forEach((k, place) => nodeBox(left, before.boxes[place], layers[k], () => pickNode(k)));
  steps.forEach((step, k) => kernelBox(right, after.boxes[k], step, layers, after.members[k], 8, () => pickStep(k)));
  for (const canvas of [left, right]) roving(canvas);

  const folded = before.folded.map((k) => h("span", { class: "chip", "data-source": layers[k].name, title: layers[k].op }, layers[k].name));
  const find = () => {
    const words = search.value.trim().toLowerCase();
    const fits = (text) => words !== "" && text.toLowerCase().includes(words);
    const nodes = before.nodes.map((k) => fits(`${layers[k].name} ${layers[k].op}`));
    const kernels = steps.map((step, k) => fits(`${step.name} ${step.kernel} ${after.members[k].map((m) => layers[m].name + " " + layers[m].op).join(" ")}`));
    left.boxes.forEach((b, k) => b.classList.toggle("hit", nodes[k]));
    right.boxes.forEach((b, k) => b.classList.toggle("hit", kernels[k]));
    folded.forEach((chip, n) => chip.classList.toggle("hit", fits(layers[before.folded[n]].name + " " + layers[before.folded[n]].op)));
    for (const canvas of [left, right]) canvas.group.classList.toggle("searching", words !== "");
    if (words !== "" && nodes.includes(true)) left.show(nodes.indexOf(true));
    if (words !== "" && kernels.includes(true)) right.show(kernels.indexOf(true));
    hits.textContent = words === "" ? "" : `${plural(nodes.filter(Boolean).length, "node")}, ${plural(kernels.filter(Boolean).length, "kernel")}`;
  };
  search.addEventListener("input", find);
  const keys = before.nodes.map((k) => family(layers[k].op));
  const section = h("section", { id: "graph" }, h("h2", {}, "Graph"),
    h("p", { class: "lead" }, `${plural(layers.filter((l) => l.op).length, "node")} of the model became ${plural(steps.length, "kernel")}. Click into a drawing to zoom with the wheel; drag to move.`),
    h("div", { class: "tools" }, search, hits),
    h("div", { class: "graphs" }, left.element, right.element), legend(keys), about,
    folded.length ? h("details", { class: "folded" }, h("summary", {}, `${plural(folded.length, "node")} computed while the model was read`), h("div", { class: "chips" }, folded)) : "");
  return { element: section, ready: () => { left.start(); right.start(); } };
}

// One box of a drawing can be reached with the tab key; Page Up and Page Down go from box to box.
function roving(canvas) {
  if (!canvas.boxes.length) return;
  canvas.boxes[0].setAttribute("tabindex", 0);
  canvas.group.addEventListener("keydown", (event) => {
    const at = canvas.boxes.indexOf(event.target.closest(".node"));
    const step = { PageDown: 1, PageUp: -1 }[event.key];
    if (at < 0 || !step) return;
    event.preventDefault();
    event.stopPropagation();
    const next = canvas.boxes[Math.max(0, Math.min(canvas.boxes.length - 1, at + step))];
    canvas.boxes[at].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    if (!canvas.sees(canvas.boxes.indexOf(next))) canvas.show(canvas.boxes.indexOf(next));
    next.focus({ preventScroll: true });
  });
}
