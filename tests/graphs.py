"""Random valid graphs for property tests: op samples wired together with the spellings that passes look for.

``random_graph(seed, size)`` is deterministic. Results stay small and smooth, so that a rewrite that is
right up to rounding gives outputs that agree to about 1e-5: functions with steps or poles only read graph
inputs, never computed values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import strop.ops  # noqa: F401  registers every op
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph, Value
from strop.ir.op import REGISTRY, Array, Op, Sample, Type
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import (
    Concat,
    Expand,
    Identity,
    Pad,
    Reshape,
    Slice,
    Split,
    Transpose,
)
from strop.ops.elementwise import Cast, make
from strop.ops.index import Gather
from strop.ops.matmul import MatMul
from strop.ops.norm import BatchNorm, LayerNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax

SMOOTH = ("relu", "tanh", "sigmoid", "abs", "sin", "cos", "erf", "neg", "softsign", "silu", "gelu")
LIMIT = 1e3  # outputs above this are scaled down by the builder


class Builder:
    """A graph under construction with the arrays that its inputs will get."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph(f"random{seed}")
        self.feed: dict[str, Array] = {}
        self.pool: list[Value] = []  # float32 values that later steps may read
        self.count = 0

    # ---- pieces

    def input(self, array: Array) -> Value:
        """A graph input that will hold ``array``."""
        type = Type(dt.from_numpy(array.dtype), array.shape)
        value = self.graph.add_input(f"x{len(self.feed)}", type)
        self.feed[value.name] = array
        return value

    def const(self, array: Any) -> Value:
        """A constant; Python numbers become f32."""
        array = np.asarray(array, None if isinstance(array, np.ndarray) else np.float32)
        return self.graph.add_const(array, "c")

    def normal(self, *shape: int) -> Value:
        """A constant of small random numbers."""
        return self.const((self.rng.standard_normal(shape) * 0.5).astype(np.float32))

    def add(self, op: Op, *operands: Value | None) -> Value:
        """A node; answers its first result."""
        return self.add_several(op, *operands)[0]

    def add_several(self, op: Op, *operands: Value | None) -> list[Value]:
        """A node with any number of results."""
        self.count += 1
        return self.graph.add(op, operands, source=[f"node_{self.count}"]).outputs

    def fn(self, name: str, *operands: Value | float, **params: float) -> Value:
        """An elementwise node; numbers become constants."""
        values = [v if isinstance(v, Value) else self.const(v) for v in operands]
        return self.add(make(name, **params), *values)

    def pick(self, rank: int | None = None) -> Value:
        """A value to read: one of the pool, or a new input when none has the rank."""
        fitting = [v for v in self.pool if rank is None or len(v.shape) == rank]
        if fitting and self.rng.random() < 0.85:
            return fitting[int(self.rng.integers(max(0, len(fitting) - 6), len(fitting)))]
        extents = self.rng.integers(2, 6, rank or 4)
        if rank in (None, 4):
            extents[0] = 1
        return self.input(self.rng.standard_normal(extents).astype(np.float32))

    def number(self, low: int, high: int) -> int:
        """A random integer in low..high."""
        return int(self.rng.integers(low, high + 1))

    def coin(self, chance: float = 0.5) -> bool:
        """True with a chance."""
        return bool(self.rng.random() < chance)


Step = Callable[[Builder], "Value | list[Value]"]


# ---- steps: single ops


def unary(b: Builder) -> Value:
    """A smooth function."""
    return b.fn(str(b.rng.choice(SMOOTH)), b.pick())


def with_constant(b: Builder) -> Value:
    """Arithmetic with a scalar, per-channel or full constant, on either side."""
    x = b.pick()
    shape = x.type.static_shape
    kind = b.number(0, 3)
    if kind == 0 or not shape:
        c = b.const(float(b.rng.choice([0.0, -0.0, 1.0, 2.0, 0.5, 3.0, -1.5])))
    elif kind == 1 and len(shape) >= 2:
        c = b.normal(shape[1], *[1] * (len(shape) - 2))
    else:
        c = b.normal(*(shape[-1:] if kind == 2 else shape))
    name = str(b.rng.choice(["add", "mul", "sub", "max", "min"]))
    if name in ("add", "mul", "sub") and b.coin(0.3):
        return b.fn(name, c, x)
    return b.fn(name, x, c)


