"""The driver: a model in, an engine out. The only place that names all stages in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from strop import knobs
from strop.engine.arena import plan_memory
from strop.engine.assemble import Assembler
from strop.engine.engine import Engine
from strop.engine.stages import STAGES, Stopped
from strop.errors import OptionError
from strop.frontend.onnx.reader import read_onnx
from strop.ir.graph import Graph
from strop.ir.text import show as show_graph
from strop.ir.verify import verify
from strop.lower.pipeline import lower
from strop.optimize.pipeline import optimize
from strop.target.base import Target
from strop.target.detect import parse as parse_target
from strop.trace import Progress, Trace
from strop.tune.search import tune

if TYPE_CHECKING:
    from onnx import ModelProto

Model = Union[str, Path, bytes, "ModelProto", Graph]
Shapes = Mapping[str, Union[str, Sequence[Union[int, str]]]]


def build(
    model: Model,
    *,
    target: str | Target = "host",
    threads: int | None = None,
    level: int = 3,
    budget: float | None = None,
    shapes: Shapes | None = None,
    dump: str | Path | None = None,
    stop_after: str | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Compiles a model for one target.

    Args:
        model: path or bytes of an ONNX file, a loaded ModelProto, or a Graph.
        target: ``host`` or a name such as ``x86-64-v3``.
        threads: work is split for this many; None for the machine's cores.
        level: effort of choosing kernels, 0 (estimates only) to 5 (every candidate is measured).
        budget: seconds that measuring may take; None for the level's own.
        shapes: input name to shape: a text such as ``1..8(1)x3x32..960(320)%32x640``, or a sequence of numbers and such ranges
            (min..max, the optimum that is tuned for, what it is a multiple of; a name alone stands for 1..128). Where a range is
            given the engine serves all of it. The model's own names of dims may be given in place of an input's. ``NAME[]`` stands for the
            elements of a value that decide over sizes, or for the size that it gets from data: ``"k[]": "1..100"``.
        dump: folder that receives every stage's text.
        stop_after: a stage name; raises Stopped after it.
        progress: called as progress(stage, done, total).

    Returns:
        The engine; ``engine.save(path)`` keeps it.

    Raises:
        StropError: what failed, where, got, expected, what to try.
    """
    machine = _target(target, threads)
    _check(level, stop_after)
    trace = Trace(Path(dump) if dump else None, stop_after, progress)

    with _Stage(trace, "frontend"):
        graph = model if isinstance(model, Graph) else read_onnx(model, shapes)
        verify(graph, "imported")
        trace.dump("frontend.ir", lambda: show_graph(graph))
    with _Stage(trace, "optimize"):
        graph = optimize(graph, trace)
    with _Stage(trace, "lower"):
        lowered = lower(graph, machine, trace)
    with _Stage(trace, "tune"):
        tune(lowered, level, budget, trace)
    with _Stage(trace, "codegen"):
        parts = Assembler(lowered, plan_memory(lowered))
        parts.emit()
        trace.dump("codegen.c", lambda: "\n".join(parts.module.units()))
        if trace.debug >= 4:
            trace.log(4, "\n".join(parts.module.units()))
        sections = parts.sections(graph, {"level": level, "notes": trace.notes}, trace)
    with _Stage(trace, "engine"):
        return Engine.from_sections(sections)


class _Stage:
    """Times a stage, and ends the build after it when asked to."""

    def __init__(self, trace: Trace, name: str) -> None:
        self._trace, self._name = trace, name
        self._timer = trace.stage(name)

    def __enter__(self) -> None:
        self._timer.__enter__()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self._timer.__exit__(kind, value, traceback)
        if kind is None and self._trace.stop_after == self._name:
            raise Stopped(self._name)


def _target(target: str | Target, threads: int | None) -> Target:
    machine = parse_target(target) if isinstance(target, str) else target
    count = threads if threads is not None else knobs.THREADS.get() or machine.cores
    if not 1 <= count <= 256:
        raise OptionError("unusable number of threads", got=count, expected="1..256")
    return machine.with_cores(count)


def _check(level: int, stop_after: str | None) -> None:
    if not 0 <= level <= 5:
        raise OptionError("unusable level", got=level, expected="0..5")
    if stop_after is not None and stop_after not in STAGES:
        raise OptionError("unknown stage", got=stop_after, expected=", ".join(STAGES))
