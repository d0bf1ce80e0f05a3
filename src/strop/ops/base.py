"""Helpers shared by the op families: checks, window sizes, index expressions, sample arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from strop.errors import ShapeError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr
from strop.ir.loops import Loop
from strop.ir.op import Array, Cost, Op, Type
from strop.ir.shape import Dim, Shape

# ---- checks


def expect(op: Op, inputs: Sequence[Type], low: int, high: int | None = None) -> None:
    """ShapeError unless there are ``low..high`` operands (``high`` None means ``low``)."""
    high = low if high is None else high
    if not low <= len(inputs) <= high:
        wanted = str(low) if low == high else f"{low} to {high}"
        raise op.fail(f"takes {wanted} operands, not {len(inputs)}", inputs)


def same_dtype(op: Op, inputs: Sequence[Type]) -> DType:
    """The dtype that all operands share; ShapeError otherwise."""
    if len({t.dtype for t in inputs}) != 1:
        raise op.fail("operands have different dtypes", inputs, "one dtype")
    return inputs[0].dtype


def floating(op: Op, inputs: Sequence[Type]) -> DType:
    """The float dtype that all operands share; ShapeError otherwise."""
    dtype = same_dtype(op, inputs)
    if not dtype.is_float:
        raise op.fail("operands are not floating point", inputs, "f64, f32, f16 or bf16")
    return dtype


def numeric(op: Op, inputs: Sequence[Type]) -> DType:
    """The float or integer dtype that all operands share; ShapeError otherwise."""
    dtype = same_dtype(op, inputs)
    if dtype is dt.boolean:
        raise op.fail("operands are bool", inputs, "a float or integer dtype")
    return dtype


def choice(op: Op, what: str, value: str, allowed: Sequence[str]) -> None:
    """UnsupportedError unless an attribute's value is one of ``allowed``."""
    if value not in allowed:
        raise UnsupportedError(f"{op.name}: unknown {what}", got=value, expected=", ".join(allowed))


def axis_of(op: Op, axis: int, rank: int) -> int:
    """A non-negative axis; ShapeError naming the op when out of range."""
    return sh.normalize_axis(axis, rank, op.label)


