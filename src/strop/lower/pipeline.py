"""Portable graph to launches for one target: the ordered list of lowering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from strop.errors import ShapeError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.expr import Input
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Cost, Type
from strop.ir.shape import Dim, Sym
from strop.kernels.base import Candidate, Operand, Region, View
from strop.kernels.cuda_libraries.calls import ALIGNED as LIBRARY_ALIGNED
from strop.kernels.extent import (
    SymbolicError,
    dim_of,
    dims_of,
    highest,
    is_symbolic,
    lowest,
    typical,
)
from strop.kernels.table import candidates, refusals
from strop.kernels.triton import loops, pointwise
from strop.lower import regions
from strop.lower.layout import Layout
from strop.lower.placement import Buffer, Jump, Launch, Placement
from strop.lower.prepare import prepare
from strop.lower.signed import signed
from strop.lower.split_first import split_first
from strop.lower.views import transposed
from strop.lower.widen import widen
from strop.ops.base import probes
from strop.ops.conv import Conv
from strop.ops.data import Pad, Reshape, Slice, Split, within
from strop.ops.integer import IntegerConv
from strop.ops.mixed import MixedConv
from strop.ops.wide import WideConv
from strop.target.base import Target
from strop.target.cuda import has_fp8, is_gpu
from strop.target.detect import beside
from strop.trace import Trace

#: Largest value that memory is planned for.
_MAX_BYTES = 1 << 40


@dataclass(frozen=True)
class Tried:
    """A candidate of a step.

    Attributes:
        label: kernel and parameters.
        estimated: seconds on one core that its cost model expects.
        measured: seconds that it took, or None.
        verdict: why it is not used (``wrong``, ``crashed``, ``hung``, ``broken``), or empty.
    """

    label: str
    estimated: float
    measured: float | None = None
    verdict: str = ""


@dataclass(eq=False)
class Step:
    """One kernel launch with open or chosen candidates.

    Attributes:
        region: what the kernel sees.
        inputs: placement per operand; None for constants and operands left out.
        outputs: placement per result.
        candidates: kernels that can do it, best estimate first.
        chosen: the one in force.
        copy: why it is a copy step, or empty.
        swaps: True when a copy changes the order of axes.
        seconds: measured time of the chosen candidate on one core, if tuning measured it.
        tried: what is known about its candidates, best first; those that do not work last.
        values: per result the value of the graph that it is, and the model's node that the value ends.
        host: the processor that runs it, where that is not the program's target.
        refusal: why it does not run on the target, or empty.
    """

    region: Region
    inputs: list[Placement | None]
    outputs: list[Placement]
    candidates: list[Candidate]
    chosen: Candidate
    copy: str = ""
    swaps: bool = False
    seconds: float | None = None
    tried: tuple[Tried, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    host: Target | None = None
    refusal: str = ""


@dataclass(eq=False)
class Lowered:
    """A program for one target."""

    target: Target
    graph: Graph
    steps: list[Step]
    buffers: list[Buffer]
    outputs: list[Buffer] = field(default_factory=list)
    jumps: list[Jump] = field(default_factory=list)

    @property
    def fallbacks(self) -> list[Step]:
        """The steps that run on the processor beside the GPU."""
        return [step for step in self.steps if step.host is not None]

    def sides(self) -> list[Lowered]:
        """What the GPU runs and what the processor beside it runs, as programs of their own over the same steps; there are fallbacks."""
        hosts = self.fallbacks
        own = [step for step in self.steps if step.host is None]
        machine = hosts[0].host
        assert machine is not None
        return [replace(self, steps=own), replace(self, target=machine, steps=hosts)]


#: A launch that no kernel can do, and why.
Refusal = tuple[Launch, UnsupportedError]


def lower(graph: Graph, target: Target, trace: Trace, refused: list[Refusal] | None = None, strict: bool = False) -> Lowered:
    """Chooses layouts and regions and asks every kernel; choices stay open, the estimate's favourite in force.

    Args:
        graph: the portable graph.
        target: the machine.
        trace: told about regions.
        refused: takes in launches that no kernel can do, whose steps are then left out; None to raise at the first.
        strict: nothing may run on the processor beside a GPU.

    Raises:
        UnsupportedError: an op has no kernel, the target has no f8e4m3, symbols have no bounds, or a size may be empty within them.
    """
    _require_bounds(graph)
    _require_ranges(graph)
    _require_fp8(graph, target)
    try:
        lowered = _lowered(graph, target, trace, refused)
    except SymbolicError as error:
        raise UnsupportedError(
            "the network cannot be arranged for symbolic dims", got=error, hint="fix some dims with --shape, or make their range smaller"
        ) from error
    if strict and lowered.fallbacks:
        raise _strict(lowered)
    return lowered


def _require_fp8(graph: Graph, target: Target) -> None:
    """UnsupportedError for values of f8e4m3 where no kernels have them."""
    found = next((v for v in graph.values.values() if v.dtype is dt.f8e4m3), None)
    if found is not None and not has_fp8(target):
        raise UnsupportedError(
            "the target has no 8-bit floats", where=found.name, got=f"{found.type} for {target.name}", expected="cuda:sm_90", hint="build for such a GPU, or in precision int8"
        )


def _strict(lowered: Lowered) -> UnsupportedError:
    """The error that names every step of the processor, and why it is one."""
    steps, count = lowered.fallbacks, len(lowered.steps)
    reasons = [f"{step.region.name} ({step.region.kind}): {step.refusal}" for step in steps]
    return UnsupportedError(
        f"{len(steps)} of {count} steps would run on the processor" if len(steps) > 1 else f"a step of {count} would run on the processor",
        where=", ".join(dict.fromkeys(source for step in steps for source in step.region.source or (step.region.name,))), got="; ".join(reasons),
        expected=f"a kernel for {lowered.target} for every step", hint="build without strict (--strict), or for a processor",
    )  # fmt: skip


def _lowered(graph: Graph, target: Target, trace: Trace, refused: list[Refusal] | None) -> Lowered:
    prepared = prepare(signed(graph) if is_gpu(target) else graph, is_gpu(target))
    if is_gpu(target):
        widen(prepared)
        split_first(prepared)
        prepared.prune()
    trace.dump("lower.prepared.ir", lambda: "\n".join(map(repr, prepared.nodes)))
    groups = regions.form(prepared, is_gpu(target))
    layout = Layout(prepared, groups)
    computed = set(prepared.setters())
    known: dict[str, list[Candidate]] = {}
    steps = []
    deciding = {jump.after for jump in layout.jumps}
    for number, launch in enumerate(layout.launches):
        try:
            _require_sizes(launch, computed)
            steps.append(_placed(launch, target, known, number in deciding) if is_gpu(target) else _step(launch, target, known))
        except UnsupportedError as error:
            if refused is None:
                raise
            refused.append((launch, error))
    lowered = Lowered(target, prepared, steps, layout.buffers, layout.outputs, layout.jumps)
    if refused is None:
        _require_gpu(lowered)
    trace.dump("lower.regions.txt", lambda: show(lowered))
    return lowered


def _placed(launch: Launch, target: Target, known: dict[str, list[Candidate]], decides: bool) -> Step:
    """The step of a launch: on the GPU where there is a kernel, else on the processor beside it.

    Args:
        decides: whether a jump depends on its result.
    """
    places = [place for place in (*launch.inputs, *launch.outputs) if place is not None]
    free = any(is_symbolic(place.offset, place.buffer.size) for place in places)
    region = _region(launch)
    if decides:
        reason = "a jump depends on it"
    elif free and not region.symbols:
        reason = "it lies in memory whose size only a run knows"
    else:
        found = [c for c in _candidates(region, target, known) if c.kernel.estimated or all(map(_in_line, places))]
        if found:
            return _step_of(launch, region, found)
        reason = _why_not(region, target)
    if any(view.dtype is dt.f8e4m3 for view in (*region.outs, *(o.view for o in region.operands if o is not None))):
        raise UnsupportedError("a layer on 8-bit floats does not run on the processor", where=region.name, got=reason, expected=f"a kernel for {target.name}")
    host = beside(target)
    step = _step(launch, host, {})
    step.host, step.refusal = host, reason
    return step


def _in_line(place: Placement) -> bool:
    """Whether an operand begins where NVIDIA's libraries let it."""
    return place.offset * place.view.dtype.size % LIBRARY_ALIGNED == 0


