"""All that is known about engines, gathered for one page: ``report(engines).save("report.html")``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from strop.engine.bench import bench
from strop.engine.describe import StepReport, describe, title
from strop.engine.engine import Engine
from strop.engine.evaluate import Score
from strop.engine.graph_layout import arrange
from strop.engine.page.assemble import page
from strop.engine.peaks import peaks_of
from strop.engine.provenance import LayerProfile, attribute, profile
from strop.engine.sources import Source, read_sources
from strop.errors import EngineFileError, OptionError, TargetError
from strop.files import replacing
from strop.version import __version__

#: Size of a box in the graph of nodes, and of one in the graph of kernels without and with each node that it holds.
NODE_BOX = (148.0, 34.0)
KERNEL_BOX, KERNEL_ROW = (196.0, 30.0), 18.0
#: Nodes that a kernel's box lists; the number of the others stands below.
MOST_ROWS = 8
#: Most engines on a page.
MOST_ENGINES = 12


@dataclass(frozen=True)
class Extra:
    """What is known about an engine from elsewhere.

    Attributes:
        scores: how good it is; see ``strop.engine.evaluate``.
        basis: on which data.
        sqnr: dB by the model's node, of its result beside a reference; infinite where it is the same.
        reference: what these compare with.
        name: to show in place of the engine's own.
    """

    scores: tuple[Score, ...] = ()
    basis: str = ""
    sqnr: Mapping[str, float] = field(default_factory=dict)
    reference: str = ""
    name: str = ""


@dataclass(frozen=True)
class PageReport:
    """A page of its own: everything is in ``html``."""

    data: dict[str, Any]
    html: str

    def save(self, path: str | Path) -> None:
        """Writes the page, whole or not at all; OptionError when it cannot be written."""
        try:
            with replacing(Path(path)) as temporary:
                temporary.write_text(self.html, encoding="utf-8")
        except OSError as error:
            raise OptionError("cannot write the report", where=str(path), got=error.strerror or error, hint="write elsewhere") from error

    def __repr__(self) -> str:
        return f"PageReport({', '.join(e['name'] for e in self.data['engines'])}; {len(self.html)} characters)"

    def _repr_html_(self) -> str:
        """The page in a frame, for notebooks."""
        return f'<iframe srcdoc="{escape(self.html)}" style="width:100%;height:760px;border:0" title="Strop report"></iframe>'


def report(
    engines: Engine | Sequence[Engine], *, extras: Sequence[Extra] | None = None, seconds: float = 1.0, threads: int | None = None,
    run: bool = True, roofline: bool = True,
) -> PageReport:  # fmt: skip
    """Measures engines one after the other and makes a page about them.

    Args:
        extras: per engine.
        seconds: each of them is measured.
        threads: None for each engine's own.
        run: False to measure nothing: times are then the build's.
        roofline: whether to measure what the machine can do; needs the compiler.

    Raises:
        OptionError: no engine, or too many for a page.
        EngineFileError: a manifest is malformed.
    """
    engines = [engines] if isinstance(engines, Engine) else engines
    if not 1 <= len(engines) <= MOST_ENGINES:
        raise OptionError("unusable number of engines for a report", got=len(engines), expected=f"1 to {MOST_ENGINES}")
    given = extras or [Extra()] * len(engines)
    found = [_one(engine, extra, seconds, threads, run, roofline) for engine, extra in zip(engines, given, strict=True)]
    names: dict[str, int] = {}
    for record in found:  # engines of one name are told apart by a number
        names[record["name"]] = names.get(record["name"], 0) + 1
        record["name"] += f" ({names[record['name']]})" if names[record["name"]] > 1 else ""
    data = {"strop": __version__, "engines": found}
    return PageReport(data, page(data))


def _one(engine: Engine, extra: Extra, seconds: float, threads: int | None, run: bool, roofline: bool) -> dict[str, Any]:
    measured: Any = None
    peaks, notes = None, list(describe(engine).notes)
    try:
        if run:
            measured = bench(engine, threads=threads, seconds=seconds)
            peaks, why = peaks_of(engine, threads) if roofline else (None, "")
            notes += [f"no roofline: {why}"] * bool(why)
    except TargetError as error:
        run = False
        notes.append(f"not measured here: {error.what}; times are the build's")
    sources = read_sources(engine)
    if run:
        profiled = profile(engine, threads=threads, seconds=seconds, peaks=peaks)
        layers, steps, joules = profiled.layers, profiled.steps, profiled.joules
    else:
        steps, joules = describe(engine).steps, None
        layers, _ = attribute(sources, steps)
    found = describe(engine)
    noise = _noise(extra.sqnr, steps)
    return {
        "name": extra.name or title(engine),
        "file": engine.path.stat().st_size,
        "target": found.target, "isa": found.isa, "threads": threads or found.threads, "level": engine.manifest.get("level"),
        "inputs": list(found.inputs), "outputs": list(found.outputs), "notes": notes,
        "bench": None if measured is None else measured.to_json(),
        "memory": asdict(found.memory), "totals": asdict(found.totals),
        "joules": joules, "peaks": None if peaks is None else asdict(peaks),
        "scores": [{**score.to_json(), "text": str(score)} for score in extra.scores], "basis": extra.basis, "reference": extra.reference,
        "layers": [_layer(layer, noise.get(layer.name)) for layer in layers],
        "steps": [_step(step, record) for step, record in zip(steps, engine.manifest["steps"])],
        "before": _before(sources), "after": _after(sources, steps), "buffers": _buffers(engine, len(steps)),
    }  # fmt: skip


def _noise(sqnr: Mapping[str, float], steps: Sequence[StepReport]) -> dict[str, float]:
    """SQNR by node: its own, or that of what its kernel stores, as what is inside of a kernel is nowhere to be looked at."""
    found = dict(sqnr)
    for step in steps:
        stored = [sqnr[name] for name in step.source if name in sqnr]
        if stored:
            found.update({name: stored[-1] for name in step.source if name not in found})
    return found


def _layer(layer: LayerProfile, sqnr: float | None) -> dict[str, Any]:
    text = None if sqnr is None else "exact" if sqnr == float("inf") else f"{sqnr:.1f}"
    return {**asdict(layer), "sqnr": sqnr if sqnr is not None and abs(sqnr) != float("inf") else None, "sqnr_text": text}


def _step(step: StepReport, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": step.name, "kind": step.kind, "kernel": step.kernel, "copy": step.copy, "source": list(step.source),
        "output": step.outputs[0].split(":")[0] if step.outputs else "", "flops": step.flops, "bytes": step.bytes,
        "ns": step.time_ns, "estimated_ns": step.estimated_ns, "measured_ns": step.measured_ns, "tasks": step.tasks,
        "candidates": record.get("candidates"), "tried": _tried(record.get("tried")),
    }  # fmt: skip


def _tried(found: Any) -> list[list[Any]]:
    """Candidates as [label, estimated ns, measured ns or None, verdict]; whatever else the file says is left out."""
    if not isinstance(found, list):
        return []
    kinds: tuple[Any, ...] = (str, int, (int, type(None)), str)
    return [t for t in found if isinstance(t, list) and len(t) == 4 and all(isinstance(v, k) for v, k in zip(t, kinds))]


def _before(sources: Sequence[Source]) -> dict[str, Any]:
    """The graph of the model's nodes; those that left no operation are only listed."""
    drawn = [k for k, s in enumerate(sources) if s.result]
    place = {k: n for n, k in enumerate(drawn)}
    edges = sorted({(place[p], place[k]) for k in drawn for p, _ in sources[k].operands if p in place and place[p] < place[k]})
    return {**_drawn([NODE_BOX] * len(drawn), edges), "nodes": drawn, "folded": [k for k, s in enumerate(sources) if not s.result]}


