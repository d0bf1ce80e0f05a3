"""The quantize stage of a build: calibrates, decides every layer's precision, and rewrites the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from strop.engine.accuracy_budget import by_accuracy
from strop.engine.auto_precision import (
    Network,
    automatic,
    by_race,
    by_time,
    timer,
)
from strop.engine.engine import Engine
from strop.engine.evaluate import Plugin, Remembered, evaluate
from strop.engine.rewrite import Calibrated, rewrite
from strop.engine.watch import Compile, observe
from strop.engine.xray import ISOLATED_BATCHES, AccuracyReport, accuracy_report
from strop.errors import OptionError
from strop.ir.control import loops
from strop.ir.graph import Graph
from strop.ir.text import show
from strop.ir.verify import verify
from strop.kernels.base import View
from strop.lower.pipeline import Lowered, Step
from strop.lower.projection import split_projections
from strop.ops.conv import Conv, ConvTranspose
from strop.quantize import ranges, table
from strop.quantize.data import Samples, samples
from strop.quantize.equalize import equalize
from strop.quantize.narrow import NARROW
from strop.quantize.pipeline import describe, observed
from strop.quantize.precision import INTEGERS, Decisions, decide, is_layer, layers
from strop.quantize.table import Table
from strop.quantize.weights import StoredLayer, stored_layers
from strop.target.base import Target
from strop.target.cuda import has_fp8, is_gpu
from strop.target.detect import runs_here
from strop.target.isa.table import multiplies_pairs
from strop.trace import Trace

#: Used where nothing else is said: of integers, whose steps are even, and of floats of 8 bits, whose steps grow with the value.
CALIBRATOR, FLOAT_CALIBRATOR = "mse", "minmax"
#: Batches on which the calibrator ``best`` compares others, and dB by which another than the first has to be better.
_COMPARED, _CLEARLY = 64, 1.0
#: Of ``auto``, where nothing else is said.
MAX_DROP = 1.0


@runtime_checkable
class Trained(Protocol):
    """A network that was trained for int8, as ``strop.quantize.prepare_qat`` makes it: it knows its ranges."""

    layer_precision: Mapping[str, str]

    @property
    def ranges(self) -> Table:
        """Of every value that is stored as integers."""

    def to_graph(self) -> Graph:
        """The network in floats."""


@dataclass(frozen=True)
class Request:
    """What a user asks for; see ``strop.engine.build.build``."""

    precision: str = "fp32"
    layers: Mapping[str, str] | None = None
    calibration: Any = None
    ranges: Any = None
    calibrator: str | None = None
    max_drop: float | None = None
    metric: str | Plugin | None = None
    batches: int | None = None
    preprocess: str = "unit"
    bias_correction: bool = True
    equalize: bool = False

    @property
    def is_plain(self) -> bool:
        """True when nothing but f32 is asked for."""
        return self.precision == "fp32" and all(p == "fp32" for p in (self.layers or {}).values())

    @property
    def asked(self) -> tuple[str, ...]:
        """Every precision that is named."""
        return (self.precision, *(self.layers or {}).values())

    @property
    def chosen(self) -> str:
        """The calibrator's text."""
        return self.calibrator or (FLOAT_CALIBRATOR if "fp8" in self.asked else CALIBRATOR)

    def of(self, model: Any) -> Request:
        """With the ranges and precisions of layers that a model was trained with, where nothing else is given."""
        if not isinstance(model, Trained) or self.calibration is not None or self.ranges is not None:
            return self
        return replace(self, ranges=model.ranges, layers=self.layers or model.layer_precision)

    def samples(self, graph: Graph) -> Samples:
        """The calibration data, for a graph's inputs."""
        return samples(self.calibration, graph.inputs, limit=self.batches, preprocess=self.preprocess)


@dataclass(frozen=True)
class Reduced:
    """The result of the stage.

    Attributes:
        graph: portable.
        facts: for the engine's manifest.
        explain: makes an accuracy report of samples, as ``Engine.accuracy_report``; None where nothing was reduced.
        settled: True where all that could be measured has been, and kernels are to be those that have been compared.
    """

    graph: Graph
    facts: dict[str, Any] = field(default_factory=dict)
    explain: Callable[..., AccuracyReport] | None = None
    settled: bool = False


