// Puts the page together; with several engines, for the one that is chosen.
const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");
const nav = document.getElementById("nav");

const section = (id, title, lead, ...children) => h("section", { id }, h("h2", {}, title), lead ? h("p", { class: "lead" }, lead) : "", children);

function titleOf(engine) {
  const shapes = engine.inputs.join(", ");
  const when = engine.level === null ? "" : `, built at level ${engine.level}`;
  return h("div", { class: "title" }, h("h1", {}, engine.name),
    h("p", {}, `${precisions(engine)} for ${engine.target} on ${plural(engine.threads, "thread")}${when}. ${short(shapes, 160)}`));
}

function draw(index) {
  const engine = data.engines[index], several = data.engines.length > 1;
  const graph = graphSection(engine);
  const fused = engine.layers.filter((l) => l.fate === "fused").length;
  const roof = engine.peaks ? "Each dot is a layer with what is fused into it, its area the time it takes. It can at best reach the line above it: what the arithmetic allows on the right, what memory and caches allow on the left. Layers that need fewer multiplications than their definition, as Winograd and Strassen do, may stand above, and so may integer kernels: the roof is that of f32."
    : "Each dot is a layer, its area the time it takes.";
  const parts = [
    titleOf(engine),
    several ? h("div", { class: "pick", role: "group", "aria-label": "Engine" }, data.engines.map((e, k) => h("button", { type: "button", "aria-pressed": String(k === index), onclick: () => draw(k) }, e.name))) : "",
    section("factors", "Five factors", "", factorsOf(engine)),
    several ? section("compare", "Side by side", "The best of each row is marked.", comparison(data.engines)) : "",
    graph.element,
    section("layers", "Layers", `Where the time goes, by the model's own layers. What a fused kernel takes is divided among its ${fused ? "nodes" : "node"} by their operations.`, h("div", { class: "card", css: { "margin-bottom": "14px" } }, timeStrip(engine)), layerTable(engine)),
    section("roofline", "Roofline", roof, h("div", { class: "card" }, rooflineChart(engine))),
    section("memory", "Memory over time", "Every block is a value in the arena: how much room it takes, and from which kernel to which it is needed.", h("div", { class: "card" }, memoryChart(engine))),
    section("candidates", "Candidates", "Which kernels could do each step, and how fast. The slowest steps come first; open one to see all that was tried.", candidateList(engine)),
    section("accuracy", "Accuracy", "", accuracyTable(data.engines)),
    engine.notes.length ? section("notes", "Notes", "", h("div", { class: "card" }, h("ul", { class: "notes" }, engine.notes.map((n) => h("li", { class: "wide" }, n))))) : "",
  ];
  page.replaceChildren(...parts.filter((p) => p !== ""));
  document.title = several ? `${plural(data.engines.length, "engine")}: ${data.engines.map((e) => e.name).join(", ")}` : `${engine.name}: Strop report`;
  const sections = [...page.querySelectorAll("section")];
  nav.replaceChildren(...sections.map((found) => h("a", { href: `#${found.id}` }, found.querySelector("h2").textContent)));
  follow(sections);
  graph.ready();
}

// Marks the section that is read in the navigation.
let watcher = null;
function follow(sections) {
  if (watcher) watcher.disconnect();
  const links = [...nav.children], seen = new Set();
  watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) (entry.isIntersecting ? seen.add(entry.target) : seen.delete(entry.target));
    const first = sections.findIndex((found) => seen.has(found));
    links.forEach((link, k) => { link.classList.toggle("here", k === first); (k === first ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")); });
  }, { rootMargin: "-70px 0px -45% 0px" });
  for (const found of sections) watcher.observe(found);
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.style.colorScheme ? root.style.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.style.colorScheme = dark ? "light" : "dark";
});
document.getElementById("foot").textContent = `Made by Strop ${data.strop}. This page is complete in itself: it loads nothing and sends nothing.`;
draw(0);