def divide(b: Builder) -> Value:
    """Division by a constant away from zero."""
    return b.fn("div", b.pick(), float(b.rng.choice([1.0, 2.0, 0.25, 3.0, -7.0])))


def binary(b: Builder) -> Value:
    """Two values of one shape, perhaps the same."""
    x = b.pick()
    same = [v for v in b.pool if v.shape == x.shape]
    y = same[b.number(0, len(same) - 1)] if same else x
    return b.fn(str(b.rng.choice(["add", "sub", "mul", "max"])), x, y)


def clips(b: Builder) -> Value:
    """A few bounds in a row."""
    x = b.pick()
    for _ in range(b.number(1, 3)):
        choice = b.number(0, 3)
        if choice == 0:
            x = b.fn("relu", x)
        elif choice == 1:
            x = b.fn("clip", x, lo=-1.0, hi=float(b.number(0, 3)))
        else:
            x = b.fn("max" if choice == 2 else "min", x, 0.5)
    return x


def powers(b: Builder) -> Value:
    """pow with special exponents, of something positive."""
    x = b.fn("add", b.fn("abs", b.pick()), 0.5)
    return b.fn("pow", x, float(b.rng.choice([1.0, 2.0, 0.5, -0.5, -1.0, 3.0])))


def conv(b: Builder) -> Value:
    """A convolution, perhaps grouped, without bias, or channels-last."""
    x = b.pick(4)
    last = b.coin(0.2)
    channels = int(x.type.static_shape[3 if last else 1])
    groups = channels if b.coin(0.2) else 1
    outs = channels * b.number(1, 2) if groups > 1 else b.number(1, 6)
    k = b.number(1, 3)
    pad = b.number(k // 2, k - 1) if k > 1 else 0
    op = Conv((b.number(1, 2),) * 2, (pad,) * 4, (1, 1), groups, "NHWC" if last else "NCHW")
    size = min(x.type.static_shape[1:3] if last else x.type.static_shape[2:])
    if size + 2 * pad < k:
        return x
    bias = b.normal(outs) if b.coin() else None
    return b.add(op, x, b.normal(outs, channels // groups, k, k), bias)


def conv_transpose(b: Builder) -> Value:
    """A transposed convolution."""
    x = b.pick(4)
    channels = x.type.static_shape[1]
    groups = channels if b.coin(0.3) else 1
    op = ConvTranspose((1, 1), (0, 0, 0, 0), (1, 1), groups, (0, 0))
    bias = b.normal(2 * groups) if b.coin() else None
    return b.add(op, x, b.normal(channels, 2, 2, 2), bias)


def batch_norm(b: Builder) -> Value:
    """Batch normalization, often right after a convolution."""
    x = conv(b) if b.coin(0.6) else b.pick(4)
    channels = x.type.static_shape[1]
    var = b.const((b.rng.random(channels) + 0.5).astype(np.float32))
    return b.add(
        BatchNorm(1e-3), x, b.normal(channels), b.normal(channels), b.normal(channels), var
    )


def pool(b: Builder) -> Value:
    """A pool, perhaps over everything or over single elements."""
    x = b.pick(4)
    spatial = x.type.static_shape[2:]
    kernel = spatial if b.coin(0.3) else (1, 1) if b.coin(0.2) else (2, 2)
    if min(spatial) < 2 and kernel == (2, 2):
        kernel = (1, 1)
    pads = (1, 1, 1, 1) if kernel == (2, 2) and b.coin() else (0, 0, 0, 0)
    if b.coin():
        return b.add(MaxPool(kernel, (1, 1), pads, (1, 1)), x)
    return b.add(AveragePool(kernel, (1, 1), pads, (1, 1), False, b.coin()), x)


def padded(b: Builder) -> Value:
    """Explicit padding before something that can pad."""
    x = b.pick(4)
    lowest = b.coin(0.3)
    amounts = [0, 0, b.number(0, 1), b.number(0, 1), 0, 0, b.number(0, 1), b.number(0, 1)]
    if b.coin(0.3):
        x = b.fn("relu", x)
    y = b.add(Pad(tuple(amounts), "constant", -np.inf if lowest else 0.0), x)
    shape = y.type.static_shape
    if min(shape[2:]) < 2:
        return x
    if lowest or b.coin(0.4):
        return b.add(MaxPool((2, 2), (1, 1), (0, 0, 0, 0), (1, 1)), y)
    if b.coin():
        return b.add(AveragePool((2, 2), (1, 1), (0, 0, 0, 0), (1, 1)), y)
    return b.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), y, b.normal(3, shape[1], 2, 2))


def reduce(b: Builder) -> Value:
    """A mean or maximum over some axes."""
    x = b.pick()
    rank = len(x.shape)
    if rank == 0:
        return x
    axes = b.rng.permutation(rank)[: b.number(1, rank)]
    names = [int(a) - (rank if b.coin(0.3) else 0) for a in axes]
    return b.add(Reduce(str(b.rng.choice(["mean", "max", "sum"])), tuple(names), b.coin(0.7)), x)


def matmul(b: Builder) -> Value:
    """A product with a constant, perhaps stored transposed, perhaps with a bias and a scale."""
    x = b.pick(b.number(2, 4))
    k, n = int(x.type.static_shape[-1]), b.number(1, 5)
    turned = b.coin(0.3)
    y = b.add(MatMul(False, turned), x, b.normal(n, k) if turned else b.normal(k, n))
    if b.coin():
        y = b.fn("add", y, b.normal(n))
    return b.fn("mul", y, b.normal(n)) if b.coin(0.3) else y


def softmax(b: Builder) -> Value:
    """A softmax over some axis."""
    x = b.pick()
    return b.add(Softmax(b.number(-len(x.shape), len(x.shape) - 1)), x) if x.shape else x


# ---- steps: data movement


def transpose(b: Builder) -> Value:
    """One or two transpositions."""
    x = b.pick()
    for _ in range(b.number(1, 2)):
        perm = b.rng.permutation(len(x.shape))
        x = b.add(Transpose(tuple(int(p) for p in perm)), x)
    return x


def channels_last_island(b: Builder) -> Value:
    """Work between a transposition to channels-last and one back, as exporters emit it."""
    x = b.pick(4)
    y = b.add(Transpose((0, 2, 3, 1)), x)
    channels = y.type.static_shape[3]
    for _ in range(b.number(1, 3)):
        kind = b.number(0, 3)
        if kind == 0:
            y = b.add(LayerNorm(-1, 1e-3), y, b.normal(channels), b.normal(channels))
        elif kind == 1:
            y = b.add(MatMul(), y, b.normal(channels, channels))
        elif kind == 2:
            y = b.fn("tanh", y)
        else:
            y = b.fn("add", y, b.normal(channels))
    back = b.add(Transpose((0, 3, 1, 2)), y)
    return b.fn("add", back, x) if b.coin(0.6) else back


def reshape(b: Builder) -> Value:
    """One or two reshapes."""
    x = b.pick()
    for _ in range(b.number(1, 2)):
        shape = list(x.type.static_shape)
        choice = b.number(0, 2)
        if choice == 0 and len(shape) >= 2:
            at = b.number(0, len(shape) - 2)
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif choice == 1 and len(shape) < 5:
            shape.insert(b.number(0, len(shape)), 1)
        x = b.add(Reshape(tuple(shape)), x)
    return x


def concat(b: Builder) -> Value:
    """Two or three values, perhaps a prefix of a longer concat, perhaps the parts of a split."""
    x = b.pick()
    if not x.shape:
        return x
    axis = b.number(0, len(x.shape) - 1)
    others = [v for v in b.pool if v.shape == x.shape] + [b.fn("tanh", x)]
    parts = [x] + [others[b.number(0, len(others) - 1)] for _ in range(b.number(1, 2))]
    first = b.add(Concat(axis - (len(x.shape) if b.coin(0.2) else 0)), *parts)
    if b.coin(0.4):
        longer = b.add(Concat(axis), *parts, b.fn("sin", x))
        return longer if b.coin() else b.add(Concat(axis), first, longer)
    return first


def split_and_join(b: Builder) -> Value | list[Value]:
    """Parts of a value, perhaps joined again."""
    x = b.pick()
    if not x.shape:
        return x
    axis = b.number(0, len(x.shape) - 1)
    size = int(x.type.static_shape[axis])
    if size < 2:
        return x
    at = b.number(1, size - 1)
    if b.coin():
        parts = b.add_several(Split(axis, (at, size - at)), x)
    else:
        bounds = ((0, at), (at, size))
        parts = [b.add(Slice((s,), (e,), (axis,), (1,)), x) for s, e in bounds]
    if b.coin(0.4):
        return b.add(Concat(axis), *parts)
    return parts


def cut(b: Builder) -> Value:
    """A slice with steps, or a gather by constant indices."""
    x = b.pick()
    if not x.shape:
        return x
    axis = b.number(0, len(x.shape) - 1)
    size = int(x.type.static_shape[axis])
    if b.coin():
        step = int(b.rng.choice([1, 2, -1]))
        return b.add(
            Slice.of(x.shape, [0 if step > 0 else -1], [size if step > 0 else -99], [axis], [step]),
            x,
        )
    choices: list[Any] = [0, -1, [0], list(range(size)), [size - 1, 0]]
    indices = np.asarray(choices[b.number(0, 4)], np.int64)
    return b.add(Gather(axis), x, b.const(indices))


def expand(b: Builder) -> Value:
    """A broadcast, added to something of the larger shape."""
    x = b.pick(3)
    shape = x.type.static_shape
    small = b.add(Reduce("mean", (1,), True), x)
    return b.fn("add", x, b.add(Expand(shape), small)) if b.coin() else b.add(Expand(shape), small)


def no_ops(b: Builder) -> Value:
    """Something without effect."""
    x = b.pick()
    shape = x.type.static_shape
    rank = len(shape)
    choices: list[Callable[[], Value]] = [
        lambda: b.add(Identity(), x),
        lambda: b.add(Reshape(shape), x),
        lambda: b.add(Transpose(tuple(range(rank))), x),
        lambda: b.add(Cast(dt.f32), x),
        lambda: b.add(Cast(dt.f32), b.add(Cast(dt.f64), x)),
        lambda: b.add(Expand(shape), x),
        lambda: b.add(Pad((0,) * (2 * rank)), x),
        lambda: b.fn("mul", x, 1.0),
        lambda: b.fn("add", x, 0.0),
        lambda: b.fn("sub", x, 0.0),
        lambda: b.fn("div", x, 1.0),
        lambda: b.fn("pow", x, 1.0),
    ]
    if rank:
        choices.append(lambda: b.add(Concat(0), x))
        choices.append(lambda: b.add(Slice((0,), (shape[0],), (0,), (1,)), x))
    return choices[b.number(0, len(choices) - 1)]()


def constants_only(b: Builder) -> Value:
    """A value computed from constants and then added."""
    x = b.pick()
    if not x.shape:
        return x
    n = int(x.type.static_shape[-1])
    c = b.add(Transpose((1, 0)), b.normal(n, 1))
    c = b.fn("tanh", b.add(Reshape((n,)), c))
    return b.fn("add", x, c)


def repeated(b: Builder) -> Value:
    """The same computation twice."""
    x = b.pick()
    return b.fn("mul", b.fn("tanh", x), b.fn("tanh", x))


def dead(b: Builder) -> list[Value]:
    """A layer that nothing reads."""
    b.fn("sin", b.pick())
    return []


# ---- steps: what recognizers look for


def gelu(b: Builder) -> Value:
    """gelu spelled out."""
    x = b.pick()
    gate = b.fn("add", b.fn("erf", b.fn("div", x, float(np.sqrt(2)))), 1.0)
    order = b.number(0, 2)
    if order == 0:
        return b.fn("mul", b.fn("mul", x, 0.5), gate)
    if order == 1:
        return b.fn("mul", b.fn("mul", gate, x), 0.5)
    return b.fn("mul", x, b.fn("mul", gate, 0.5))


def gelu_tanh(b: Builder) -> Value:
    """The tanh form of gelu spelled out."""
    x = b.pick()
    cube = b.fn("pow", x, 3.0) if b.coin() else b.fn("mul", b.fn("mul", x, x), x)
    inner = b.fn("add", x, b.fn("mul", cube, 0.044715))
    gate = b.fn("add", b.fn("tanh", b.fn("mul", inner, float(np.sqrt(2 / np.pi)))), 1.0)
    return b.fn("mul", b.fn("mul", x, 0.5), gate)


def gates(b: Builder) -> Value:
    """silu, swish, mish, hard_swish and the gates themselves."""
    x = b.pick()
    kind = b.number(0, 5)
    if kind == 0:
        return b.fn("mul", x, b.fn("sigmoid", x))
    if kind == 1:
        return b.fn("mul", b.fn("sigmoid", b.fn("mul", x, 1.702)), x)
    if kind == 2:
        return b.fn("mul", x, b.fn("tanh", b.fn("softplus", x)))
    if kind == 3:
        return b.fn("div", 1.0, b.fn("add", b.fn("exp", b.fn("neg", b.fn("tanh", x))), 1.0))
    ramp = b.fn("clip", b.fn("add", x, 3.0), lo=0.0, hi=6.0)
    return b.fn("mul", x, b.fn("div", ramp, 6.0)) if kind == 4 else b.fn("div", ramp, 6.0)


def layer_norm(b: Builder) -> Value:
    """Layer or RMS normalization spelled out."""
    x = b.pick(3)
    n = x.type.static_shape[-1]
    d = x if b.coin(0.3) else b.fn("sub", x, b.add(Reduce("mean", (-1,), True), x))
    square = b.fn("pow", d, 2.0) if b.coin() else b.fn("mul", d, d)
    root = b.fn("sqrt", b.fn("add", b.add(Reduce("mean", (2,), True), square), 0.01))
    y = b.fn("div", d, root) if b.coin() else b.fn("mul", d, b.fn("reciprocal", root))
    y = b.fn("mul", y, b.normal(n)) if b.coin(0.8) else y
    return b.fn("add", y, b.normal(n)) if b.coin(0.8) else y


def attention(b: Builder) -> Value:
    """Self-attention with several heads, spelled out."""
    x = b.pick(3)
    n, s, width = x.type.static_shape
    heads, depth = b.number(1, 2), b.number(1, 3)

    def project() -> Value:
        y = b.add(MatMul(), x, b.normal(width, heads * depth))
        y = b.fn("add", y, b.normal(heads * depth)) if b.coin() else y
        return b.add(Transpose((0, 2, 1, 3)), b.add(Reshape((n, s, heads, depth)), y))

    q, k, v = project(), project(), project()
    k = b.add(Transpose((0, 1, 3, 2)), k)
    style = b.number(0, 2)
    if style == 0:
        q, k = b.fn("mul", q, 0.7), b.fn("mul", k, 0.7)
    scores = b.add(MatMul(), q, k)
    scores = b.fn("div", scores, 1.5) if style == 1 else scores
    mask = b.number(0, 3)
    if mask == 0:
        scores = b.fn("add", scores, b.normal(s, s))
    elif mask == 1:
        hidden = np.triu(np.full((s, s), -np.inf, np.float32), 1)
        scores = b.fn("add", scores, b.const(hidden))
    elif mask == 2:
        shown = b.const(np.tril(np.ones((s, s), bool)))
        scores = b.add(make("where"), shown, scores, b.const(-1e10))
    mixed = b.add(MatMul(), b.add(Softmax(-1), scores), v)
    return b.add(Reshape((n, s, heads * depth)), b.add(Transpose((0, 2, 1, 3)), mixed))


def siblings(b: Builder) -> list[Value]:
    """Convolutions or products of one value."""
    tail = str(b.rng.choice(["relu", "tanh", "none"]))
    kind = b.number(0, 1)
    x = b.pick(4 if kind == 0 else 3)
    found = []
    for _ in range(b.number(2, 3)):
        n = b.number(1, 4)
        if kind == 0:
            c = x.type.static_shape[1]
            bias = b.normal(n) if b.coin(0.7) else None
            y = b.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), x, b.normal(n, c, 1, 1), bias)
        else:
            y = b.add(MatMul(), x, b.normal(x.type.static_shape[-1], n))
            y = b.fn("add", y, b.normal(n)) if tail != "none" else y
        if tail != "none" and b.coin(0.9):
            y = b.fn(tail, y)
        found.append(y)
    return found