def _why_not(region: Region, target: Target) -> str:
    """Why a GPU does not do a region: what the most general of its kernels says."""
    reasons = refusals(region, target)
    general = pointwise.KERNEL.name if region.op is None else loops.KERNEL.name
    return reasons.get(general) or "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def _require_gpu(lowered: Lowered) -> None:
    """Something runs on the GPU that the network is built for, and no caller decides over sizes."""
    fallbacks = lowered.fallbacks
    if not fallbacks or (len(fallbacks) < len(lowered.steps) and not any(sh.symbols(value.shape) for value in lowered.graph.inputs)):
        return
    names = [step.region.name for step in fallbacks]
    raise UnsupportedError(
        f"no kernel for {lowered.target} can do {len(names)} layers" if len(names) > 1 else f"no kernel for {lowered.target} can do a layer",
        where=", ".join(names[:12]) + ", ..." * (len(names) > 12), got=f"{fallbacks[0].region.kind}: {fallbacks[0].refusal}",
        expected="a layer that runs on the GPU, and inputs of fixed sizes", hint="fix free sizes with --shape, or build for a processor",
    )  # fmt: skip


def _require_bounds(graph: Graph) -> None:
    """Every free dim has a range that somebody chose."""
    for value in graph.inputs:
        names = ", ".join(s.name for s in sh.symbols(value.shape) if s.max == Sym("").max)
        if names:
            raise UnsupportedError(
                "input shape is symbolic, and nothing says in which range",
                where=value.name,
                got=sh.show(value.shape),
                hint=f"pass --shape {value.name}=... (or shapes={{'{value.name}': ...}}) with numbers or ranges like 1..8 for {names}",
            )


