"""Runs loop programs in numpy, whole stages at a time, with strict checks of dtypes and bounds.

Every Load must be in bounds at every point of the loop nest, also where a ``select`` does not use
it, and the operands of a primitive must agree in dtype, so that emitted C needs no implicit
conversion and no lazy evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.loops import COMBINES, Loop, Nest, Program, Stage

Array = np.ndarray[Any, Any]

FOLDS: dict[str, Any] = {
    "add": np.add.reduce,
    "mul": np.multiply.reduce,
    "max": np.maximum.reduce,
    "min": np.minimum.reduce,
    "or": np.logical_or.reduce,
    "and": np.logical_and.reduce,
}
PAIRS: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "or": np.logical_or,
    "and": np.logical_and,
}


class _Evaluator:
    """Evaluates expressions over a grid of loop variables."""

    def __init__(
        self,
        operands: Sequence[Array],
        stages: Mapping[str, Array],
        axes: Mapping[str, Array],
        symbols: Mapping[str, int],
    ) -> None:
        self.operands = operands
        self.types = [dt.from_numpy(a.dtype) for a in operands]
        self.stages = stages
        self.named = {name: dt.from_numpy(a.dtype) for name, a in stages.items()}
        self.axes = axes
        self.symbols = symbols
        self.memo: dict[int, Array] = {}

    def type_of(self, expr: ex.Expr) -> DType | None:
        return ex.type_of(expr, self.types, self.named)

    def visit(self, node: ex.Expr, wanted: DType | None = None) -> Array:
        if isinstance(node, ex.Const):
            kind = self.type_of(node) or wanted
            assert kind is not None, f"untyped literal {node}"
            return np.asarray(node.value, dtype=kind.numpy)
        if id(node) not in self.memo:
            self.memo[id(node)] = self.compute(node, wanted)
        return self.memo[id(node)]

    def compute(self, node: ex.Expr, wanted: DType | None) -> Array:
        match node:
            case ex.Axis(name):
                return self.axes[name]
            case ex.Size(dim):
                return np.asarray(sh.evaluate(dim, dict(self.symbols)), np.int64)
            case ex.Load(source, index):
                return self.load(source, index)
            case ex.Cast(to, arg):
                return ex.cast_array(self.visit(arg), to)
            case ex.Bits(to, arg):
                stored = np.ascontiguousarray(self.visit(arg))
                return stored.view(np.uint8) != 0 if to is dt.boolean else stored.view(to.numpy)
            case ex.Call(fn, args):
                return self.call(fn, args, wanted)
        raise AssertionError(f"{node} cannot stand in a loop program")

    def load(self, source: int | str, index: tuple[ex.Expr, ...]) -> Array:
        array = self.operands[source] if isinstance(source, int) else self.stages[source]
        assert len(index) == array.ndim, f"{len(index)} indices into rank {array.ndim}"
        found = []
        for expr, extent in zip(index, array.shape, strict=True):
            value = self.visit(expr, dt.i64)
            assert value.dtype == np.int64, f"index of type {value.dtype}"
            if self.grid_size():
                assert value.min() >= 0 and value.max() < extent, f"{ex.show(expr)} leaves {extent}"
            found.append(value)
        if not self.grid_size():
            return np.zeros((0,), array.dtype)[:, None][:0].reshape(self.grid_shape())
        return np.asarray(array[tuple(np.broadcast_arrays(*found))] if found else array)

    def grid_shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(*(a.shape for a in self.axes.values()))

    def grid_size(self) -> int:
        return int(np.prod(self.grid_shape()))

    def call(self, fn: str, args: tuple[ex.Expr, ...], wanted: DType | None) -> Array:
        primitive = ex.PRIMITIVES[fn]
        typed = args[1:] if fn == "select" else args
        kinds = {kind for kind in map(self.type_of, typed) if kind is not None}
        assert len(kinds) <= 1, f"{fn} of {kinds}"
        kind = next(iter(kinds), wanted)
        values = [self.visit(arg, kind) for arg in typed]
        if fn == "select":
            condition = self.visit(args[0], dt.boolean)
            assert condition.dtype == np.bool_
            values.insert(0, condition)
        with np.errstate(all="ignore"):
            result = np.asarray(primitive.numpy(*values))
        if primitive.result == "bool":
            assert result.dtype == np.bool_, fn
            return result
        assert kind is not None and result.dtype == kind.numpy, f"{fn}: {result.dtype}, not {kind}"
        return result


def run(
    program: Program, operands: Sequence[Array], symbols: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Arrays of all stages, by name."""
    stages: dict[str, Array] = {}
    assert len({s.name for s in program.stages}) == len(program.stages), "a stage's name is used twice"
    for part in program.parts:
        if isinstance(part, Nest):
            _nest(part, operands, stages, symbols or {})
        else:
            stages[part.name] = _stage(part, operands, stages, symbols or {})
    return stages


