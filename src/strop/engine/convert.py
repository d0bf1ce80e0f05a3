"""A model to another format: .tflite, or optimized ONNX. The only place that names all stages of it in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from strop.engine.build import Model, Shapes, on_this_machine, portable
from strop.engine.watch import observe
from strop.errors import OptionError, StropError
from strop.export import integers
from strop.export.arrange import arrange, plain
from strop.export.expand import IN_ONNX, expand
from strop.export.kept import keep
from strop.export.widen import is_narrow, widen
from strop.frontend.table import WRITERS, writer
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Graph
from strop.optimize.pipeline import optimize
from strop.quantize import ranges
from strop.quantize.data import samples
from strop.quantize.table import Table
from strop.trace import Progress, Trace

if TYPE_CHECKING:
    from strop.frontend.tflite.records import OutGraph

#: That are written.
FORMATS = tuple(WRITERS)
#: Of a .tflite file.
PRECISIONS = ("fp32", "fp16", "dynamic", "int8", "int16x8")
#: Activations of files of integers.
_KINDS = {"int8": dt.i8, "int16x8": dt.i16}
#: Of inputs and outputs.
LAYOUTS = ("model", "channels_last")
#: In order, for progress.
STAGES = ("frontend", "optimize", "arrange", "quantize", "write")


@dataclass(frozen=True)
class Converted:
    """A file, and what is in it.

    Attributes:
        data: the file's bytes.
        summary: operators by name, bytes of constants, transpositions inside and at the ends, what stayed in floats.
        notes: what a user should know.
    """

    data: bytes
    summary: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def convert(
    model: Model,
    to: str = "tflite",
    *,
    precision: str = "fp32",
    calibration: Any = None,
    input_dtype: Any = None,
    output_dtype: Any = None,
    layout: str = "model",
    shapes: Shapes | None = None,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    signature: str | None = None,
    calibrator: str = "minmax",
    preprocess: str = "unit",
    batches: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Writes a model as a file of another format, optimized and without what its new format does not need.

    Args:
        model: what ``strop.build`` takes: path, bytes, a model in memory, a Network, or a Graph.
        to: ``tflite``, or ``onnx``.
        precision: of a .tflite file: ``fp32``; ``fp16``: weights in 16 bits; ``dynamic``: weights in 8 bits, one scale per output channel,
            activations are quantized while it runs; ``int8``: weights and activations in 8 bits; ``int16x8``: weights in 8, activations
            in 16 bits.
        calibration: samples for int8 and int16x8, see ``strop.quantize.data``, in the layout of the file's inputs. Without any, random inputs
            are used, and a note says so.
        input_dtype, output_dtype: element type of float inputs and outputs of a quantized file: ``f32`` (None too), or the integers that it
            computes in (``i8``; ``u8``; ``i16``), as a name or a numpy dtype.
        layout: of inputs and outputs of rank 4: ``model``: as the model has them, turned where the network begins and ends;
            ``channels_last``: [N, H, W, C].
        shapes, example_inputs, dynamic_shapes, signature: as of ``strop.build``.
        calibrator: minmax, entropy, entropy2, percentile, mse or legacy, with parameters as in ``percentile:99.9``.
        preprocess: of images: unit, imagenet, signed or raw.
        batches: samples to use at most.
        progress: called as progress(stage, done, total).

    Returns:
        The bytes of the file: the same for the same arguments.

    Raises:
        UnsupportedError: nodes that the format has no operators for; all of them are named.
        OptionError: an unknown option, or a package that is not installed.
        StropError: as ``strop.build``.
    """
    return conversion(
        model, to, precision=precision, calibration=calibration, input_dtype=input_dtype, output_dtype=output_dtype, layout=layout,
        shapes=shapes, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes, signature=signature, calibrator=calibrator,
        preprocess=preprocess, batches=batches, progress=progress,
    ).data  # fmt: skip