def _require_ranges(graph: Graph) -> None:
    """Reshapes and splits keep the number of elements, slices stay on their axes, and paddings have enough to repeat, for all values of the symbols, not only for some. What data decides is the
    runtime's to check."""
    computed = set(graph.setters())
    for node in graph.nodes:
        op = node.op
        symbols = {s.name for s in sh.symbols(d for v in (*node.operands, *node.outputs) for d in v.shape)}
        if not isinstance(op, (Reshape, Split, Slice, Pad)) or not symbols or symbols & computed:
            continue
        shape = node.operand(0).shape
        if isinstance(op, Pad):
            _require_room(node, op)
            continue
        if isinstance(op, Slice):
            for start, stop, axis, step in zip(op.starts, op.stops, op.axes, op.steps, strict=True):
                if not all(within(start, stop, shape[axis], step, known) for known in probes((start, stop, shape[axis]))):
                    raise _sometimes(node, f"{start}:{stop}", f"within axis {axis} of {shape[axis]}")
            continue
        made: Dim = 0
        for result in node.outputs:
            made = sh.add(made, sh.volume(result.shape))
        if sh.volume(shape) != made:
            raise _sometimes(node, f"{made} elements", f"{sh.volume(shape)} elements")


def _require_room(node: Node, op: Pad) -> None:
    """What is repeated or mirrored is long enough at the least sizes, too."""
    x = node.operand(0).type
    least = Type(x.dtype, tuple(sh.bounds(d)[0] for d in x.shape))
    try:
        op.infer([least])
    except ShapeError as error:
        raise _sometimes(node, f"{least} at the least", error.what) from error


