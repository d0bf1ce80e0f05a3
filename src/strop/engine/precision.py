"""The quantize stage of a build: calibrates, decides every layer's precision, and rewrites the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.engine.calibrate import Compile, observe
from strop.errors import OptionError
from strop.ir.graph import Graph
from strop.ir.text import show
from strop.ir.verify import verify
from strop.ops.conv import Conv, ConvTranspose
from strop.quantize import ranges, table
from strop.quantize.bias_correction import correct
from strop.quantize.data import samples
from strop.quantize.narrow import NARROW, narrow
from strop.quantize.pipeline import describe, observed, quantize
from strop.quantize.precision import Decisions, decide, layer_name, layers
from strop.quantize.table import Table
from strop.trace import Trace

#: Used where nothing else is said.
CALIBRATOR = "mse"


@dataclass(frozen=True)
class Request:
    """What a user asks for; see ``strop.engine.build.build``."""

    precision: str = "fp32"
    calibration: Any = None
    calibrator: str = CALIBRATOR
    layers: Mapping[str, str] = field(default_factory=dict)
    batches: int | None = None
    preprocess: str = "unit"
    bias_correction: bool = True

    @property
    def is_plain(self) -> bool:
        """True when nothing but f32 is asked for."""
        return self.precision == "fp32" and not any(p != "fp32" for p in self.layers.values())


@dataclass(frozen=True)
class Calibrated:
    """Ranges, and the mean of each input channel of the layers where samples were run."""

    table: Table
    means: Mapping[str, Any] = field(default_factory=dict)


def reduce_precision(graph: Graph, request: Request, compile: Compile, trace: Trace) -> tuple[Graph, dict[str, Any]]:
    """The graph in the precision that is asked for, and what the engine's manifest says of it.

    Args:
        graph: portable, f32.
        compile: makes an engine for this machine of a portable graph.

    Raises:
        OptionError: an unknown precision, calibrator or layer, or a range that is missing.
        InputError: calibration samples do not fit.
    """
    decisions = decide(graph, request.precision, request.layers)
    calibrator = ranges.parse(request.calibrator)
    if request.is_plain:
        return graph, {}
    calibrated = calibrate(graph, decisions, request, compile, trace) if _has_int8(graph, decisions) else Calibrated(Table())
    result = rewrite(graph, decisions, calibrated, trace)
    verify(result, "portable")
    trace.dump("quantize.ranges.txt", calibrated.table.text)
    trace.dump("quantize.ir", lambda: show(result))
    facts = {"asked": request.precision, "layers": describe(graph, decisions), "calibrator": calibrator.text}
    return result, {"precision": facts}


def rewrite(graph: Graph, decisions: Decisions, calibrated: Calibrated, trace: Trace) -> Graph:
    """The graph with every node in its precision; says what stays in floats and what saturates."""
    result = quantize(graph, decisions, calibrated.table)
    if calibrated.means:
        correct(graph, result, calibrated.means)
    if any(p in NARROW for p in (decisions.default, *decisions.nodes.values())):
        narrowed = narrow(result, decisions)
        result = narrowed.graph
        for name, count in narrowed.overflows.items():
            trace.note(f"fp16: {count} weights of {name} are beyond 65504 and saturate")
    return result


def _has_int8(graph: Graph, decisions: Decisions) -> bool:
    return any(decisions.of(node) == "int8" for node in layers(graph))


def calibrate(graph: Graph, decisions: Decisions, request: Request, compile: Compile, trace: Trace) -> Calibrated:
    """Ranges from a table, if that is what is given, else from samples."""
    given = request.calibration
    if isinstance(given, Table):
        return Calibrated(given)
    if isinstance(given, Mapping) and given and all(isinstance(v, tuple) and len(v) == 2 for v in given.values()):
        return Calibrated(table.of(given))
    if isinstance(given, (str, Path)) and _is_table(Path(given)):
        return Calibrated(table.load(given))
    found = samples(given, graph.inputs, limit=request.batches, preprocess=request.preprocess)
    if found.note:
        trace.note(f"calibration: {found.note}")
    seen = observe(graph, observed(graph, decisions), found, compile, trace, channel_axes(graph))
    means = {name: m.mean for name, m in seen.means.items() if m.total is not None} if request.bias_correction else {}
    return Calibrated(seen.table(ranges.parse(request.calibrator)), means)


def channel_axes(graph: Graph) -> dict[str, int]:
    """Per input of a layer the axis that its weights sum over."""
    found: dict[str, int] = {}
    for node in layers(graph):
        value = node.operand(0)
        spatial = isinstance(node.op, (Conv, ConvTranspose)) and node.op.layout == "NCHW"
        found[value.name] = 1 if spatial else len(value.shape) - 1
    return found


def _is_table(path: Path) -> bool:
    """True for a file that is no array and no folder: a range table, or what should be one."""
    if path.suffix in (".npy", ".npz") or path.is_dir():
        return False
    if not path.exists():
        raise OptionError("there is no such calibration data", got=path, expected="a folder, an .npy or .npz file, or a range table")
    return True


def missing(graph: Graph, decisions: Decisions, known: Table) -> list[str]:
    """Names of layers whose inputs a table does not cover."""
    needed = {v.name for v in observed(graph, decisions)}
    return [layer_name(n) for n in layers(graph) if n.operand(0).name in needed and n.operand(0).name not in known]
