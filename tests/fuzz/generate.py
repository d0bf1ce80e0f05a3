"""Random graphs over every op: each op's samples, stretched to random shapes and wired to each other, among the spellings of ``tests.graphs``."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import strop.ops  # noqa: F401  registers every op
from strop.errors import StropError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.interp import ABSENT
from strop.ir.op import REGISTRY, Array, Op, Sample, Type
from strop.ir.shape import Shape, Sym
from strop.ops.conv import Conv
from strop.ops.data import Expand, Reshape, Slice, Split, Transpose
from strop.ops.elementwise import Cast, make
from strop.ops.matmul import MatMul
from tests.graphs import STEPS, Builder, from_samples

#: Results above this are not read by other nodes, so that rounding does not grow.
LIMIT = 1e3
#: Elements of the largest operand, and operations of the largest node.
ELEMENTS, WORK = 12_000, 3_000_000
#: Sizes that dims are drawn from: 1, small, odd, around the vectors' and tiles' widths.
SIZES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 19, 24, 31, 32, 33, 40, 65)
NARROW = (dt.f16, dt.bf16)


class Refused(Exception):
    """A step cannot be taken with the operands that were drawn."""


@dataclass
class Case:
    """A graph with arrays for its inputs.

    Attributes:
        graph: in the form that a frontend gives.
        feed: an array per input, at the optimum of the symbols.
        seed: what it was made from.
    """

    graph: Graph
    feed: dict[str, Array]
    seed: int

    @property
    def labels(self) -> list[str]:
        """The ops of its nodes."""
        return [node.op.label for node in self.graph.nodes]

    @property
    def symbols(self) -> list[Sym]:
        """The symbols of its inputs, each once."""
        found = {d.name: d for v in self.graph.inputs for d in v.shape if isinstance(d, Sym)}
        return list(found.values())

    def at(self, known: dict[str, int]) -> dict[str, Array]:
        """The inputs where the symbols have these values: the arrays repeated or cut."""
        feed = {}
        for value in self.graph.inputs:
            shape = value.type.at(known).static_shape
            feed[value.name] = fitted(self.feed[value.name], shape)
        return feed


def fitted(array: Array, shape: Sequence[int]) -> Array:
    """The elements of an array, repeated or cut, in another shape."""
    if array.shape == tuple(shape):
        return array
    flat = np.resize(array.reshape(-1), int(np.prod(shape))) if array.size else np.zeros(shape, array.dtype)
    return np.ascontiguousarray(flat.reshape(shape))


def absent(array: Array) -> bool:
    """True for what stands in samples for an operand that was left out."""
    return array.shape == ABSENT.shape and array.dtype == ABSENT.dtype


@cache
def alone() -> tuple[str, ...]:
    """Names of the op classes that mean something by themselves: those that frame loops or find sizes need others beside them."""
    return tuple(name for name, kind in sorted(REGISTRY.items()) if not kind.lasting and not samples(name)[0].op.computed)


def labels() -> dict[str, str]:
    """Every op's label, elementwise functions each by their own, with the name of its class."""
    return {s.op.label: name for name in alone() for s in samples(name)}


@cache
def samples(name: str) -> tuple[Sample, ...]:
    """All sample problems of an op class."""
    return tuple(REGISTRY[name].samples(np.random.default_rng(zlib.crc32(name.encode()))))


@cache
def by_label() -> dict[str, tuple[Sample, ...]]:
    """All samples by label."""
    found: dict[str, list[Sample]] = {}
    for name in alone():
        for sample in samples(name):
            found.setdefault(sample.op.label, []).append(sample)
    return {label: tuple(some) for label, some in found.items()}


