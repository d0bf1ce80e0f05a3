"""The driver: a model in, an engine out. The only place that names all stages in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from strop.engine.engine import Engine
from strop.engine.evaluate import Plugin
from strop.engine.notebook import bar_of_notebook
from strop.engine.options import check, machine_of
from strop.engine.partition import assembler_of
from strop.engine.placement import announce
from strop.engine.precision import Reduced, Request, note_slow, reduce_precision
from strop.engine.sources import sources_of
from strop.engine.stages import Stage
from strop.engine.watch import Compile
from strop.frontend.network import Network
from strop.frontend.table import read
from strop.ir.graph import Graph
from strop.ir.text import show as show_graph
from strop.ir.verify import verify
from strop.lower.pipeline import lower
from strop.optimize.pipeline import optimize
from strop.target.base import Target
from strop.trace import Progress, Trace
from strop.tune.search import tune

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram
    from torch.nn import Module

Model = Union[str, Path, bytes, "ModelProto", "ExportedProgram", "Module", Graph, Network]
Shapes = Mapping[str, Union[str, Sequence[Union[int, str]]]]


def build(
    model: Model,
    *,
    target: str | Target = "host",
    threads: int | None = None,
    level: int = 3,
    budget: float | None = None,
    shapes: Shapes | None = None,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    signature: str | None = None,
    dump: str | Path | None = None,
    stop_after: str | None = None,
    progress: Progress | None = None,
    precision: str = "fp32",
    layer_precision: Mapping[str, str] | None = None,
    calibration: Any = None,
    ranges: Any = None,
    calibrator: str | None = None,
    preprocess: str = "unit",
    max_drop: float | None = None,
    metric: str | Plugin | None = None,
    equalize: bool = False,
    strict: bool = False,
) -> Engine:
    """Compiles a model for one target.

    Args:
        model: path of an ONNX, .tflite, .keras, .h5, .pt2 or frozen .pb file or a SavedModel's folder, bytes of such a file, a ModelProto, PyTorch module,
            ExportedProgram, Keras model, ConcreteFunction, Network, Graph, or what ``strop.quantize.prepare_qat`` made, whose ranges then count.
        target: ``host`` or a name such as ``x86-64-v3``, ``cuda:sm_90`` or ``cuda:sm_90+x86-64-v3``: this processor runs what that GPU cannot.
        threads: work is split for this many; None for the machine's cores.
        level: effort of choosing kernels, 0 (estimates only) to 5 (every candidate is measured).
        budget: seconds that measuring may take; None for the level's own.
        shapes: input name to shape: a text such as ``1..8(1)x3x32..960(320)%32x640``, or a sequence of numbers and such ranges (min..max, the optimum
            that is tuned for, what it is a multiple of; a name alone stands for 1..128). Where a range is given the engine serves all of it. The model's
            own names of dims may be given in place of an input's. ``=16000`` in place of a shape compiles in an input that always has this value;
            branches on it are then taken. ``"k[]": "1..100"`` is about the elements of k that decide over sizes, or the size that k gets from data.
        example_inputs: of a PyTorch module: its positional arguments, or its keyword arguments as a dict.
        dynamic_shapes: of a PyTorch module: which dims are free, as ``torch.export.export`` takes it.
        signature: of a SavedModel or TFLite model with several entries: the key of the one to read; None for the main one.
        dump: folder that receives every stage's text.
        stop_after: a stage name; raises Stopped after it.
        progress: called as progress(stage, done, total); None for a bar in notebooks and nothing elsewhere.
        precision: of the layers: fp32, bf16, fp16, fp8 (GPUs), int8, int8x7 (weights of 7 bits), int16x8, of their weights alone w8, w4 or w4:64 (weights that share a scale), or auto:
            int8 or bf16 where that is faster and accurate enough. On processors bf16 and fp16 leave layers in fp32 that they are not estimated to make faster.
        layer_precision: shell-like pattern over the model's node names to the precision of these; ``@first``, ``@last``.
        calibration: samples for int8 and fp8, see ``strop.quantize.data``, or a range table or its path. Without any, random inputs are used, as a note says.
        ranges: a range table, its path, or value names to (low, high), where ``calibration`` has only the samples.
        calibrator: minmax, entropy, entropy2, percentile, mse or legacy, with parameters as in ``percentile:99.9``, or best (of several); by default minmax for fp8, else mse.
        preprocess: of images: unit, imagenet, signed or raw.
        max_drop: layers are lifted to fp32 until ``metric`` is at most this much worse than in fp32, in points of a metric that counts; for auto 1.
        equalize: brings channels between convolutions to like ranges first, see ``strop.quantize.equalize``.
        strict: what a GPU has no kernel for is an error; else it runs on the processor, and a PlacementWarning counts it.
        metric: see ``strop.engine.evaluate``; None for ``usual_metric``.

    Returns:
        The engine; ``engine.save(path)`` keeps it.

    Raises:
        StropError: what failed, where, got, expected, what to try.
    """
    machine = machine_of(target, threads)
    check(level, stop_after)
    bar = bar_of_notebook() if progress is None else None
    trace = Trace(Path(dump) if dump else None, stop_after, progress or bar)

    graph = portable(model, shapes, trace, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes, signature=signature)
    with Stage(trace, "quantize"):
        request = Request(precision, layer_precision, calibration, ranges, calibrator, max_drop, metric, None, preprocess, equalize=equalize).of(model)
        tuned: Compile = lambda each: _finish(Reduced(each), machine, level, budget, Trace(), strict)  # noqa: E731
        reduced = reduce_precision(graph, request, on_this_machine, tuned, machine, level, budget, trace)
    engine = _finish(reduced, machine, level, budget, trace, strict)
    announce(engine.manifest)
    engine.explain = reduced.explain
    if bar is not None:
        bar.close()
    return engine


def portable(model: Model, shapes: Shapes | None, trace: Trace, **options: Any) -> Graph:
    """The stages that know neither precision nor target: the portable graph of a model, in f32 where the model is."""
    with Stage(trace, "frontend"):
        graph = read(model, shapes, **options)
        verify(graph, "imported")
        trace.sources = sources_of(graph)
        trace.dump("frontend.ir", lambda: show_graph(graph))
    with Stage(trace, "optimize"):
        return optimize(graph, trace)


def _finish(reduced: Reduced, machine: Target, level: int, budget: float | None, trace: Trace, strict: bool = False) -> Engine:
    """The stages that know the target."""
    with Stage(trace, "lower"):
        lowered = lower(reduced.graph, machine, trace, strict=strict)
    with Stage(trace, "tune"):
        tune(lowered, level, budget, trace, settled=reduced.settled)
        note_slow(lowered, reduced.facts, trace)
    with Stage(trace, "codegen"):
        parts = assembler_of(lowered)
        parts.emit()
        trace.dump("codegen.c", lambda: "\n".join(parts.units()))
        if trace.debug >= 4:
            trace.log(4, "\n".join(parts.units()))
        sections = parts.sections(reduced.graph, {"level": level, "notes": trace.notes, "sources": trace.sources, **reduced.facts}, trace)
    with Stage(trace, "engine"):
        return Engine.from_sections(sections)


def on_this_machine(graph: Graph) -> Engine:
    """An engine for measuring values, not time."""
    return _finish(Reduced(graph), machine_of("host", None), 0, None, Trace())