def conversion(
    model: Model,
    to: str = "tflite",
    *,
    precision: str = "fp32",
    calibration: Any = None,
    input_dtype: Any = None,
    output_dtype: Any = None,
    layout: str = "model",
    shapes: Shapes | None = None,
    calibrator: str = "minmax",
    preprocess: str = "unit",
    batches: int | None = None,
    progress: Progress | None = None,
    **reading: Any,
) -> Converted:
    """As ``convert``, with what the file holds."""
    _check(to, precision, layout)
    if to == "onnx" and (precision, layout) != ("fp32", "model"):
        raise OptionError(
            "an ONNX file is written as the model is", where="argument precision or layout", got=f"{precision}, {layout}", expected="fp32, model",
            hint="strop.convert(model, 'tflite', precision=...)",
        )  # fmt: skip
    if precision not in _KINDS and (input_dtype, output_dtype) != (None, None):
        raise OptionError("only files of integers have inputs and outputs of other types", where="argument input_dtype or output_dtype", expected=", ".join(_KINDS))
    ends = [end_type(given, what, precision) for given, what in ((input_dtype, "input_dtype"), (output_dtype, "output_dtype"))]
    format = writer(to)
    trace = Trace(progress=progress)
    graph = portable(model, shapes, trace, **reading)
    if to == "onnx":
        return _to_onnx(graph, format, trace)
    with trace.stage("arrange"):
        if is_narrow(graph):
            trace.note("16-bit floats are computed in f32; precision fp16 keeps their weights small")
            graph = optimize(widen(graph), trace)
        arranged = arrange(graph, trace, format.direct, layout == "channels_last")
    written: OutGraph = format.write(arranged)
    integers.spread(written)
    keep(written)
    told: dict[str, Any] = {}
    with trace.stage("quantize"):
        if precision == "fp16":
            _note_lost(integers.half(written), trace)
        elif precision == "dynamic":
            integers.dynamic(written)
        elif precision in _KINDS:
            found = integers.Integers(written, ranges_of(arranged, written, calibration, calibrator, preprocess, batches, trace), _KINDS[precision])
            found.run()
            found.ends(*ends)
            told["floats"] = found.floats
    with trace.stage("write"):
        data = format.to_bytes(written)
    return Converted(data, {**summary_of(written), **told}, trace.notes)


def _to_onnx(graph: Graph, format: Any, trace: Trace) -> Converted:
    with trace.stage("arrange"):
        expanded = expand(graph, format.direct, IN_ONNX)
    with trace.stage("write"):
        written = format.write(expanded)
        data = format.to_bytes(written)
    turns = written.operators.count("Transpose")
    operators = dict(sorted(Counter(written.operators).items()))
    return Converted(data, {"operators": operators, "constant_bytes": written.constant_bytes, "transposes_inside": turns, "transposes_at_edges": 0}, trace.notes)


def _note_lost(count: int, trace: Trace) -> None:
    if count:
        trace.note(f"fp16: {count} weights are beyond 65504 and saturate")


def ranges_of(arranged: Graph, written: OutGraph, calibration: Any, calibrator: str, preprocess: str, batches: int | None, trace: Trace) -> Table:
    """The ranges of a file's float tensors, by the names of the arranged graph's values."""
    if isinstance(calibration, Table):
        return calibration
    graph, names = plain(arranged)
    own = {names[name]: name for name in integers.needed(written)}
    found = samples(calibration, graph.inputs, limit=batches, preprocess=preprocess)
    if found.note:
        trace.note(f"calibration: {found.note}")
    seen = observe(graph, [graph.values[name] for name in own], found, on_this_machine, trace)
    table = seen.table(ranges.parse(calibrator))
    return Table({own[name]: entry for name, entry in table.entries.items()})


def end_type(given: Any, what: str, precision: str) -> DType:
    """The type of inputs or outputs that a user gives: a DType, its name, or a numpy dtype.

    Raises:
        OptionError: another type than f32 and the integers of the precision.
    """
    allowed = (dt.f32, *((dt.i16,) if precision == "int16x8" else (dt.i8, dt.u8)))
    try:
        found = dt.f32 if given is None else given if isinstance(given, DType) else dt.BY_NAME.get(str(given)) or dt.from_numpy(np.dtype(given))
    except (TypeError, StropError):
        found = None
    if found is None or found not in allowed:
        raise OptionError("inputs and outputs cannot have this type", where=f"argument {what}", got=given, expected=", ".join(map(str, allowed)))
    return found


def summary_of(written: OutGraph) -> dict[str, Any]:
    """Operators by name, bytes of constants, and where transpositions are: at the edges are those that read an input or make an output."""
    ends = {*written.inputs.values(), *written.outputs.values()}
    every = [o for graph in written.graphs() for o in graph.operators]
    turns = [o for o in every if o.code == "TRANSPOSE"]
    outside = sum(1 for o in turns if o.inputs[0] in ends or o.outputs[0] in ends)
    return {
        "operators": dict(sorted(Counter(o.code for o in every).items())),
        "constant_bytes": written.constant_bytes,
        "transposes_inside": len(turns) - outside,
        "transposes_at_edges": outside,
    }


def _check(to: str, precision: str, layout: str) -> None:
    for what, given, known in (("to", to, FORMATS), ("precision", precision, PRECISIONS), ("layout", layout, LAYOUTS)):
        if given not in known:
            raise OptionError(f"unknown {what}", where=f"argument {what}", got=given, expected=", ".join(known))