def reduce_precision(
    graph: Graph, request: Request, compile: Compile, tuned: Compile, machine: Target, level: int, budget: float | None, trace: Trace
) -> Reduced:
    """The graph in the precision that is asked for.

    Args:
        graph: portable, f32.
        compile: makes an engine for this machine of a portable graph.
        tuned: likewise, for the target and with the tuning of the build.
        machine, level, budget: what the engine is built for, and how it will be tuned; ``auto`` measures by them.

    Raises:
        OptionError: an unknown precision, calibrator, metric or layer, or a range that is missing.
        InputError: calibration samples do not fit.
    """
    plain = graph
    if "fp8" in request.asked and not has_fp8(machine):
        raise _no_fp8(machine)
    if not is_gpu(machine) and any(asked in (*INTEGERS, *NARROW, "auto") for asked in request.asked):
        graph = split_projections(graph, _known(request))
    decisions = decide(graph, request.precision, request.layers, fastest_integers(machine))
    calibrator = request.chosen if request.chosen == ranges.BEST else ranges.parse(request.chosen).text
    if calibrator == ranges.BEST and "fp8" in request.asked:
        raise OptionError("the calibrator 'best' compares ranges of integers", where="calibrator", got="fp8", expected="minmax, percentile, ...")
    if request.max_drop is not None and not request.max_drop >= 0:
        raise OptionError("unusable max_drop", got=request.max_drop, expected="0 or more")
    if request.is_plain:
        return Reduced(graph)
    if request.precision == "auto" and loops(graph):
        why = "a network with loops is not calibrated"
        trace.note(f"auto: all {sum(1 for _ in layers(graph))} layers stay in fp32: {why}")
        decisions = decisions.lifted({node.name: why for node in layers(graph)})
        return Reduced(graph, {"precision": _facts(graph, request, decisions, calibrator)})
    integers = any(decisions.of(node) in INTEGERS for node in layers(graph))
    compile = _remembering(compile, graph)
    if request.equalize and integers:
        graph = _equalized(graph, request, trace)
    calibrated = calibrate_graph(graph, decisions, request, compile, trace) if integers else Calibrated(Table())
    network = Network(graph, calibrated, compile, trace)
    limit = MAX_DROP if request.precision == "auto" and request.max_drop is None else request.max_drop

    def limited(tried: Decisions) -> Decisions:
        if limit is None or all(tried.of(node) == "fp32" for node in layers(graph)):
            return tried
        return by_accuracy(network, tried, request.samples(graph), request.metric, limit, is_gpu(machine))

    if request.precision == "auto":
        decisions = automatic(network, decisions, timer(machine, level, budget, trace), limited)
    elif request.precision in NARROW and not is_gpu(machine):
        decisions = limited(by_time(network, decisions, timer(machine, 0, None, trace), request.precision).decisions)
    else:
        decisions = limited(decisions)
    settled = request.precision == "auto" and level > 0 and runs_here(machine) and any(decisions.of(node) != "fp32" for node in layers(graph))
    if settled:
        data = request.samples(graph)
        decisions = by_race(network, decisions, plain, tuned, None if data.once else next(iter(data)).inputs)
    lifted = request.precision == "auto" and all(decisions.of(node) == "fp32" for node in layers(graph))
    rewritten = rewrite(graph, decisions, calibrated, trace)
    result = plain if lifted else rewritten
    verify(result, "portable")
    trace.dump("quantize.ranges.txt", calibrated.table.text)
    trace.dump("quantize.ir", lambda: show(result))
    stored = list(stored_layers(graph, decisions))
    if stored:
        note_stored(stored, trace)
    facts = _facts(graph, request, decisions, calibrator)
    if stored:
        facts["weights"] = [asdict(each) for each in stored]

    def explain(data: Any, preprocess: str = request.preprocess, batches: int = ISOLATED_BATCHES) -> AccuracyReport:
        found = samples(data, graph.inputs, preprocess=preprocess)
        return accuracy_report(graph, rewritten, decisions, calibrated, found, compile, Trace(), batches)

    return Reduced(result, {"precision": facts}, explain, settled)


def fastest_integers(machine: Target) -> str:
    """What ``auto`` starts from: weights of 7 bits where x86-64 processors multiply pairs of bytes, in sums that saturate, and not quads."""
    return "int8x7" if multiplies_pairs(machine) else "int8"


def _no_fp8(machine: Target) -> OptionError:
    hint = "use precision='int8', which it multiplies as bytes, or 'fp16'" if is_gpu(machine) else "use precision='int8', or 'bf16' or 'fp16'"
    return OptionError("the target has no products of 8-bit floats", where="precision", got=f"fp8 for {machine.name}", expected="cuda:sm_90", hint=hint)


def _remembering(compile: Compile, graph: Graph) -> Compile:
    """Compiles one graph only once."""
    kept: list[Engine] = []

    def made(asked: Graph) -> Engine:
        if asked is not graph:
            return compile(asked)
        if not kept:
            kept.append(compile(graph))
        return kept[0]

    return made


def _facts(graph: Graph, request: Request, decisions: Decisions, calibrator: str) -> dict[str, Any]:
    """For the engine's manifest."""
    others = {node.name: decisions.of(node) for node in graph.nodes if decisions.named(node) and not is_layer(node)}
    return {"asked": request.precision, "layers": describe(graph, decisions), "others": others, "calibrator": calibrator, "why": dict(decisions.why)}