def _sometimes(node: Node, got: str, expected: str) -> UnsupportedError:
    return UnsupportedError(
        f"{node.op.label} is right only for some values of the symbols", where=node.name, got=got, expected=expected,
        hint="fix the dims with --shape, or free those that belong together",
    )  # fmt: skip


def _names(value: int) -> set[str]:
    """The symbols that a size depends on."""
    return {s.name for s in sh.symbols([dim_of(value)])}


def _require_sizes(launch: Launch, computed: set[str]) -> None:
    """No size that the step works on is too large anywhere in the range of the symbols, or empty unless data decides it."""
    for place in (*launch.inputs, *launch.outputs):
        if place is None or not place.view.symbolic:
            continue
        sizes = sh.show(dims_of(place.view.shape))
        if any(is_symbolic(d) and lowest(d) < (0 if _names(d) & computed else 1) for d in place.view.shape):
            raise UnsupportedError(
                "a size may be below 1 within the range of its symbols", where=launch.name, got=sizes,
                hint="let the range begin higher",
            )  # fmt: skip
        if highest(place.view.nbytes) > _MAX_BYTES:
            raise UnsupportedError(
                "a value may be too large within the range of its symbols", where=launch.name, got=sizes,
                expected=f"up to {_MAX_BYTES} bytes", hint="let the range end lower",
            )  # fmt: skip


def _step(launch: Launch, target: Target, known: dict[str, list[Candidate]]) -> Step:
    region = _region(launch)
    found = _candidates(region, target, known)
    if not found:
        reasons = "; ".join(f"{k}: {v}" for k, v in refusals(region, target).items())
        raise UnsupportedError(
            f"no kernel can do {region.kind}", where=region.name, got=region.signature(), expected=reasons
        )
    return _step_of(launch, region, found)


def _step_of(launch: Launch, region: Region, found: list[Candidate]) -> Step:
    values = () if launch.group is None else tuple(map(_named, launch.group.outputs))
    return Step(region, launch.inputs, launch.outputs, found, found[0], launch.reason, launch.swaps, values=values)


def _candidates(region: Region, target: Target, known: dict[str, list[Candidate]]) -> list[Candidate]:
    """The region's candidates; those of a GPU, which are many, are asked for once per signature."""
    if not is_gpu(target):
        return candidates(region, target)
    signature = region.signature()
    if signature not in known:
        known[signature] = candidates(region, target)
    return list(known[signature])


def _named(value: Value) -> tuple[str, str]:
    """A value's name, and the last of the model's nodes that its producer stands for."""
    source = value.producer.source if value.producer is not None else ()
    return value.name, source[-1] if source else ""


def _region(launch: Launch) -> Region:
    outs = tuple(p.view for p in launch.outputs)
    group = launch.group
    anchors = group.anchors if group is not None else 0
    prologues = group.prologues if group is not None else 0
    epilogue_end = len(launch.inputs) - prologues
    operands: list[Operand | None] = []
    for index, (placement, const) in enumerate(zip(launch.inputs, launch.consts, strict=True)):
        operand = _operand(placement, const)
        if operand is not None and index >= anchors:
            first = operands[0] if operands else None
            shape = first.view.shape if index >= epilogue_end and first is not None else outs[0].shape
            operand = Operand(operand.view.broadcast(shape), operand.const, operand.name)
        operands.append(operand)
    op = group.anchor.op if group is not None and group.anchor is not None else None
    epilogue = group.epilogue if group is not None else Input(0)
    region = Region(launch.name, op, tuple(operands), anchors, epilogue, outs, launch.source, _work(launch, outs),
                    group.prologue if group is not None else Input(0), prologues)  # fmt: skip
    return _longest_last(_channels_first(region))


