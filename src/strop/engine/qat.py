"""Quantization-aware training: a portable graph as a PyTorch module that rounds where the int8 form of the graph rounds.

Which values are rounded, to which grids, and who reads the rounded ones is what ``strop.quantize`` decides for the graph, so nothing about it is
decided twice. Gradients pass roundings unchanged and stop where values saturate (Jacob et al., 2018, section 3).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strop.engine.build import portable
from strop.engine.torch_meaning import compute, supports, unsupported
from strop.errors import InputError, ModelError, OptionError
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value
from strop.ir.shape import Sym
from strop.ops.conv import Conv
from strop.ops.elementwise import Elementwise
from strop.ops.matmul import MatMul
from strop.quantize import table
from strop.quantize.grid import LEAST, SYMMETRIC, Grid
from strop.quantize.pipeline import grid_of
from strop.quantize.place import Placement, place
from strop.quantize.precision import decide, weight_axis
from strop.quantize.table import Entry, Table
from strop.trace import Trace

Tensor = Any
OBSERVERS = ("moving_average", "learned")
#: Most samples of a batch.
_BATCH = 65536


def prepare(
    module: Any, example_inputs: Any, layer_precision: Mapping[str, str] | None, ranges: Any, observer: str, momentum: float
) -> QatModule:
    """See ``strop.quantize.prepare_qat``."""
    if observer not in OBSERVERS:
        raise OptionError("unknown observer", got=observer, expected=", ".join(OBSERVERS))
    if not 0 <= momentum < 1:
        raise OptionError("unusable momentum", got=momentum, expected="0 or more and less than 1")
    if not isinstance(module, nn.Module):
        raise OptionError("only PyTorch modules are trained", got=type(module).__name__, expected="a torch.nn.Module")
    examples, shapes, batch = _free_batch(example_inputs)
    graph = portable(copy.deepcopy(module).eval(), None, Trace(), example_inputs=examples, dynamic_shapes=shapes)
    decisions = decide(graph, "int8", layer_precision)
    known = table.load(ranges) if isinstance(ranges, (str, Path)) else ranges if ranges is not None else Table()
    return QatModule(graph, place(graph, decisions), batch, dict(layer_precision or {}), known, observer, momentum)


def _free_batch(examples: Any) -> tuple[Any, Any, int]:
    """Example inputs of at least two samples, dynamic shapes that leave the first axis free, and the size that it had."""
    named = isinstance(examples, Mapping)
    if not named and (isinstance(examples, (str, bytes)) or not isinstance(examples, Sequence)):
        raise OptionError("example inputs are a sequence or a dict", where="prepare_qat", got=type(examples).__name__, expected="(x,) for a single tensor")
    given = list(examples.values() if named else examples)
    if not given or not all(isinstance(x, torch.Tensor) and x.ndim for x in given) or len({len(x) for x in given}) != 1:
        raise OptionError("example inputs are tensors with one batch axis, the first", where="prepare_qat", expected="(x,) for a single tensor")
    size = len(given[0])
    dim = torch.export.Dim("batch", min=1, max=_BATCH)
    whole = [x if size > 1 else torch.cat([x, x]) for x in given]
    free: list[Any] = [{0: dim} for _ in given]
    return (dict(zip(examples, whole, strict=True)), dict(zip(examples, free, strict=True)), size) if named else (tuple(whole), tuple(free), size)


class _Rounded(torch.autograd.Function):  # type: ignore[misc,no-untyped-call,unused-ignore]
    """x on a grid; the gradient passes where x is within it, and moves the ends of the grid elsewhere (Esser et al., 2020)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, grid: Grid) -> Tensor:
        scale = torch.tensor(grid.scale, dtype=torch.float32, device=x.device)
        places = torch.round(x / scale) + grid.zero
        y = (places.clamp(0, 255) - grid.zero) * scale
        ctx.save_for_backward(x, y, places)
        ctx.span = grid.high - grid.low
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, y, places = ctx.saved_tensors
        below, above = places < 0, places > 255
        inside = gradient.masked_fill(below | above, 0.0)
        if not ctx.needs_input_grad[1]:
            return inside, None, None, None
        step = (inside * (y - x)).sum() / ctx.span
        return inside, (gradient * below).sum() - step, (gradient * above).sum() + step, None