def axes_of(op: Op, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Non-negative sorted distinct axes; ShapeError on repeats or when out of range."""
    found = sorted(axis_of(op, a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"{op.label}: an axis is named twice", got=tuple(axes))
    return tuple(found)


def same_volume(a: Shape, b: Shape) -> bool:
    """False when the element counts differ for every probed assignment of the symbols."""
    left, right = sh.volume(a), sh.volume(b)
    if left == right:
        return True
    return any(sh.evaluate(left, p) == sh.evaluate(right, p) for p in probes((left, right)))


def probes(dims: Sequence[Dim]) -> list[dict[str, int]]:
    """A few values of the symbols in dims, the ends of their ranges and the optimum among them; one empty dict when there are none."""
    symbols = sh.symbols(dims)
    if not symbols:
        return [{}]
    return [
        {s.name: s.min for s in symbols},
        {s.name: s.opt for s in symbols},
        {s.name: s.max for s in symbols},
        {s.name: min(s.max, s.min * 64 + k) for k, s in enumerate(symbols)},
    ]


class Mover(Op):
    """Base of ops that compute nothing: every operand and result is moved once."""

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return moved((*inputs, *outputs))


class View(Op):
    """Base of ops whose result is an operand's memory under another type; they cost nothing."""

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(0, 0)


def moved(types: Sequence[Type]) -> Cost:
    """Cost of an op that reads and writes what is in ``types`` and computes nothing."""
    return Cost(0, sum(t.nbytes for t in types))


# ---- windows


def window_extent(
    size: Dim, kernel: int, stride: int, before: int, after: int, dilation: int, ceil: bool = False
) -> Dim:
    """Number of window positions along one axis (ONNX Conv and Pool).

    With ``ceil`` a last partial window counts too, unless it would start in the padding after the
    axis, as ONNX and PyTorch define ceil_mode.
    """
    room = sh.add(size, before + after - dilation * (kernel - 1) - 1)
    if isinstance(room, int) and room < 0 and not (ceil and room > -stride):
        raise ShapeError(
            "a window is larger than its padded axis",
            got=f"axis {size} with pads {before} and {after}",
            expected=f"at least {dilation * (kernel - 1) + 1}",
        )
    if not ceil:
        return sh.add(sh.floordiv(room, stride), 1)
    full = sh.add(sh.ceildiv(room, stride), 1)
    return sh.minimum(full, sh.ceildiv(sh.add(size, before), stride))


def check_window(op: Op, rank: int, **attributes: tuple[int, ...]) -> None:
    """ShapeError unless every window attribute has one number per spatial axis (pads: two)."""
    for what, values in attributes.items():
        wanted = 2 * rank if what == "pads" else rank
        if len(values) != wanted:
            raise ShapeError(
                f"{op.label}: {what} does not fit the rank",
                got=values,
                expected=f"{wanted} numbers for {rank} spatial axes",
            )
        if any(v < (0 if what in ("pads", "output_padding") else 1) for v in values):
            raise ShapeError(f"{op.label}: {what} out of range", got=values)


# ---- numpy


def wide(array: Array) -> Array:
    """Floats as float64, everything else as it is."""
    return array.astype(np.float64) if dt.from_numpy(array.dtype).is_float else array


def narrow(array: Array, like: Array) -> Array:
    """A result in the dtype of ``like``; values too large become infinities without a warning."""
    with np.errstate(all="ignore"):
        return np.asarray(array).astype(like.dtype)


def lowest(dtype: DType) -> float | int | bool:
    """The smallest value: -inf for floats that have it."""
    if dtype.is_float:
        return -dt.F8_MAX if dtype is dt.f8e4m3 else -float("inf")
    return False if dtype is dt.boolean else int(np.iinfo(str(dtype.numpy)).min)


def highest(dtype: DType) -> float | int | bool:
    """The largest value: inf for floats that have it."""
    if dtype.is_float:
        return dt.F8_MAX if dtype is dt.f8e4m3 else float("inf")
    return True if dtype is dt.boolean else int(np.iinfo(str(dtype.numpy)).max)


# ---- loop programs


def compute_type(dtype: DType) -> DType:
    """The dtype arithmetic is done in: f32 for f16, bf16 and f8e4m3, else the dtype itself."""
    return dt.f32 if dtype in (dt.f16, dt.bf16, dt.f8e4m3) else dtype


def cast(value: Expr, given: DType, to: DType) -> Expr:
    """A conversion, left out when the types agree."""
    return value if given == to else ex.Cast(to, value)


def literal(value: float | int | bool, dtype: DType) -> Expr:
    """A literal of a dtype, its value a Python number of the like kind."""
    if dtype.is_float:
        return ex.Const(float(value), dtype)
    return ex.Const(bool(value) if dtype is dt.boolean else int(value), dtype)


def integer(value: int) -> Expr:
    """An int64 literal."""
    return ex.Const(value, dt.i64)


def size(dim: Dim) -> Expr:
    """A dim's value as int64."""
    return integer(dim) if isinstance(dim, int) else ex.Size(dim)


def load(source: int | str, given: DType, index: Sequence[Expr], to: DType | None = None) -> Expr:
    """An operand's element, converted to ``to`` (None: the compute type of ``given``)."""
    return cast(ex.Load(source, tuple(index)), given, compute_type(given) if to is None else to)


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """``yes`` where the condition holds, else ``no``; both are always well defined."""
    return ex.call("select", condition, yes, no)


def clamp(index: Expr, extent: Dim) -> Expr:
    """An index forced into ``0..extent-1``."""
    return ex.call("max", ex.call("min", index, size(sh.sub(extent, 1))), integer(0))


def inside(index: Expr, extent: Dim) -> Expr:
    """Whether an index lies in ``0..extent-1``."""
    return (index >= integer(0)) & (index < size(extent))


def guarded(index: Expr, extent: Dim, guards: list[Expr]) -> Expr:
    """The index forced into range; whether it was in range is appended to ``guards``."""
    guards.append(inside(index, extent))
    return clamp(index, extent)


def padded_load(
    source: int, given: Type, index: Sequence[Expr], guards: Sequence[Expr], value: float
) -> Expr:
    """An operand's element where all guards hold, else ``value``, in the compute type."""
    other = literal(value, compute_type(given.dtype))
    if 0 in given.shape:
        return other
    element = load(source, given.dtype, index)
    condition = all_of(guards)
    return element if condition is None else select(condition, element, other)


def all_of(conditions: Sequence[Expr]) -> Expr | None:
    """Conjunction; None when there is nothing to test."""
    found: Expr | None = None
    for condition in conditions:
        found = condition if found is None else found & condition
    return found


def scale(index: Expr, factor: int, offset: int = 0) -> Expr:
    """``index * factor + offset`` without needless arithmetic."""
    scaled = index if factor == 1 else index * integer(factor)
    return scaled if offset == 0 else scaled + integer(offset)


def floor_div(index: Expr, divisor: Dim) -> Expr:
    """``index // divisor`` without needless arithmetic."""
    return index if divisor == 1 else index // size(divisor)


def floor_mod(index: Expr, divisor: Dim) -> Expr:
    """``index % divisor`` without needless arithmetic."""
    return integer(0) if divisor == 1 else index % size(divisor)


def window_index(position: Expr, tap: Expr, stride: int, dilation: int, before: int) -> Expr:
    """Index of a window's tap on the unpadded axis: position * stride + tap * dilation - before."""
    return scale(position, stride, -before) + scale(tap, dilation)


def broadcast_index(position: Sequence[Expr], shape: Shape) -> list[Expr]:
    """Indices of an operand of ``shape`` at a position of the shape it broadcasts to."""
    skipped = len(position) - len(shape)
    return [
        integer(0) if dim == 1 else var for dim, var in zip(shape, position[skipped:], strict=True)
    ]


def unflatten(index: Expr, shape: Shape) -> list[Expr]:
    """Indices, one per axis, of a row-major element number."""
    found: list[Expr] = []
    for k in range(len(shape)):
        outer = floor_div(index, sh.volume(shape[k + 1 :]))
        found.append(outer if k == 0 else floor_mod(outer, shape[k]))
    return found


def variables(axes: Sequence[Loop]) -> list[Expr]:
    """The loop variables as Exprs."""
    return [loop.var for loop in axes]


def wrap_negative(index: Expr, extent: Dim) -> Expr:
    """A data-dependent index: negative ones count from the end, bad ones are forced into range."""
    return clamp(select(index < integer(0), index + size(extent), index), extent)


# ---- samples


def random_array(
    rng: np.random.Generator,
    shape: Sequence[int],
    dtype: DType = dt.f32,
    low: float = -2,
    high: float = 2,
) -> Array:
    """Uniform floats in ``low..high``, integers in the same range, or coin flips for bool."""
    if dtype is dt.boolean:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_int:
        start = max(int(low), 0) if not dtype.is_signed else int(low)
        whole: Any = rng.integers(start, int(high) + 1, shape)
        return np.asarray(whole).astype(dtype.numpy)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype.numpy)