@cache
def _weighted(ops: tuple[str, ...]) -> tuple[str, ...]:
    """Labels to draw from: structured ops more often than elementwise functions."""
    known = labels()
    unknown = [op for op in ops if not any(_called(op, label, name) for label, name in known.items())]
    if unknown:
        raise ValueError(f"no op is called {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [label for label, name in known.items() if not ops or any(_called(op, label, name) for op in ops)]
    return tuple(label for label in chosen for _ in range(1 if known[label] == "elementwise" else 4))


def _called(op: str, label: str, name: str) -> bool:
    """Whether a word such as ``conv``, ``pool`` or ``elementwise`` is about an op."""
    return op in (label, name) or label.endswith(f"_{op}")


def check_ops(ops: tuple[str, ...]) -> None:
    """ValueError when a word is about no op."""
    _weighted(ops)


class Fuzz(Builder):
    """A graph under construction that computes every value as it goes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.arrays: dict[Value, Array] = {}
        self.any: list[Value] = []  # values of every dtype that later steps may read

    def input(self, array: Array) -> Value:
        value = super().input(np.ascontiguousarray(array))
        self.arrays[value] = self.feed[value.name]
        return value

    def const(self, array: Any) -> Value:
        value = super().const(array)
        assert value.const is not None
        self.arrays[value] = value.const
        return value

    def add_several(self, op: Op, *operands: Value | None) -> list[Value]:
        results = super().add_several(op, *operands)
        node = results[0].producer
        assert node is not None
        given = [ABSENT if v is None else self.arrays[v] for v in node.inputs]
        if sum(a.size for a in given) > ELEMENTS * 4 or any(v.type.count > ELEMENTS * 4 for v in results):
            raise Refused("too large")
        if op.cost([v.type for v in node.operands], [v.type for v in results]).flops > WORK:
            raise Refused("too much work")
        try:
            with np.errstate(all="ignore"):
                self.arrays.update(zip(results, op.reference(*given), strict=True))
        except (IndexError, ValueError, ZeroDivisionError) as error:
            raise Refused(str(error)) from error
        return results

    def pick(self, rank: int | None = None) -> Value:
        fitting = [v for v in self.pool if rank is None or len(v.shape) == rank]
        if fitting and self.coin(0.8):
            return fitting[self.number(0, len(fitting) - 1)]
        sizes = [int(self.rng.choice(SIZES)) for _ in range(rank or self.number(0, 5))]
        while sizes and np.prod(sizes) > ELEMENTS // 2:
            sizes[int(np.argmax(sizes))] //= 2
        return self.input(self.rng.standard_normal(sizes).astype(np.float32))

    def undo(self, count: int) -> None:
        """Takes nodes back until ``count`` are left."""
        for node in reversed(self.graph.nodes[count:]):
            for value in node.outputs:
                self.arrays.pop(value, None)
            self.graph.remove(node)

    def usable(self, value: Value) -> bool:
        """Whether others may read it: some elements, all finite and not large."""
        array = self.arrays[value]
        if not array.size or array.size > ELEMENTS:
            return False
        if not value.dtype.is_float:
            return value.dtype is dt.boolean or bool(np.abs(array.astype(np.float64)).max() < 2**30)
        wide = np.abs(array.astype(np.float64))
        return bool(np.isfinite(wide).all() and wide.max() < LIMIT)

    # ---- any op

    def fit(self, wanted: Array) -> Value:
        """A value of this dtype and shape whose elements stay in its range: a computed one made to fit, or an input or constant."""
        dtype = dt.from_numpy(wanted.dtype)
        near = [v for v in self.any if v.dtype is dtype or (dtype.is_float and v.dtype.is_float and self.coin(0.3))]
        if near and wanted.size and self.coin(0.7):
            value = self._reshaped(near[self.number(0, len(near) - 1)], wanted.shape)
            if value is not None:
                if value.dtype is not dtype:
                    value = self.add(Cast(dtype), value)
                return self._bounded(value, wanted)
        return self.const(wanted) if self.coin(0.4) else self.input(wanted)

    def _reshaped(self, value: Value, shape: tuple[int, ...]) -> Value | None:
        given = value.type.static_shape
        if given == shape:
            return value
        count = int(np.prod(shape))
        if value.type.count == count:
            return self.add(Reshape(shape), value)
        if len(given) == len(shape) and all(g in (1, s) for g, s in zip(given, shape)):
            return self.add(Expand(shape), value)
        if len(given) == len(shape) and all(g >= s for g, s in zip(given, shape)):
            rank = len(shape)
            starts = tuple(self.number(0, g - s) for g, s in zip(given, shape))
            ends = tuple(a + s for a, s in zip(starts, shape))
            return self.add(Slice(starts, ends, tuple(range(rank)), (1,) * rank), value)
        if value.type.count > count > 0:
            flat = self.add(Reshape((value.type.count,)), value)
            return self.add(Reshape(shape), self.add(Slice((0,), (count,), (0,), (1,)), flat))
        return None

    def _bounded(self, value: Value, wanted: Array) -> Value:
        if value.dtype is dt.boolean:
            return value
        with np.errstate(all="ignore"):
            low, high = np.nanmin(wanted.astype(np.float64)), np.nanmax(wanted.astype(np.float64))
            have = self.arrays[value].astype(np.float64)
        if not np.isfinite([low, high]).all():
            raise Refused("unbounded operand")
        for name, bound, needed in (("max", low, have.min() < low), ("min", high, have.max() > high)):
            if needed:
                value = self.add(make(name), value, self.const(np.asarray(bound).astype(value.dtype.numpy)))
        return value

    def stretched(self, sample: Sample) -> list[Array]:
        """The sample's operands with their sizes changed alike where the op allows it."""
        arrays = [np.asarray(a) for a in sample.inputs]
        sizes = sorted({d for a in arrays for d in a.shape})
        before = sample.op.infer([Type(dt.from_numpy(a.dtype), a.shape) for a in arrays])
        for _ in range(self.number(0, 3)):
            changed = {d: int(self.rng.choice(SIZES)) for d in sizes if d > 0 and self.coin(0.6)}
            shapes = [tuple(changed.get(d, d) for d in a.shape) for a in arrays]
            if any(np.prod(s) > ELEMENTS for s in shapes):
                continue
            types = [Type(dt.from_numpy(a.dtype), s) for a, s in zip(arrays, shapes)]
            try:
                after = sample.op.infer(types)
            except StropError:
                continue
            if len(after) == len(before) and all(0 not in t.shape or 0 in b.shape for t, b in zip(after, before)):
                return [fitted(a, s) for a, s in zip(arrays, shapes)]
        return arrays

    def any_op(self, ops: tuple[str, ...]) -> list[Value]:
        """Any op, on stretched samples of its own."""
        choice = _weighted(ops)
        some = by_label()[choice[self.number(0, len(choice) - 1)]]
        sample = some[self.number(0, len(some) - 1)]
        operands = [None if absent(a) else self.fit(a) for a in self.stretched(sample)]
        first = operands[0] if operands else None
        if self.graph.inputs == [] and first is not None and first.const is not None:
            operands[0] = self.input(first.const)
        return self.add_several(sample.op, *operands)


def large_product(b: Fuzz) -> Value:
    """A product or 1x1 convolution of the size that saving algorithms start at, on channels-last or flat rows, with something around it."""
    k, n, rows = 2 * b.number(24, 40), b.number(32, 60), b.number(17, 40)
    if b.coin():
        x = b.input(b.rng.standard_normal((1, rows, k)).astype(np.float32))
        y = b.add(MatMul(), b.fn("tanh", x) if b.coin() else x, b.normal(k, n))
    else:
        width = b.number(5, 9)
        x = b.input(b.rng.standard_normal((b.number(1, 2), k, b.number(4, 7), width)).astype(np.float32))
        y = b.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), b.fn("relu", x) if b.coin() else x, b.normal(n, k, 1, 1), b.normal(n) if b.coin() else None)
    return b.fn(str(b.rng.choice(["relu", "tanh", "sigmoid"])), y) if b.coin() else y