class _RoundedWeights(torch.autograd.Function):  # type: ignore[misc,no-untyped-call,unused-ignore]
    """Weights on the symmetric grids of their output channels, as ``strop.quantize.grid`` rounds them; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, axis: int) -> Tensor:
        others = [k for k in range(w.ndim) if k != axis]
        most = w.abs().double().amax(others, keepdim=True)
        scale = (most / SYMMETRIC).clamp_min(LEAST).float()
        return torch.round(w / scale).clamp(-SYMMETRIC, SYMMETRIC) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return gradient, None


class QatModule(nn.Module):  # type: ignore[misc,unused-ignore]
    """A network in training for int8; see ``strop.quantize.prepare_qat``.

    Attributes:
        rounding: False to compute in plain floats.
    """

    def __init__(
        self, graph: Graph, placement: Placement, batch: int, layer_precision: Mapping[str, str], ranges: Table, observer: str, momentum: float
    ) -> None:
        super().__init__()
        for node in graph.nodes:
            if not supports(node):
                raise unsupported(node)
        self.rounding = True
        self.layer_precision = dict(layer_precision)
        self._graph, self._batch, self._momentum, self._learned = graph, batch, momentum, observer == "learned"
        self._groups = placement.groups
        self._axes = {id(node): weight_axis(node) for node in placement.layers}
        self._reads = {(id(node), index): value for value, readers in placement.readers.items() for node, index in readers}
        self._group_of = {value: k for k, group in enumerate(placement.groups) for value in group}
        self._numbers = {value: k for k, value in enumerate(placement.readers)}
        trained = {id(v) for node in graph.nodes for v in _trainable(node)}
        self._names: dict[Value, str] = {}
        for k, value in enumerate(graph.constants()):
            assert value.const is not None
            tensor = torch.from_numpy(value.const.copy())
            name = self._names[value] = f"c{k}_" + "".join(c if c.isalnum() else "_" for c in value.name)
            if id(value) in trained:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        self._declare_ranges(ranges)

    def _declare_ranges(self, ranges: Table) -> None:
        """Ends of the range of every value, or of every group where they are learned; NaN where they are not known yet."""
        members = [[v] for v in self._numbers] if not self._learned else self._groups
        found = [[ranges[v.name] for v in group if v.name in ranges] for group in members]
        low = torch.tensor([min((e.low for e in entries), default=torch.nan) for entries in found])
        high = torch.tensor([max((e.high for e in entries), default=torch.nan) for entries in found])
        if self._learned:
            self.low, self.high = nn.Parameter(low), nn.Parameter(high)
        else:
            self.register_buffer("low", low)
            self.register_buffer("high", high)

    # ---- computing

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        """The outputs of the module: one tensor, or a tuple."""
        values = [*args, *kwargs.values()]
        inputs = self._graph.inputs
        if len(values) != len(inputs) or any(x.ndim != len(v.shape) for x, v in zip(values, inputs, strict=True)):
            raise InputError("the arguments do not fit", where=self._graph.name, got=len(values), expected=", ".join(f"{v.name}: {v.type}" for v in inputs))
        sizes = {d.name: int(n) for v, x in zip(inputs, values, strict=True) for d, n in zip(v.shape, x.shape, strict=True) if isinstance(d, Sym)}
        made: dict[Value, Tensor] = dict(zip(inputs, values, strict=True))
        made.update((value, getattr(self, name)) for value, name in self._names.items())
        rounded: dict[Value, Tensor] = {}
        for node in self._graph.nodes:
            operands = [self._operand(node, k, v, made, rounded) for k, v in enumerate(node.inputs) if v is not None]
            results = compute(node.op.at(sizes), operands)
            made.update(zip(node.outputs, results, strict=True))
        outputs = tuple(made[v] for v in self._graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _operand(self, node: Node, index: int, value: Value, made: Mapping[Value, Tensor], rounded: dict[Value, Tensor]) -> Tensor:
        """What a node reads: rounded where its int8 form reads integers."""
        if not self.rounding:
            return made[value]
        if index == 1 and id(node) in self._axes:
            return _RoundedWeights.apply(made[value], self._axes[id(node)])
        if (id(node), index) not in self._reads:
            return made[value]
        found = rounded.get(value)
        if found is None:
            found = rounded[value] = self._rounded(value, made[value])
        return found

    def _rounded(self, value: Value, x: Tensor) -> Tensor:
        """A value on its grid, whose range follows the data in training."""
        at = self._group_of[value] if self._learned else self._numbers[value]
        if self.training and (not self._learned or bool(torch.isnan(self.low[at]))):
            self._observe(at, x.detach())
        return _Rounded.apply(x, self.low[at], self.high[at], self.grid(value))

    def _observe(self, at: int, x: Tensor) -> None:
        with torch.no_grad():
            for end, seen in ((self.low, x.min()), (self.high, x.max())):
                known = not bool(torch.isnan(end[at]))
                end[at] = self._momentum * end[at] + (1 - self._momentum) * seen if known else seen

    def grid(self, value: Value) -> Grid:
        """Scale and zero point of a value; ModelError when no range is known yet."""
        group = self._groups[self._group_of[value]]
        entries = {v.name: e for v in group if (e := self._entry(v)) is not None}
        if not entries:
            raise ModelError("no range is known yet", where=value.name, expected="a batch in training mode, or ranges=", hint="qat.train(); qat(batch)")
        return grid_of(group, Table(entries))

    def _entry(self, value: Value) -> Entry | None:
        at = self._group_of[value] if self._learned else self._numbers[value]
        low, high = float(self.low[at].detach()), float(self.high[at].detach())
        return None if low != low else Entry(min(low, high), max(low, high), "learned" if self._learned else "moving_average")

    # ---- what was trained

    @property
    def ranges(self) -> Table:
        """The ranges of all values, as ``strop.build`` takes them."""
        return Table({v.name: e for v in self._numbers if (e := self._entry(v)) is not None})

    def to_graph(self, batch: int | None = None) -> Graph:
        """The portable graph with the trained weights, in floats.

        Args:
            batch: samples of a batch; None for that of the example inputs.
        """
        symbols = {d.name for v in self._graph.inputs for d in v.shape if isinstance(d, Sym)}
        return _fixed(self._graph, dict.fromkeys(symbols, self._batch if batch is None else batch), self._arrays())

    def _arrays(self) -> dict[Value, Any]:
        return {value: getattr(self, name).detach().cpu().numpy().copy() for value, name in self._names.items()}

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Computes in plain floats within a ``with`` block."""
        before, self.rounding = self.rounding, False
        try:
            yield
        finally:
            self.rounding = before


def _trainable(node: Node) -> Iterator[Value]:
    """Constants of a node that are weights or biases."""
    if isinstance(node.op, (Conv, MatMul)):
        yield from (v for v in node.operands[1:] if v.const is not None and v.dtype is dt.f32)
    elif isinstance(node.op, Elementwise) and node.op.fn == "add":
        yield from (v for v in node.operands if v.const is not None and v.dtype is dt.f32 and v.const.size > 1)


def _fixed(graph: Graph, sizes: Mapping[str, int], arrays: Mapping[Value, Any]) -> Graph:
    """A copy of a graph with its symbols replaced and with other constants."""
    result = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for value in graph.inputs:
        mapped[value] = result.add_input(value.name, value.type.at(sizes))
    for value, array in arrays.items():
        mapped[value] = result.add_const(array, value.name)
    for node in graph.nodes:
        operands = [None if v is None else mapped[v] for v in node.inputs]
        new = result.add(node.op.at(sizes), operands, name=node.name, source=node.source, outputs=[v.name for v in node.outputs])
        mapped.update(zip(node.outputs, new.outputs, strict=True))
    result.set_outputs([mapped[v] for v in graph.outputs], graph.output_names)
    return result
