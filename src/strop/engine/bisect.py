"""Finds what makes a network wrong: the frontend, a patch of a pass, or the kernel of a step.

The stages are taken in their order, each compared with what it was given: the graph as it was read with another runtime, the
graph after N patches with the graph as it was read, the engine with the optimized graph. Within a stage the first wrong patch is found
by halving the number of patches, the wrong kernel by halving the number of steps that keep theirs while all others are naive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from strop.engine.arena import plan_memory
from strop.engine.assemble import Assembler
from strop.engine.diff import compare
from strop.engine.engine import Array, Engine
from strop.engine.trial import Conditions, Failure, departure, feed_of, of_error, run_apart
from strop.engine.values import of_graph, of_onnxruntime
from strop.frontend.table import read
from strop.ir import interp, text
from strop.ir.graph import Graph
from strop.kernels.base import Candidate
from strop.lower.pipeline import Lowered, Step, lower
from strop.optimize import pipeline
from strop.optimize.base import Options
from strop.target.detect import parse
from strop.trace import Trace
from strop.tune.search import tune

Say = Callable[[str], None]


@dataclass(frozen=True)
class Guilt:
    """What is wrong, as far as it could be told.

    Attributes:
        stage: ``none``, ``frontend``, ``pass``, ``lower`` or ``kernel``.
        failure: how it shows.
        name: the pass, or the kernel with its parameters.
        rule: of the pass, with its source line.
        patch: number of the patch, from 1 on; ``STROP_PATCHES`` of one less gives a right network.
        step: of the kernel.
        nodes: the model's nodes that it is about.
        before, after: lines of the graph that the patch removed and added; for a kernel what it is asked to do.
        right: other kernels for the step that give the right result.
    """

    stage: str
    failure: str = ""
    name: str = ""
    rule: str = ""
    patch: int = 0
    step: str = ""
    nodes: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    right: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def bisect(model: Path, inputs: Mapping[str, Array], conditions: Conditions, say: Say = lambda line: None) -> Guilt:
    """What makes a model wrong; see the module's text.

    Args:
        model: path of the ONNX file.
        inputs: arrays by name; those that are missing are random.
        conditions: how it is built and with what it is compared.
        say: told about progress.

    Raises:
        StropError: the model cannot be read or has no meaning on these inputs.
    """
    graph = read(model, conditions.shapes)
    feed = feed_of(graph, inputs, conditions.seed)
    return _frontend(model, graph, feed, conditions) or bisect_graph(graph, feed, conditions, say)


def bisect_graph(graph: Graph, feed: Mapping[str, Array], conditions: Conditions, say: Say = lambda line: None) -> Guilt:
    """The same from the graph on."""
    wanted = interp.run(graph, feed)
    guilt = _passes(graph, feed, wanted, conditions, say)
    if guilt is not None:
        return guilt
    optimized = pipeline.optimize(graph, Trace())
    return _kernels(optimized, feed, interp.run(optimized, feed), conditions, say)


def _frontend(model: Path, graph: Graph, feed: Mapping[str, Array], conditions: Conditions) -> Guilt | None:
    if conditions.against != "onnxruntime":
        return None
    first = compare(of_graph(graph, feed, "oracle"), of_onnxruntime(model, graph, feed, "onnxruntime"), conditions.tolerance).first
    if first is None:
        return None
    return Guilt("frontend", f"{first.value}: {first.departs}", name=first.b, nodes=(first.node,) if first.node else ())


# ---- passes


def _optimized(graph: Graph, fuel: int) -> tuple[Graph, Trace]:
    trace = Trace(fuel=fuel)
    return pipeline.optimize(graph, trace), trace


def _passes(graph: Graph, feed: Mapping[str, Array], wanted: Mapping[str, Array], conditions: Conditions, say: Say) -> Guilt | None:
    def failure(fuel: int) -> Failure | None:
        try:
            text = departure(interp.run(_optimized(graph, fuel)[0], feed), wanted, conditions.tolerance)
        except Exception as error:
            return of_error(error)
        return Failure("differs", text) if text else None

    whole = failure(-1)
    if whole is None:
        say("the passes keep the meaning")
        return None
    if failure(0) is not None:
        return _without_patch(graph, feed, wanted, conditions)
    low, high = 0, 1
    while failure(high) is None:
        low, high = high, 2 * high
        if high > 1 << 20:
            return Guilt("pass", whole.text)
    while high - low > 1:
        middle = (low + high) // 2
        found = failure(middle)
        say(f"{middle} patches: {'right' if found is None else found.text}")
        low, high = (middle, high) if found is None else (low, middle)
    found = failure(high)
    assert found is not None
    return _patch(graph, high, found)


def _patch(graph: Graph, number: int, failure: Failure) -> Guilt:
    """The guilt of a patch, with what it did to the graph."""
    before, _ = _optimized(graph, number - 1)
    trace = Trace(fuel=number)
    try:
        after: Graph | None = pipeline.optimize(graph, trace)
    except Exception:
        after = None
    name, rule, _ = trace.patches[number - 1] if len(trace.patches) >= number else ("", "", "")
    old = text.show(before).splitlines()
    new = [] if after is None else text.show(after).splitlines()
    gone = [line for line in old if line not in set(new)] if after is not None else []
    made = [line for line in new if line not in set(old)]
    nodes = [s for n in (*before.nodes, *(() if after is None else after.nodes)) if text.show_node(n) in (*gone, *made) for s in n.source]
    return Guilt("pass", failure.text, name, rule, number, "", tuple(dict.fromkeys(nodes)), tuple(gone), tuple(made))


def _without_patch(graph: Graph, feed: Mapping[str, Array], wanted: Mapping[str, Array], conditions: Conditions) -> Guilt:
    """A pass that is wrong without any patch: the first one after which the meaning is another."""
    copy, options = graph.clone(), Options()
    for number, module in enumerate(pipeline.PASSES):
        before = text.show(copy).splitlines()
        try:
            module.run(copy, Trace(fuel=0), options)
            failure = departure(interp.run(copy, feed), wanted, conditions.tolerance)
        except Exception as error:
            failure = str(error)
        if failure:
            after = text.show(copy).splitlines()
            gone, made = [x for x in before if x not in set(after)], [x for x in after if x not in set(before)]
            nodes = tuple(dict.fromkeys(s for n in copy.nodes if text.show_node(n) in made for s in n.source))
            return Guilt("pass", failure, module.NAME, f"pass {number + 1}, which does not count its patches", 0, "", nodes, tuple(gone), tuple(made))
    return Guilt("pass", "the graph is refused before any pass")


# ---- kernels


def _kernels(graph: Graph, feed: Mapping[str, Array], wanted: Mapping[str, Array], conditions: Conditions, say: Say) -> Guilt:
    machine = parse(conditions.target) if isinstance(conditions.target, str) else conditions.target
    try:
        lowered = lower(graph, machine.with_cores(conditions.threads), Trace())
        tune(lowered, conditions.level, None, Trace())
    except Exception as error:
        return Guilt("lower", str(error))
    chosen = [step.chosen for step in lowered.steps]
    plain = [_naive(step) for step in lowered.steps]

    def failure(choices: Sequence[Candidate]) -> Failure | None:
        return _tried(lowered, graph, choices, feed, wanted, conditions)

    whole = failure(chosen)
    if whole is None:
        return Guilt("none")
    say(f"with the chosen kernels: {whole.text}")
    found = failure(plain)
    if found is not None:
        return Guilt("lower", f"{found.text}, with naive kernels too: the layout, the memory plan or the naive kernel is wrong")
    low, high = 0, len(chosen)
    while high - low > 1:
        middle = (low + high) // 2
        found = failure([*chosen[:middle], *plain[middle:]])
        say(f"the first {middle} steps with their kernels, {len(chosen) - middle} naive: {'right' if found is None else found.text}")
        low, high = (middle, high) if found is None else (low, middle)
    step, kernel = lowered.steps[high - 1], chosen[high - 1]
    others = _others(step, kernel)
    right = [c.label for c in others if failure([*plain[: high - 1], c, *plain[high:]]) is None]
    alone = failure([*plain[: high - 1], kernel, *plain[high:]]) or whole
    asked = tuple(step.region.signature().split(" | "))
    return Guilt("kernel", alone.text, kernel.label, "", 0, step.region.name, step.region.source, asked, (), tuple(right))


def _naive(step: Step) -> Candidate:
    return next((c for c in step.candidates if c.kernel.name == "naive"), step.chosen)


def _others(step: Step, kernel: Candidate) -> list[Candidate]:
    """The favourite of each other kernel, and of the kernel itself the next point of its space; naive last."""
    found: dict[str, Candidate] = {}
    for candidate in step.candidates:
        key = candidate.kernel.name
        if candidate.label != kernel.label and key not in found:
            found[key] = candidate
    return list(found.values())[:4]


def _tried(
    lowered: Lowered, graph: Graph, choices: Sequence[Candidate], feed: Mapping[str, Array], wanted: Mapping[str, Array], conditions: Conditions
) -> Failure | None:  # fmt: skip
    """How the program fails with these kernels; None when it is right."""
    try:
        for step, candidate in zip(lowered.steps, choices, strict=True):
            step.chosen = candidate
        parts = Assembler(lowered, plan_memory(lowered))
        parts.emit()
        engine = Engine.from_sections(parts.sections(graph, {"level": conditions.level, "notes": []}, Trace()))
        got = run_apart(engine, feed, conditions.threads)
        if isinstance(got, Failure):
            return got
        text = departure(got, wanted, conditions.tolerance)
    except Exception as error:
        return of_error(error)
    return Failure("differs", text) if text else None