def winograd(b: Fuzz) -> Value:
    """A convolution of several taps over enough channels and rows for transforms, its sizes odd ones."""
    c, o, k = b.number(4, 20), b.number(8, 33), int(b.rng.choice([3, 3, 5, 7]))
    x = b.input(b.rng.standard_normal((1, c, b.number(k, 14), b.number(k, 14))).astype(np.float32))
    pads = tuple(b.number(0, k - 1) for _ in range(4))
    op = Conv((b.number(1, 2),) * 2, pads, (1, 1))  # type: ignore[arg-type]
    y = b.add(op, x, b.normal(o, c, k, k), b.normal(o) if b.coin() else None)
    return b.fn("relu", y) if b.coin() else y


def strided_views(b: Fuzz) -> Value:
    """A kernel that reads and writes parts of larger buffers in some order of axes."""
    x = b.pick(4)
    for _ in range(b.number(1, 3)):
        rank = len(x.shape)
        kind = b.number(0, 3)
        if kind == 0:
            x = b.add(Transpose(tuple(int(p) for p in b.rng.permutation(rank))), x)
        elif kind == 1 and max(x.type.static_shape) > 1:
            axis = int(np.argmax(x.type.static_shape))
            size = x.type.static_shape[axis]
            start, step = b.number(0, size - 1), b.number(1, 2)
            x = b.add(Slice((start,), (size,), (axis,), (step,)), x)
        elif kind == 2:
            x = b.fn(str(b.rng.choice(["tanh", "relu", "abs"])), x)
        else:
            axis = b.number(0, rank - 1)
            one = b.normal(*(d if k != axis else 1 for k, d in enumerate(x.type.static_shape)))
            x = b.fn(str(b.rng.choice(["add", "mul"])), x, one)
    return x