def _equalized(graph: Graph, request: Request, trace: Trace) -> Graph:
    """The graph with its pairs of convolutions equalized; OptionError where ranges are known of the graph as it was."""
    if _known(request) is not None:
        raise OptionError(
            "a range table does not fit a network that is equalized", where="equalize", got="a range table", expected="samples as calibration"
        )
    result, count = equalize(graph)
    trace.note(f"equalized: {count} pairs of convolutions")
    return result


def note_stored(stored: Sequence[StoredLayer], trace: Trace) -> None:
    """Tells sizes and errors of weights that are stored as integers."""
    worst = min(stored, key=lambda each: each.sqnr)
    floats, bytes = sum(each.floats for each in stored), sum(each.bytes for each in stored)
    trace.note(
        f"weights of {len(stored)} layers take {bytes / 1e6:.2f} MB instead of {floats / 1e6:.2f} MB; signal to noise at least {worst.sqnr:.1f} dB "
        f"({worst.name})"
    )


def note_slow(lowered: Lowered, facts: Mapping[str, Any], trace: Trace) -> None:
    """Says by name which steps of reduced precision have no fast kernel."""
    if not facts:
        return
    naive = [s.region for s in lowered.steps if s.chosen.kernel.name.startswith("naive") and any(v.dtype.name != "f32" for v in _views(s))]
    if naive:
        names = ", ".join(dict.fromkeys(r.name for r in naive[:6])) + ", ..." * (len(naive) > 6)
        trace.note(
            f"{facts['precision']['asked']}: {len(naive)} of {len(lowered.steps)} steps have no fast kernel for {lowered.target.name} and may be "
            f"slower than fp32: {names}; precision 'auto' leaves such layers in fp32"
        )


def _views(step: Step) -> list[View]:
    return [*(o.view for o in step.region.operands if o is not None), *step.region.outs]


def calibrate_graph(graph: Graph, decisions: Decisions, request: Request, compile: Compile, trace: Trace) -> Calibrated:
    """Ranges from a table, if one is given, else from samples; the means of channels from samples."""
    known = _table(request.ranges if request.ranges is not None else request.calibration)
    if known is not None and (request.ranges is None or request.calibration is None or not request.bias_correction):
        return Calibrated(known)
    found = request.samples(graph)
    if found.note:
        trace.note(f"calibration: {found.note}")
    seen = observe(graph, observed(graph, decisions), found, compile, trace, channel_axes(graph))
    means = {name: m.mean for name, m in seen.means.items() if m.total is not None} if request.bias_correction else {}
    if known is not None:
        return Calibrated(known, means)
    if request.chosen != ranges.BEST:
        return Calibrated(seen.table(ranges.parse(request.chosen)), means)
    tries = {name: Calibrated(seen.table(ranges.parse(name)), means) for name in ranges.TRIED}
    return _best(graph, decisions, tries, found, compile, trace)


def _best(graph: Graph, decisions: Decisions, tries: Mapping[str, Calibrated], found: Samples, compile: Compile, trace: Trace) -> Calibrated:
    """Of several calibrators' ranges those that leave most signal at the outputs on the samples; the first ones where no others are clearly better."""
    first, *others = tries
    if found.once:
        trace.note(f"calibration: ranges by {first}; samples that can be walked only once cannot compare calibrators")
        return tries[first]
    if all(tries[name].table.covers_as(tries[first].table) for name in others):
        return tries[first]
    reference = Remembered(compile(graph).run)
    heard = {
        name: evaluate(compile(rewrite(graph, decisions, each, Trace())).run, found.first(_COMPARED), ["sqnr"], reference.walk())[0].value
        for name, each in tries.items()
    }
    best = max(others, key=lambda name: heard[name])
    chosen = best if heard[best] > heard[first] + _CLEARLY else first
    trace.note(f"calibration: ranges by {chosen}; signal to noise at the outputs: " + ", ".join(f"{value:.1f} dB by {name}" for name, value in heard.items()))
    return tries[chosen]


def _known(request: Request) -> Table | None:
    """The range table of a request; None where samples are to be run."""
    return _table(request.ranges if request.ranges is not None else request.calibration)


def _table(given: Any) -> Table | None:
    """The range table that a user gives: itself, its path, or ranges by value name; None for samples."""
    if isinstance(given, Table):
        return given
    if isinstance(given, Mapping) and given and all(isinstance(v, tuple) and len(v) == 2 for v in given.values()):
        return table.of(given)
    if not isinstance(given, (str, Path)) or Path(given).suffix in (".npy", ".npz") or Path(given).is_dir():
        return None
    if not Path(given).exists():
        raise OptionError("there is no such calibration data", got=given, expected="a folder, an .npy or .npz file, or a range table")
    return table.load(given)


def channel_axes(graph: Graph) -> dict[str, int]:
    """Per input of a layer the axis that its weights sum over."""
    found: dict[str, int] = {}
    for node in layers(graph):
        value = node.operand(0)
        spatial = isinstance(node.op, ConvTranspose) or (isinstance(node.op, Conv) and node.op.layout == "NCHW")
        found[value.name] = 1 if spatial else len(value.shape) - 1
    return found
