"""Regions made of the ops' sample problems, in several memory layouts."""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import strop.ops
from strop.ir import dtype as dt
from strop.ir.expr import Cast as CastExpr
from strop.ir.expr import Expr, Input, call, substitute
from strop.ir.op import REGISTRY, Sample
from strop.kernels.base import Operand, Region, View
from strop.ops.elementwise import Cast, Elementwise

for _module in pkgutil.iter_modules(strop.ops.__path__):
    importlib.import_module(f"strop.ops.{_module.name}")

#: How operands and results lie: row-major; channels (axis 1) innermost; a part of a larger channels-last buffer; axes reversed.
LAYOUTS = ("dense", "last", "slice", "reversed")

Case = tuple[Region, list[np.ndarray]]


def order_of(rank: int, layout: str) -> tuple[int, ...]:
    """Axes from outermost to innermost."""
    if layout == "reversed":
        return tuple(reversed(range(rank)))
    if layout in ("last", "slice") and rank >= 3:
        return (0, *range(2, rank), 1)
    return tuple(range(rank))


def view(shape: Sequence[int], dtype: dt.DType, layout: str = "dense") -> View:
    """A view in a layout; with ``slice`` every axis has room for 1 to 3 more elements."""
    order = order_of(len(shape), layout)
    if layout != "slice":
        return View.dense(shape, dtype, order)
    wide = [d + 1 + k % 3 for k, d in enumerate(shape)]
    return View(tuple(shape), View.dense(wide, dtype, order).strides, dtype)


def samples(name: str) -> list[Sample]:
    """All sample problems of an op; the same ones at every call."""
    return list(REGISTRY[name].samples(np.random.default_rng(zlib.crc32(name.encode()))))


def anchored(
    sample: Sample, layout: str, rng: np.random.Generator, epilogue: bool = False, constants: bool = False
) -> Case:
    """The sample's op as the anchor; the epilogue, of a per-channel and a full operand, only where there is one f32 result.

    With ``constants`` all operands but the first are constants.
    """
    arrays = [np.asarray(a) for a in sample.inputs]
    types = [Operand(view(a.shape, dt.from_numpy(a.dtype), layout)) for a in arrays]
    if constants:
        types[1:] = [Operand(View.dense(a.shape, dt.from_numpy(a.dtype)), a) for a in arrays[1:]]
    outs = sample.op.infer([o.view.type for o in types])
    views = tuple(view(t.static_shape, t.dtype, layout) for t in outs)
    expr: Expr = Input(0)
    operands = list(types)
    if epilogue and len(outs) == 1 and outs[0].dtype is dt.f32:
        shape = outs[0].static_shape
        channel = tuple(d if k == 1 else 1 for k, d in enumerate(shape))
        operands += [Operand(View.dense(channel, dt.f32).broadcast(shape)), Operand(views[0])]
        arrays += [rng.standard_normal(channel).astype(np.float32), rng.standard_normal(shape).astype(np.float32)]
        expr = call("max", Input(0) * 1.5 + Input(1), -0.5) + Input(2)
    notes = [layout, "with epilogue" * (expr != Input(0)), "with constants" * constants]
    name = f"{sample.op} {' '.join(str(o.view.type) for o in types)} {' '.join(filter(None, notes))}"
    return Region(name, sample.op, tuple(operands), len(types), expr, views), arrays


def bias_in_epilogue(case: Case) -> Case:
    """A convolution whose bias, the third operand, is added by the epilogue as lowering has it."""
    region, arrays = case
    shape = region.out.shape
    spread = tuple(d if k == 1 else 1 for k, d in enumerate(shape))
    bias = Operand(View.dense(spread, dt.f32).broadcast(shape), arrays[2])
    expr = substitute(region.epilogue, _with_bias)
    operands = (*region.operands[:2], bias, *region.operands[3:])
    name = f"{region.name} with the bias in the epilogue"
    return Region(name, region.op, operands, 2, expr, region.outs), arrays


def _with_bias(node: Expr) -> Expr | None:
    if node == Input(0):
        return Input(0) + Input(1)
    return Input(node.index + 1) if isinstance(node, Input) else None


def halved(sample: Sample) -> Sample:
    """A product whose weights, the second operand, have half their size: 7 bits of 8."""
    x, weight, *others = sample.inputs
    return replace(sample, inputs=(x, np.asarray(weight) // 2, *others))


def elementwise(sample: Sample, layout: str) -> Case:
    """An elementwise sample as a region without anchor."""
    op = sample.op
    assert isinstance(op, (Elementwise, Cast))
    arrays = [np.asarray(a) for a in sample.inputs]
    given = [view(a.shape, dt.from_numpy(a.dtype), layout) for a in arrays]
    (out,) = op.infer([v.type for v in given])
    expr = op.expr() if isinstance(op, Elementwise) else CastExpr(op.to, Input(0))
    shape = out.static_shape
    operands = tuple(Operand(v.broadcast(shape)) for v in given)
    name = f"{op} {' '.join(str(v.type) for v in given)} {layout}"
    return Region(name, None, operands, 0, expr, (view(shape, out.dtype, layout),)), arrays


def all_names() -> list[str]:
    """Every op that has samples and is more than a view; ``selections.py`` is about those that find sizes, and has those without
    operands, too."""
    return sorted(set(REGISTRY) - {"identity", "reshape", *SELECTIONS, "read_sizes", "sizes", "iota", "loop_begin", "loop_end"})


#: Ops with kernels of their own that find a size.
SELECTIONS = ("non_max_suppression", "non_zero", "unique")
