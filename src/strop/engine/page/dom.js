// Elements, numbers for people, families of ops. Text from the data enters the document as text nodes and attribute values only.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function scaled(value, units, step, digits = 3) {
  let k = 0;
  while (Math.abs(value) >= step * 0.9995 && k < units.length - 1) { value /= step; k += 1; }
  const text = k === 0 && Number.isInteger(value) ? String(value) : Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 3 });
  return [text, units[k]];
}
const join = ([text, unit]) => (unit ? `${text} ${unit}` : text);
const bytes = (value) => (value === null || value === undefined ? "unknown" : join(scaled(value, ["B", "KiB", "MiB", "GiB"], 1024)));
const count = (value) => join(scaled(value, ["", "k", "M", "G", "T"], 1000));
const time = (ns) => (ns === null || ns === undefined ? "" : join(scaled(ns, ["ns", "µs", "ms", "s"], 1000)));
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const short = (text, length) => (text.length <= length ? text : "…" + text.slice(text.length - length + 1));
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

const FAMILIES = [
  ["conv", "convolution", /conv/i],
  ["attention", "attention, softmax", /attention|softmax/i],
  ["matmul", "matrix product", /gemm|matmul|linear|fully_connected|addmm|\bmm\b|lstm|gru|rnn|einsum/i],
  ["pool", "pooling, reduction", /pool|reduce|argmax|topk|mean|sum\b/i],
  ["norm", "normalization", /norm|lrn/i],
  ["resize", "resize", /resize|upsample|interp/i],
  ["data", "moving data", /copy|reshape|flatten|transpose|concat|split|slice|gather|pad|squeeze|expand|shape|cast|identity|constant|dropout|tile|view|permute|shuffle|scatter/i],
  ["pointwise", "elementwise", /elementwise|relu|clip|add|mul|sub|div|sigmoid|swish|tanh|exp|sqrt|pow|erf|gelu|silu|max|min|abs|quantize|neg|log|where|elu/i],
];
function family(op) {
  const found = FAMILIES.find(([, , pattern]) => pattern.test(op));
  return found ? found[0] : "other";
}
const familyName = (key) => (FAMILIES.find(([k]) => k === key) || [0, "other"])[1];
const colour = (key) => `var(--${key})`;
const dot = (key) => h("span", { class: "dot", css: { background: colour(key) } });

function legend(keys) {
  return h("ul", { class: "legend" }, [...new Set(keys)].map((key) => h("li", {}, dot(key), familyName(key))));
}

// ---- the tooltip: shown for whatever is pointed at or has the focus
const tip = document.getElementById("tip");
function describe(element, title, lines) {
  const show = (x, y) => {
    tip.replaceChildren(h("b", {}, title), ...lines.filter(Boolean).map((line) => h("div", {}, line)));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18}px`;
  };
  element.addEventListener("pointermove", (event) => show(event.clientX, event.clientY));
  element.addEventListener("pointerleave", () => { tip.hidden = true; });
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    show(box.left + box.width / 2, box.bottom - 10);
  });
  element.addEventListener("blur", () => { tip.hidden = true; });
  element.setAttribute("aria-label", [title, ...lines.filter(Boolean)].join("; "));
  return element;
}
addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