OWN_STEPS = (large_product, winograd, strided_views, strided_views)


def make_case(seed: int, ops: tuple[str, ...] = ()) -> Case:
    """The random case of a seed: 1 to 9 steps, half of them any op, half the spellings of ``tests.graphs``; every third one has free sizes.

    Args:
        seed: decides everything.
        ops: labels or names of op classes; only these are drawn, when there are any.
    """
    b = Fuzz(seed)
    spelled: list[Callable[[Any], Any]] = [s for s in (*STEPS, *OWN_STEPS) if s is not from_samples]
    left, tries = b.number(1, 9), 0
    while left > 0 and tries < 60:
        tries += 1
        before, known = len(b.graph.nodes), len(b.pool)
        try:
            made = spelled[b.number(0, len(spelled) - 1)](b) if not ops and b.coin() else b.any_op(ops)
        except (StropError, Refused, ValueError):
            del b.pool[known:]
            b.undo(before)
            continue
        left -= 1
        fresh = made if isinstance(made, list) else [made]
        if not all(_sound(b, node) for node in b.graph.nodes[before:]):
            del b.pool[known:]
            b.undo(before)
            continue
        b.any += [v for v in fresh if b.usable(v)]
        b.pool += [v for v in fresh if v.dtype is dt.f32 and b.usable(v)]
    return _finished(b, seed)


def _sound(b: Fuzz, node: Node) -> bool:
    """Whether a node's results are worth comparing: floats finite where nothing says otherwise."""
    for value in node.outputs:
        array = b.arrays[value]
        if value.dtype.is_float and not np.isfinite(array.astype(np.float64)).all():
            return False
        given = [v.dtype for v in node.operands]
        # C leaves a float that no integer holds undefined.
        if isinstance(node.op, Cast) and value.dtype.is_int and given[0].is_float:
            wide = b.arrays[node.operand(0)].astype(np.float64)
            info = np.iinfo(value.dtype.numpy)
            if not (np.isfinite(wide).all() and wide.min(initial=0) > info.min and wide.max(initial=0) < info.max):
                return False
    return True