def _nest(
    nest: Nest, operands: Sequence[Array], stages: dict[str, Array], symbols: Mapping[str, int]
) -> None:
    """Adds the arrays of a nest's stages. Elements not stored yet are NaN, so that one that is read too early shows."""
    for stage in nest.stages:
        assert stage.axes[: len(nest.axes)] == nest.axes, f"{stage.name} has other outer loops"
        shape = [_extent(loop, symbols) for loop in stage.axes]
        stages[stage.name] = np.full(shape, np.nan if stage.dtype.is_float else -1, stage.dtype.numpy)
    for place in np.ndindex(*(_extent(loop, symbols) for loop in nest.axes)):
        for stage in nest.stages:
            stages[stage.name][place] = _stage(stage, operands, stages, symbols, place)[
                (0,) * len(place)
            ]


def _extent(loop: Loop, symbols: Mapping[str, int]) -> int:
    return sh.evaluate(loop.extent, dict(symbols))


def _stage(
    stage: Stage,
    operands: Sequence[Array],
    stages: Mapping[str, Array],
    symbols: Mapping[str, int],
    place: tuple[int, ...] = (),
) -> Array:
    """The stage's elements, or those at ``place`` along its first axes."""
    assert stage.combine in COMBINES
    nest = (*stage.axes, *stage.reduce)
    assert len({loop.name for loop in nest}) == len(nest), "a loop name is used twice"
    grid = _grid(nest, symbols, place)
    shape = (1,) * len(place) + tuple(_extent(loop, symbols) for loop in stage.axes[len(place) :])
    folded = tuple(_extent(loop, symbols) for loop in stage.reduce)
    body = _Evaluator(operands, stages, grid, symbols)
    kind = stage.acc_dtype or stage.dtype
    value = body.visit(stage.body, kind)
    assert value.dtype == kind.numpy, f"{stage.name}: body is {value.dtype}, not {kind}"
    value = np.broadcast_to(value, (*shape, *folded))
    if stage.combine is None:
        assert not stage.reduce and kind == stage.dtype
        return value
    assert stage.reduce
    gathered = _fold(stage, value, len(shape), kind)
    outer = {k: v.reshape(v.shape[: len(shape)]) for k, v in list(grid.items())[: len(shape)]}
    final = _Evaluator(operands, {**stages, "acc": gathered}, outer, symbols)
    element = tuple(
        ex.Const(0) if k < len(place) else a.var for k, a in enumerate(stage.axes)
    )
    final_expr = ex.substitute(
        stage.final, lambda n: ex.Load("acc", element) if isinstance(n, ex.Acc) else None
    )
    result = final.visit(final_expr, stage.dtype)
    assert result.dtype == stage.dtype.numpy, f"{stage.name}: final is {result.dtype}"
    return np.broadcast_to(result, shape)


def _grid(
    nest: Sequence[Loop], symbols: Mapping[str, int], place: tuple[int, ...]
) -> dict[str, Array]:
    """Indices along every loop, shaped to broadcast; a single one along those that ``place`` fixes."""
    grid = {}
    for k, loop in enumerate(nest):
        shape = [1] * len(nest)
        if k < len(place):
            grid[loop.name] = np.full(shape, place[k], np.int64)
            continue
        shape[k] = _extent(loop, symbols)
        grid[loop.name] = np.arange(shape[k], dtype=np.int64).reshape(shape)
    return grid


def _fold(stage: Stage, value: Array, rank: int, kind: DType) -> Array:
    axes = tuple(range(rank, value.ndim))
    assert stage.combine is not None
    if stage.combine.startswith("arg"):
        assert len(axes) == 1
        pick = np.argmax if stage.combine.startswith("argmax") else np.argmin
        if not stage.combine.endswith("_last"):
            return np.asarray(pick(value, axis=rank), np.int64)
        return np.asarray(value.shape[rank] - 1 - pick(np.flip(value, rank), axis=rank), np.int64)
    assert isinstance(stage.init, ex.Const)
    init = np.asarray(stage.init.value, dtype=kind.numpy)
    with np.errstate(all="ignore"):
        total = value
        for axis in reversed(axes):  # innermost loop first
            total = FOLDS[stage.combine](
                total, axis=axis, initial=None if total.shape[axis] else init
            )
        return np.asarray(PAIRS[stage.combine](init, total)).astype(kind.numpy)