def _after(sources: Sequence[Source], steps: Sequence[StepReport]) -> dict[str, Any]:
    """The graph of the kernels, each with the nodes in it."""
    index = {s.name: k for k, s in enumerate(sources)}
    members = [[index[name] for name in step.source if name in index] for step in steps]
    makers: dict[int, list[int]] = {}
    edges: set[tuple[int, int]] = set()
    for number, group in enumerate(members):
        for k in group:
            for producer, _ in sources[k].operands:
                edges |= {(m, number) for m in _makers(producer, sources, makers, set(group)) if m != number}
        if not group and number:
            edges.add((number - 1, number))
        for k in group:
            makers.setdefault(k, []).append(number)
    sizes = [(KERNEL_BOX[0], KERNEL_BOX[1] + KERNEL_ROW * (min(len(m), MOST_ROWS) + (len(m) > MOST_ROWS)) + 8 * bool(m)) for m in members]
    return {**_drawn(sizes, sorted(edges)), "members": members}


def _makers(node: int, sources: Sequence[Source], makers: Mapping[int, list[int]], inside: set[int]) -> set[int]:
    """The steps that make what a node gives: its own, or through views those of its operands."""
    pending, seen, found = [node], set(), set()
    while pending:
        k = pending.pop()
        if k < 0 or k in seen or k in inside:
            continue
        seen.add(k)
        if k in makers:
            found.add(makers[k][-1])
        else:
            pending += [p for p, _ in sources[k].operands]
    return found


def _drawn(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> dict[str, Any]:
    drawing = arrange(sizes, edges)
    return {
        "boxes": [[round(x, 1), round(y, 1), *size] for (x, y), size in zip(drawing.boxes, sizes)],
        "edges": [[a, b, [[round(x, 1), round(y, 1)] for x, y in line]] for (a, b), line in zip(edges, drawing.lines)],
        "width": round(drawing.width, 1), "height": round(drawing.height, 1),
    }  # fmt: skip


def _buffers(engine: Engine, steps: int) -> list[list[Any]]:
    """What lies in the arena as [value, offset, bytes, first step, last step].

    Raises:
        EngineFileError: the manifest says something else.
    """
    found = engine.manifest.get("buffers", [])
    kinds = (str, int, int, int, int)
    sound = isinstance(found, list) and all(
        isinstance(b, list) and len(b) == 5 and all(isinstance(v, k) for v, k in zip(b, kinds)) and 0 <= b[3] <= b[4] < steps for b in found
    )
    if not sound:
        raise EngineFileError("the manifest of the engine is malformed", where=str(engine.path), got="buffers", expected="[value, offset, bytes, first, last]")
    return list(found)


def sqnr_by_node(rows: Sequence[Any]) -> dict[str, float]:
    """dB per model's node out of ``strop.engine.diff`` rows; infinite where nothing differs."""
    return {r.node: float("inf") if r.sqnr is None else r.sqnr for r in rows if r.node and r.max_abs is not None}