def _channels_first(region: Region) -> Region:
    """Kernels know one logical order: a convolution over N, ..., C becomes one over N, C, ... on permuted views."""
    if not isinstance(region.op, (Conv, IntegerConv, MixedConv, WideConv)) or region.op.layout == "NCHW":
        return region
    rank = len(region.out.shape)
    perm = (0, rank - 1, *range(1, rank - 1))

    def turn(operand: Operand | None, index: int) -> Operand | None:
        if operand is None or 0 < index < region.anchors:  # weights, and what there is one of, or one per channel
            return operand
        return Operand(transposed(operand.view, perm), operand.const, operand.name)

    operands = tuple(turn(o, i) for i, o in enumerate(region.operands))
    outs = tuple(transposed(v, perm) for v in region.outs)
    return replace(region, op=region.op.replace(layout="NCHW"), operands=operands, outs=outs)


def _longest_last(region: Region) -> Region:
    """Kernels walk the last axis: a convolution whose last axis is 1 all through, as exporters write one-dimensional ones, becomes
    one with its two spatial axes swapped. Only views change, and the weights' order not at all."""
    op = region.op
    if not isinstance(op, Conv) or len(op.strides) != 2 or op.pads[1] or op.pads[3]:
        return region
    x, w = region.operands[0], region.operands[1]
    if x is None or w is None or not (x.view.shape[3] == w.view.shape[3] == region.out.shape[3] == 1) or x.view.shape[2] == 1:
        return region
    if not w.view.is_dense() or w.const is None or w.const.shape != w.view.shape:
        return region
    perm = (0, 1, 3, 2)
    shape = tuple(w.view.shape[axis] for axis in perm)
    weights = Operand(View.dense(shape, w.view.dtype), w.const.reshape(shape), w.name)
    operands = tuple(
        weights if index == 1 else operand and Operand(transposed(operand.view, perm), operand.const, operand.name)
        for index, operand in enumerate(region.operands)
    )
    turned = op.replace(
        strides=op.strides[::-1], dilations=op.dilations[::-1], pads=(op.pads[1], op.pads[0], op.pads[3], op.pads[2])
    )
    return replace(region, op=turned, operands=operands, outs=tuple(transposed(view, perm) for view in region.outs))


def _operand(placement: Placement | None, const: Value | None) -> Operand | None:
    if placement is not None:
        return Operand(placement.view, None, placement.buffer.name)
    if const is not None and const.const is not None:
        array = np.asarray(const.const, order="C")
        return Operand(View.dense(array.shape, const.dtype), array, const.name)
    return None


def _work(launch: Launch, outs: Sequence[View]) -> Cost:
    """Operations and bytes of all nodes in the launch; bytes inside a fused region do not move and do not count."""
    moved = sum(typical(p.view.count) * p.view.dtype.size for p in launch.inputs if p is not None)
    moved += sum(v.const.nbytes for v in launch.consts if v is not None and v.const is not None)
    moved += sum(typical(v.count) * v.dtype.size for v in outs)
    if launch.group is None:
        return Cost(0, moved)
    return Cost(sum(map(typical_flops, launch.group.nodes)), moved)


def typical_flops(node: Node) -> int:
    """Operations of a node at the optimum of its symbols."""
    known = {s.name: s.opt for v in (*node.operands, *node.outputs) for s in sh.symbols(v.shape)}
    types, results = ([v.type.at(known) for v in values] for values in (node.operands, node.outputs))
    return node.op.at(known).cost(types, results).flops


def show(lowered: Lowered) -> str:
    """One line per step with the chosen kernel and its competitors."""
    lines = []
    for index, step in enumerate(lowered.steps):
        lines.append(f"{index:4d} {step.region.name}: {step.region.signature()}")
        for candidate in step.candidates[:6]:
            mark = "*" if candidate is step.chosen else " "
            lines.append(f"      {mark} {candidate.label} {candidate.cost(step.region, step.host or lowered.target) * 1e6:.1f} us")
    return "\n".join(lines)