# ---- steps: any op, from its own samples


@cache
def _samples(name: str) -> tuple[Sample, ...]:
    return tuple(itertools.islice(REGISTRY[name].samples(np.random.default_rng(7)), 150))


def from_samples(b: Builder) -> list[Value]:
    """Any op on its own sample operands, as inputs or constants; those that find sizes or frame loops need others beside them."""
    names = sorted(name for name in REGISTRY if not _samples(name)[0].op.computed and not REGISTRY[name].lasting)
    samples = _samples(names[b.number(0, len(names) - 1)])
    sample = samples[b.number(0, len(samples) - 1)]
    operands = [b.const(a) if i and b.coin() else b.input(a) for i, a in enumerate(sample.inputs)]
    results = b.add_several(sample.op, *operands)
    return [v for v in results if v.dtype is dt.f32]


STEPS: tuple[Step, ...] = (
    unary, with_constant, divide, binary, clips, powers, conv, conv_transpose, batch_norm, pool, padded,
    reduce, matmul, softmax, transpose, channels_last_island, reshape, concat, split_and_join, cut, expand,
    no_ops, constants_only, repeated, dead, gelu, gelu_tanh, gates, layer_norm, attention, siblings,
    from_samples,
)  # fmt: skip


def random_graph(
    seed: int, size: int, steps: tuple[Step, ...] = STEPS
) -> tuple[Graph, dict[str, Array]]:
    """A random graph of ``size`` steps and arrays for its inputs; every result is finite and below LIMIT."""
    b = Builder(seed)
    while len(b.pool) < size:
        made = steps[b.number(0, len(steps) - 1)](b)
        made = made if isinstance(made, list) else [made]
        tamed = [_tame(b, v) for v in made if v.dtype is dt.f32 and 0 not in v.shape]
        b.pool += tamed or [b.pick()]
    read = {id(v) for node in b.graph.nodes for v in node.operands}
    ends = [v for node in b.graph.nodes for v in node.outputs if id(v) not in read]
    dead_ones = [v for v in ends if v.producer is not None and v.producer.op.label == "sin"]
    outputs = [v for v in ends if v not in dead_ones] or ends
    extra = b.pool[b.number(0, len(b.pool) - 1)]
    if b.coin(0.3) and extra not in outputs:
        outputs.append(extra)
    b.graph.set_outputs(outputs)
    return b.graph, b.feed