def _finished(b: Fuzz, seed: int) -> Case:
    read = {v for node in b.graph.nodes for v in node.operands}
    ends = [v for node in b.graph.nodes for v in node.outputs if v not in read]
    if not ends:
        x = b.input(b.rng.standard_normal((3, 5)).astype(np.float32))
        ends = [b.fn("relu", x)]
    outputs = [v for v in ends if b.coin(0.9)] or ends
    middle = [v for node in b.graph.nodes for v in node.outputs if v in read]
    outputs += [v for v in middle if b.coin(0.1)]
    b.graph.set_outputs(outputs)
    for value in list(b.graph.inputs):
        if not value.uses and len(b.graph.inputs) > 1:
            b.graph.inputs.remove(value)
            del b.graph.values[value.name], b.feed[value.name]
    case = Case(b.graph, b.feed, seed)
    if b.coin(0.35):
        case = freed(case, b.rng) or case
        if case.symbols and b.coin(0.4):
            case = freed(case, b.rng, "m") or case
    return case


def freed(case: Case, rng: np.random.Generator, name: str = "n") -> Case | None:
    """The case with one size of its inputs made free, attributes that repeat it too, or None when the ops do not allow it."""
    sizes = sorted({d for v in case.graph.inputs for d in v.shape if isinstance(d, int) and d > 1})
    rng.shuffle(sizes)
    for size in sizes:
        symbol = Sym(f"{name}{case.seed}", max(1, size - int(rng.integers(0, 3))), size, size + int(rng.integers(0, 40)))
        some = {v.name: tuple(rng.random() < 0.8 for _ in v.shape) for v in case.graph.inputs}
        for where in (some, {n: (True,) * len(w) for n, w in some.items()}):
            try:
                graph = _with_symbol(case.graph, symbol, where)
            except StropError:
                continue
            found = Case(graph, case.feed, case.seed)
            if symbol in found.symbols:
                return found
    return None


def _with_symbol(graph: Graph, symbol: Sym, where: dict[str, tuple[bool, ...]]) -> Graph:
    """The graph with a symbol for its optimum in the marked dims of the inputs, and in attributes where that is needed."""
    free, values = Graph(graph.name), {}
    for value in graph.inputs:
        shape = tuple(symbol if d == symbol.opt and take else d for d, take in zip(value.shape, where[value.name]))
        values[value] = free.add_input(value.name, Type(value.dtype, shape))
    for value in graph.constants():
        assert value.const is not None
        values[value] = free.add_const(value.const, value.name)
    for node in graph.nodes:
        operands = [None if v is None else values[v] for v in node.inputs]
        op = _op_with(node.op, [v.shape for v in operands if v is not None], symbol)
        new = free.add(op, operands, name=node.name, source=node.source, outputs=[v.name for v in node.outputs])
        values.update(zip(node.outputs, new.outputs))
    free.set_outputs([values[v] for v in graph.outputs], graph.output_names)
    return free


def _op_with(op: Op, shapes: Sequence[Shape], symbol: Sym) -> Op:
    """The op with the symbol in attributes that must change with its operand's shape."""
    size, given = symbol.opt, shapes[0] if shapes else ()
    if symbol not in sh.symbols(given):
        return op
    if isinstance(op, Reshape):
        for k, d in enumerate(op.shape):
            if isinstance(d, int) and d % size == 0 and d:
                shape = (*op.shape[:k], sh.mul(symbol, d // size), *op.shape[k + 1 :])
                if sh.volume(shape) == sh.volume(given):
                    return Reshape(shape)
    elif isinstance(op, Expand) and len(op.shape) >= len(given):
        lead = len(op.shape) - len(given)
        return Expand(tuple(given[k - lead] if k >= lead and given[k - lead] != 1 else d for k, d in enumerate(op.shape)))
    elif isinstance(op, Slice):
        stops = tuple(given[a] if e == size and s > 0 and sh.symbols([given[a]]) else e for e, a, s in zip(op.stops, op.axes, op.steps))
        return op.replace(stops=stops)
    elif isinstance(op, Split) and sh.symbols([given[op.axis % len(given)]]):
        whole, rest = given[op.axis % len(given)], 0
        for part in op.sizes[:-1]:
            rest = sh.add(rest, part)
        return op.replace(sizes=(*op.sizes[:-1], sh.sub(whole, rest)))
    return op