def _tame(b: Builder, value: Value) -> Value:
    """The value, through tanh when it is large or not finite, so that errors do not grow."""
    saved = b.graph.outputs, b.graph.output_names
    b.graph.set_outputs([value], ["probe"])
    array = interp.run(b.graph, b.feed)["probe"]
    b.graph.set_outputs(*saved)
    if array.size and not (np.isfinite(array).all() and np.abs(array).max() < LIMIT):
        return b.fn("tanh", b.fn("clip", value, lo=-3.0, hi=3.0))
    return value


def assert_same(got: dict[str, Array], wanted: dict[str, Array], tolerance: float = 1e-4) -> None:
    """Outputs agree within a tolerance relative to each output's largest magnitude."""
    assert list(got) == list(wanted)
    for name, expected in wanted.items():
        actual = got[name]
        assert actual.dtype == expected.dtype and actual.shape == expected.shape, name
        if expected.dtype.kind not in "fV" and str(expected.dtype) != "bfloat16":
            np.testing.assert_array_equal(actual, expected, err_msg=name)
            continue
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        finite = np.isfinite(e)
        np.testing.assert_array_equal(np.isfinite(a), finite, err_msg=name)
        np.testing.assert_array_equal(a[~finite], e[~finite], err_msg=name)
        scale = max(float(np.abs(e[finite]).max(initial=0.0)), 1e-2)
        width = {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(str(expected.dtype), 0.0)
        worst = float(np.abs(a[finite] - e[finite]).max(initial=0.0))
        assert worst <= max(tolerance, 4 * width) * scale, f"{name}: {worst} of {scale}"
