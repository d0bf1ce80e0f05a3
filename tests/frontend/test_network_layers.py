"""Every layer of Network against numpy, on random configurations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from strop.errors import ShapeError
from strop.frontend import network as nw
from strop.ir.interp import run
from tests.frontend.network_bench import Array, Bench, filled, pick, random

# ---- independent meanings


def windows(size: int, extent: int, stride: int, pre: int, post: int, mode: str) -> tuple[int, int]:
    """(number of windows, pad before) by the formulas of the documentation of TensorRT's PaddingMode."""
    if mode.startswith("same"):
        count = math.ceil(size / stride)
        total = max((count - 1) * stride + extent - size, 0)
        return count, total // 2 if mode == "same_upper" else total - total // 2
    if mode.startswith("caffe"):
        whole = (size + 2 * pre - extent) / stride
        count = (math.floor(whole) if mode.endswith("down") else math.ceil(whole)) + 1
        if pre > 0 and (count - 1) * stride >= size + pre:
            count -= 1
        return count, pre
    whole = (size + pre + post - extent) / stride
    return (math.floor(whole) if mode.endswith("down") else math.ceil(whole)) + 1, pre


def patches(x: Array, k: Sequence[int], s: Sequence[int], d: Sequence[int], counts: Sequence[int], pads: Sequence[int], value: float) -> Array:
    """[N, C, *counts, *k]: the elements under every window; ``value`` outside x."""
    rank = len(k)
    room = [max((c - 1) * st + (kk - 1) * dd + 1 - p - n, 0) for c, st, kk, dd, p, n in zip(counts, s, k, d, pads, x.shape[2:])]
    whole = np.pad(x, [(0, 0), (0, 0), *zip(pads, room)], constant_values=value)
    out = np.empty((*x.shape[:2], *counts, *k), x.dtype)
    for at in itertools.product(*map(range, counts)):
        cut = tuple(slice(a * st, a * st + (kk - 1) * dd + 1, dd) for a, st, kk, dd in zip(at, s, k, d))
        out[(slice(None), slice(None), *at)] = whole[(slice(None), slice(None), *cut)]
    assert out.ndim == 2 + 2 * rank
    return out


def convolved(x: Array, w: Array, b: Array | None, s: Any, d: Any, counts: Any, pads: Any, groups: int) -> Array:
    rank = x.ndim - 2
    seen = patches(x, w.shape[2:], s, d, counts, pads, 0.0)
    per, maps = x.shape[1] // groups, w.shape[0] // groups
    parts = []
    for g in range(groups):
        own = seen[:, g * per : (g + 1) * per]
        axes = (1, *range(2 + rank, 2 + 2 * rank))
        part = np.tensordot(own, w[g * maps : (g + 1) * maps], (axes, range(1, 2 + rank)))
        parts.append(np.moveaxis(part, -1, 1))
    y = np.concatenate(parts, axis=1)
    return y if b is None else y + b.reshape(1, -1, *(1,) * rank)


MODES = ("explicit_round_down", "explicit_round_up", "same_upper", "same_lower", "caffe_round_down", "caffe_round_up")


def convolution(bench: Bench, rng: np.random.Generator) -> None:
    rank, groups = pick(rng, 1, 2, 2, 2, 3), pick(rng, 1, 1, 2)
    k, s, d = ([pick(rng, 1, 2, 3), pick(rng, 1, 3, 5), 3][:rank] for _ in range(1)), [pick(rng, 1, 2, 3) for _ in range(rank)], [pick(rng, 1, 1, 2) for _ in range(rank)]
    (k,) = k
    pre, post = [pick(rng, 0, 0, 1, 2) for _ in range(rank)], [pick(rng, 0, 1) for _ in range(rank)]
    mode = pick(rng, *MODES)
    x = random(rng, pick(rng, 1, 2), groups * pick(rng, 1, 3), *(pick(rng, 9, 11, 12) for _ in range(rank)))
    maps = groups * pick(rng, 1, 4)
    w, b = random(rng, maps, x.shape[1] // groups, *k), pick(rng, None, random(rng, maps))
    found = [windows(n, (kk - 1) * dd + 1, st, p, q, mode) for n, kk, dd, st, p, q in zip(x.shape[2:], k, d, s, pre, post)]
    layer = nw.Convolution(maps, k, w.ravel(), b, s, pre, post, mode, d, groups)
    wanted = convolved(x, w, b, s, d, [c for c, _ in found], [p for _, p in found], groups)
    tensor = bench.net.add(layer, bench.input(x)).output
    assert tensor.shape == wanted.shape, (mode, tensor.shape, wanted.shape)
    bench.expect(tensor, wanted, f"{mode} {x.shape} {w.shape} s{s} d{d} {pre} {post}")


def deconvolution(bench: Bench, rng: np.random.Generator) -> None:
    rank, groups = pick(rng, 1, 2, 2, 3), pick(rng, 1, 1, 2)
    k, s, d = [pick(rng, 2, 3, 4) for _ in range(rank)], [pick(rng, 1, 2, 3) for _ in range(rank)], [pick(rng, 1, 1, 2) for _ in range(rank)]
    pre, post = [pick(rng, 0, 1) for _ in range(rank)], [pick(rng, 0, 1) for _ in range(rank)]
    x = random(rng, pick(rng, 1, 2), groups * 2, *(pick(rng, 3, 5) for _ in range(rank)))
    maps = groups * pick(rng, 1, 3)
    w, b = random(rng, x.shape[1], maps // groups, *k), random(rng, maps)
    full = [st * (n - 1) + (kk - 1) * dd + 1 for st, n, kk, dd in zip(s, x.shape[2:], k, d)]
    y = np.zeros((x.shape[0], maps, *full), np.float64)
    per, own = x.shape[1] // groups, maps // groups
    for at in itertools.product(*map(range, x.shape[2:])):
        for tap in itertools.product(*map(range, k)):
            place = tuple(a * st + t * dd for a, st, t, dd in zip(at, s, tap, d))
            for g in range(groups):
                part = x[(slice(None), slice(g * per, (g + 1) * per), *at)] @ w[(slice(g * per, (g + 1) * per), slice(None), *tap)]
                y[(slice(None), slice(g * own, (g + 1) * own), *place)] += part
    cut = tuple(slice(p, n - q) for p, q, n in zip(pre, post, full))
    wanted = y[(slice(None), slice(None), *cut)] + b.reshape(1, -1, *(1,) * rank)
    layer = nw.Deconvolution(maps, k, w, b, s, pre, post, dilation=d, groups=groups)
    bench.expect(bench.net.add(layer, bench.input(x)).output, wanted, f"{x.shape} {w.shape} s{s} d{d} {pre} {post}")


def pooling(bench: Bench, rng: np.random.Generator) -> None:
    rank, kind, mode, excludes = pick(rng, 1, 2, 2, 3), pick(rng, *nw.pool.TYPES), pick(rng, *MODES), pick(rng, True, True, False)
    k, s = [pick(rng, 2, 3) for _ in range(rank)], [pick(rng, 1, 2, 3) for _ in range(rank)]
    pre, post = [pick(rng, 0, 1) for _ in range(rank)], [pick(rng, 0, 1) for _ in range(rank)]
    if not excludes and mode != "same_upper":
        mode = "explicit_round_down"
    x = random(rng, 1, 3, *(pick(rng, 7, 8, 10) for _ in range(rank)))
    found = [windows(n, kk, st, p, q, mode) for n, kk, st, p, q in zip(x.shape[2:], k, s, pre, post)]
    counts, pads = [c for c, _ in found], [p for _, p in found]
    if any((c - 1) * st - p >= n for c, st, p, n in zip(counts, s, pads, x.shape[2:])):
        return  # a window of nothing has no maximum
    ones, axes = [1] * rank, tuple(range(-rank, 0))
    most = patches(x, k, s, ones, counts, pads, -np.inf).max(axes)
    inside = patches(np.ones_like(x), k, s, ones, counts, pads, 0).sum(axes)
    mean = patches(x, k, s, ones, counts, pads, 0).sum(axes) / (inside if excludes else np.prod(k))
    blend = pick(rng, 0.25, 0.5)
    wanted = {"max": most, "average": mean, "max_average_blend": (1 - blend) * most + blend * mean}[kind]
    layer = nw.Pooling(kind, k, s, pre, post, mode, blend, excludes)
    bench.expect(bench.net.add(layer, bench.input(x)).output, wanted, f"{kind} {mode} {x.shape} {k} s{s} {pre} {post} {excludes}")


def fully_connected(bench: Bench, rng: np.random.Generator) -> None:
    x = random(rng, *(pick(rng, (2,), (1,), (2, 3))), pick(rng, 1, 5), pick(rng, 1, 4), pick(rng, 1, 4))
    size, maps = math.prod(x.shape[-3:]), pick(rng, 1, 7, 16)
    w, b = random(rng, maps, size), pick(rng, None, random(rng, maps))
    wanted = x.reshape(-1, size) @ w.T + (0 if b is None else b)
    layer = nw.FullyConnected(maps, w.ravel(), b)
    bench.expect(bench.net.add(layer, bench.input(x)).output, wanted.reshape(*x.shape[:-3], maps, 1, 1), str(x.shape))


def lrn(bench: Bench, rng: np.random.Generator) -> None:
    x, window = random(rng, 2, pick(rng, 1, 6, 17), 3, 2), pick(rng, 1, 3, 5, 15)
    alpha, beta, k = pick(rng, 1e-4, 0.5), pick(rng, 0.75, 0.5, 2.0), pick(rng, 1.0, 2.0)
    half, square = window // 2, np.pad(x.astype(float) ** 2, [(0, 0), (window // 2, window // 2), (0, 0), (0, 0)])
    total = sum(square[:, i : i + x.shape[1]] for i in range(2 * half + 1))
    layer = nw.LRN(window, alpha, beta, k)
    bench.expect(bench.net.add(layer, bench.input(x)).output, x / (k + alpha / window * total) ** beta)


def softmax(bench: Bench, rng: np.random.Generator) -> None:
    x = random(rng, *(pick(rng, 1, 2, 5) for _ in range(pick(rng, 1, 2, 3, 4, 5)))) * pick(rng, 1.0, 8192.0)
    axis = pick(rng, None, int(rng.integers(x.ndim)))
    along = max(x.ndim - 3, 0) if axis is None else axis
    power = np.exp(x.astype(float) - x.max(along, keepdims=True))
    layer = nw.Softmax(0 if axis is None else 1 << axis)
    bench.expect(bench.net.add(layer, bench.input(x)).output, power / power.sum(along, keepdims=True), f"{x.shape} {axis}")


def ragged_softmax(bench: Bench, rng: np.random.Generator) -> None:
    z, s = pick(rng, 1, 4), pick(rng, 1, 7)
    x, bounds = random(rng, z, s) * 100, rng.integers(1, s + 1, (z, 1)).astype(np.int32)
    wanted = np.zeros((z, s))
    for row in range(z):
        n = bounds[row, 0]
        power = np.exp(x[row, :n].astype(float) - x[row, :n].max())
        wanted[row, :n] = power / power.sum()
    bench.expect(bench.net.add(nw.RaggedSoftmax(), bench.input(x), bench.input(bounds)).output, wanted)


def recurrent(bench: Bench, rng: np.random.Generator) -> None:
    op, layers, bi = pick(rng, *nw.recurrent.GATES), pick(rng, 1, 2), pick(rng, False, True)
    n, s, size, h = pick(rng, 1, 3), pick(rng, 1, 5), pick(rng, 3, 4), pick(rng, 2, 4)
    skip = pick(rng, False, size == h)
    d, gates = 1 + bi, nw.recurrent.GATES[op]
    x = random(rng, n, s, size)
    lens = pick(rng, None, rng.integers(1, s + 1, n).astype(np.int32))
    h0 = pick(rng, None, random(rng, n, layers * d, h))
    layer = nw.RNN(layers, h, s + 2, op, bi, skip)
    w: dict[Any, Array] = {}
    for number, gate in itertools.product(range(layers * d), gates):
        fed = size if number < d else h * d
        w[number, gate] = (
            np.eye(h, dtype=np.float32) if skip and number < d else random(rng, h, fed) * 0.5,
            random(rng, h, h) * 0.5,
            random(rng, h),
            random(rng, h),
        )
    added = bench.net.add(layer, bench.input(x))
    for (number, gate), (wi, wr, bi_, br) in w.items():
        if not (skip and number < d):
            layer.set_weights(number, gate, True, wi)
        layer.set_weights(number, gate, False, wr)
        layer.set_bias(number, gate, True, bi_)
        layer.set_bias(number, gate, False, br)
    if lens is not None:
        layer.set_operand("lengths", bench.input(lens))
    if h0 is not None:
        layer.set_operand("state", bench.input(h0))
    wanted = stacked(op, x, w, layers, d, h, lens, h0)
    for tensor, array in zip(added.outputs, wanted, strict=True):
        bench.expect(tensor, array, f"{op} {layers} {bi} {x.shape} {h} {lens} {skip}")


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def stacked(op: str, x: Array, w: Any, layers: int, d: int, h: int, lens: Array | None, h0: Array | None) -> list[Array]:
    """Sample by sample, step by step, with the formulas of TensorRT's RNNOperation."""
    n, s, _ = x.shape
    outs, hidden, cells = np.zeros((n, s, d * h)), np.zeros((n, layers * d, h)), np.zeros((n, layers * d, h))
    for b in range(n):
        steps = s if lens is None else int(lens[b])
        seq = x[b, :steps].astype(float)
        for layer in range(layers):
            sides = []
            for side in range(d):
                number = layer * d + side
                state = np.zeros(h) if h0 is None else h0[b, number].astype(float)
                cell, made = np.zeros(h), []
                for row in seq if side == 0 else seq[::-1]:

                    def gate(name: str, scale: Array | float = 1.0, number: int = number, row: Array = row, state: Array = state) -> Array:
                        wi, wr, bi, br = w[number, name]
                        return wi @ row + bi + scale * (wr @ state + br)

                    if op == "lstm":
                        cell = sigmoid(gate("forget")) * cell + sigmoid(gate("input")) * np.tanh(gate("cell"))
                        state = sigmoid(gate("output")) * np.tanh(cell)
                    elif op == "gru":
                        z = sigmoid(gate("update"))
                        state = (1 - z) * np.tanh(gate("hidden", sigmoid(gate("reset")))) + z * state
                    else:
                        state = np.maximum(gate("input"), 0) if op == "relu" else np.tanh(gate("input"))
                    made.append(state)
                hidden[b, number], cells[b, number] = state, cell
                sides.append(np.array(made if side == 0 else made[::-1]))
            seq = np.concatenate(sides, axis=1)
        outs[b, :steps] = seq
    return [outs, hidden, cells] if op == "lstm" else [outs, hidden]


def scale(bench: Bench, rng: np.random.Generator) -> None:
    x, mode = np.abs(random(rng, 2, 3, 4, 5)) + 1, pick(rng, "uniform", "channel", "elementwise")
    axis = 1 if mode == "elementwise" else pick(rng, None, 0, 1, 2, 3)
    along = 1 if axis is None else axis
    shape = {"uniform": (1, 1, 1, 1), "channel": tuple(n if k == along else 1 for k, n in enumerate(x.shape)), "elementwise": (1, *x.shape[1:])}[mode]
    shift, factor, power = (pick(rng, None, np.abs(random(rng, *shape)) + 0.5) for _ in range(3))
    wanted = (x.astype(float) * (1 if factor is None else factor) + (0 if shift is None else shift)) ** (1 if power is None else power)
    layer = nw.Scale(mode, shift, factor, power, axis)
    bench.expect(bench.net.add(layer, bench.input(x)).output, wanted, f"{mode} {axis}")


def activation(bench: Bench, rng: np.random.Generator) -> None:
    name = pick(rng, *nw.elementwise.ACTIVATIONS)
    x, a, b = random(rng, 3, 7) * 4, float(rng.uniform(0.1, 1)), float(rng.uniform(1, 2))
    v = x.astype(float)
    with np.errstate(over="ignore"):
        wanted = {
            "relu": np.maximum(v, 0),
            "sigmoid": sigmoid(v),
            "tanh": np.tanh(v),
            "leaky_relu": np.where(v > 0, v, a * v),
            "elu": np.where(v > 0, v, a * np.expm1(v)),
            "selu": b * np.where(v > 0, v, a * np.expm1(v)),
            "softsign": v / (1 + np.abs(v)),
            "softplus": a * np.log1p(np.exp(b * v)),
            "clip": np.clip(v, a, b),
            "hard_sigmoid": np.clip(a * v + b, 0, 1),
            "scaled_tanh": a * np.tanh(b * v),
            "thresholded_relu": np.where(v > a, v, 0),
            "gelu_erf": 0.5 * v * (1 + np.vectorize(math.erf)(v / math.sqrt(2))),
            "gelu_tanh": 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
        }[name]
    bench.expect(bench.net.add(nw.Activation(name, a, b), bench.input(x)).output, wanted, name)


def unary(bench: Bench, rng: np.random.Generator) -> None:
    name = pick(rng, *nw.elementwise.UNARY)
    low, high = {"log": (0.1, 5), "sqrt": (0, 5), "recip": (0.2, 3), "asin": (-1, 1), "acos": (-1, 1), "acosh": (1, 5), "atanh": (-0.9, 0.9)}.get(name, (-1.4, 1.4))
    x = rng.uniform(low, high, (3, 5)).astype(np.float32)
    if name in ("isinf", "isnan"):
        x[0, :2] = np.inf, np.nan
    if name == "not":
        x = x > 0
    function: Callable[..., Array] = {
        "recip": lambda v: 1 / v, "abs": np.abs, "neg": np.negative, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
        "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "erf": np.vectorize(math.erf), "not": np.logical_not, "round": np.rint,
    }.get(name) or getattr(np, name)  # fmt: skip
    wanted = function(x if x.dtype == bool else x.astype(float))
    bench.expect(bench.net.add(nw.Unary(name), bench.input(x)).output, wanted, name)


def elementwise(bench: Bench, rng: np.random.Generator) -> None:
    name, kind = pick(rng, *nw.elementwise.BINARY), pick(rng, "f", "i")
    shape = (3, 4, 5)
    a, b = (random(rng, *(n if rng.random() < 0.7 else 1 for n in shape)) * 4 for _ in range(2))
    if name in ("and", "or", "xor"):
        a, b = a > 0, b > 0
    elif kind == "i" and name != "pow":
        a, b = np.rint(a).astype(np.int32), np.rint(b).astype(np.int32)
        b = np.where(b == 0, 3, b) if "div" in name else b
    elif name == "pow":
        a = np.abs(a) + 0.1
    elif "div" in name:
        b = np.where(np.abs(b) < 0.1, 1.5, b).astype(np.float32)
    function = {
        "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "sub": np.subtract, "pow": np.power, "floor_div": np.floor_divide,
        "div": np.divide if a.dtype.kind == "f" else lambda p, q: np.trunc(p / q), "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor,
        "equal": np.equal, "greater": np.greater, "less": np.less,
    }[name]  # fmt: skip
    bench.expect(bench.net.add(nw.Elementwise(name), bench.input(a), bench.input(b)).output, function(a, b), f"{name} {a.dtype}")


def shuffle(bench: Bench, rng: np.random.Generator) -> None:
    x = random(rng, 2, 3, 4)
    first, second = ([int(p) for p in rng.permutation(3)] for _ in range(2))
    turned = x.transpose(first)
    sizes = [turned.shape[0], turned.shape[1] * turned.shape[2], 1]
    asked = pick(rng, sizes, [0, -1, 1], [-1, sizes[1], 1])
    wanted = turned.reshape(sizes).transpose(second)
    bench.expect(bench.net.add(nw.Shuffle(first, asked, second), bench.input(x)).output, wanted, f"{first} {asked} {second}")


def sliced(bench: Bench, rng: np.random.Generator) -> None:
    x, mode = random(rng, 3, 5, 6), pick(rng, "strict_bounds", "wrap", "clamp", "fill", "reflect")
    start, size, stride, index = [], [], [], []
    for n in x.shape:
        step = pick(rng, 1, 1, 2, -1)
        if mode == "strict_bounds":
            low = int(rng.integers(0, n))
            count = int(rng.integers(1, ((n - 1 - low) // step if step > 0 else low // -step) + 2))
        else:
            low, count = int(rng.integers(-2, n + 1)), int(rng.integers(1, n + 2))
        at = low + step * np.arange(count)
        start.append(low), size.append(count), stride.append(step), index.append(at)
    how = {"wrap": lambda i, n: i % n, "reflect": lambda i, n: np.array([mirror(int(v), n) for v in i])}.get(mode, lambda i, n: np.clip(i, 0, n - 1))
    wanted = x[np.ix_(*(how(i, n) for i, n in zip(index, x.shape)))]
    if mode == "fill":
        wanted = np.where(fill_mask(index, x.shape), wanted, 0)
    bench.expect(bench.net.add(nw.Slice(start, size, stride, mode), bench.input(x)).output, wanted, f"{mode} {start} {size} {stride}")


def fill_mask(index: Sequence[Array], shape: Sequence[int]) -> Array:
    a, b, c = ((i >= 0) & (i < n) for i, n in zip(index, shape))
    return a[:, None, None] & b[None, :, None] & c[None, None, :]


def mirror(i: int, n: int) -> int:
    while n > 1 and not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i if n > 1 else 0


def matrix_multiply(bench: Bench, rng: np.random.Generator) -> None:
    op0, op1 = pick(rng, "none", "transpose", "vector"), pick(rng, "none", "transpose", "vector")
    batch, m, k, n = pick(rng, (), (2,), (2, 3)), 3, 4, 5
    lead = tuple(1 if rng.random() < 0.3 else b for b in batch)
    shapes = {"none": ((m, k), (k, n)), "transpose": ((k, m), (n, k)), "vector": ((k,), (k,))}
    a, b = random(rng, *lead, *shapes[op0][0]), random(rng, *batch, *shapes[op1][1])
    left = a[..., None, :] if op0 == "vector" else a.swapaxes(-1, -2) if op0 == "transpose" else a
    right = b[..., None] if op1 == "vector" else b.swapaxes(-1, -2) if op1 == "transpose" else b
    wanted = np.matmul(left.astype(float), right.astype(float))
    wanted = wanted[..., 0] if op1 == "vector" else wanted
    wanted = (wanted[..., 0] if op1 == "vector" else wanted[..., 0, :]) if op0 == "vector" else wanted
    bench.expect(bench.net.add(nw.MatrixMultiply(op0, op1), bench.input(a), bench.input(b)).output, wanted, f"{op0} {op1} {a.shape} {b.shape}")


def concatenation(bench: Bench, rng: np.random.Generator) -> None:
    axis, count = int(rng.integers(4)), pick(rng, 1, 2, 4)
    parts = [random(rng, *(pick(rng, 1, 3) if k == axis else 2 for k in range(4))) for _ in range(count)]
    layer = nw.Concatenation(None if axis == 1 else axis)
    bench.expect(bench.net.add(layer, *map(bench.input, parts)).output, np.concatenate(parts, axis), str(axis))


def padding(bench: Bench, rng: np.random.Generator) -> None:
    x, pre, post = random(rng, 1, 2, 6, 7), rng.integers(-2, 3, 2), rng.integers(-2, 3, 2)
    wide = np.pad(x, [(0, 0), (0, 0), *((max(p, 0), max(q, 0)) for p, q in zip(pre, post))])
    cut = tuple(slice(max(-p, 0), n - max(-q, 0)) for p, q, n in zip(pre, post, wide.shape[2:]))
    layer = nw.Padding([int(p) for p in pre], [int(q) for q in post])
    bench.expect(bench.net.add(layer, bench.input(x)).output, wide[(slice(None), slice(None), *cut)], f"{pre} {post}")


def reduction(bench: Bench, rng: np.random.Generator) -> None:
    x, op, mask, keep = random(rng, 2, 3, 4), pick(rng, *nw.reduce.OPERATIONS), int(rng.integers(1, 8)), pick(rng, True, False)
    axes = tuple(k for k in range(3) if mask >> k & 1)
    wanted = getattr(np, {"avg": "mean"}.get(op, op))(x.astype(float), axis=axes, keepdims=keep)
    bench.expect(bench.net.add(nw.Reduce(op, mask, keep), bench.input(x)).output, wanted, f"{op} {mask} {keep}")


def top_k(bench: Bench, rng: np.random.Generator) -> None:
    x, op, axis = np.rint(random(rng, 4, 6, 5) * 2), pick(rng, "max", "min"), int(rng.integers(3))
    k = int(rng.integers(1, x.shape[axis] + 1))
    order = np.argsort(-x if op == "max" else x, axis=axis, kind="stable").take(range(k), axis)
    added = bench.net.add(nw.TopK(op, k, 1 << axis), bench.input(x))
    bench.expect(added.outputs[0], np.take_along_axis(x, order, axis), f"{op} {k} {axis}")
    bench.expect(added.outputs[1], order.astype(np.int32), f"{op} {k} {axis} places")


def gather(bench: Bench, rng: np.random.Generator) -> None:
    x, mode = random(rng, 2, 4, 5), pick(rng, "default", "element", "nd", "batched")
    axis = int(rng.integers(3))
    if mode == "default":
        index = rng.integers(0, x.shape[axis], (2, 3)).astype(np.int32)
        wanted = np.take(x, index, axis)
    elif mode == "element":
        shape = [2, 4, 5]
        shape[axis] = 3
        index = rng.integers(0, x.shape[axis], shape).astype(np.int32)
        wanted = np.take_along_axis(x, index, axis)
    elif mode == "nd":
        index = np.stack([rng.integers(0, n, 6) for n in x.shape[:2]], -1).astype(np.int32)
        wanted = x[index[:, 0], index[:, 1]]
    else:
        axis = pick(rng, 1, 2)
        index = rng.integers(0, x.shape[axis], (2, 3)).astype(np.int32)
        wanted = np.stack([np.take(x[b], index[b], axis - 1) for b in range(2)])
    layer = nw.Gather(mode if mode != "batched" else "default", axis if mode != "nd" else 0, int(mode == "batched"))
    bench.expect(bench.net.add(layer, bench.input(x), bench.input(index)).output, wanted, f"{mode} {axis}")


def squeeze(bench: Bench, rng: np.random.Generator) -> None:
    x = random(rng, 1, 3, 1, 2)
    axes = pick(rng, [0], [2], [0, 2], [-2])
    constant = bench.net.add(nw.Constant(np.array(axes, np.int64))).output
    bench.expect(bench.net.add(nw.Squeeze(), bench.input(x), constant).output, np.squeeze(x, tuple(axes)))
    bench.expect(bench.net.add(nw.Unsqueeze(), bench.input(x[0]), constant).output, np.expand_dims(x[0], tuple(axes)))


def constants(bench: Bench, rng: np.random.Generator) -> None:
    values, x = random(rng, 3, 4), random(rng, 3, 4)
    constant = bench.net.add(nw.Constant(values.ravel(), (3, 4))).output
    bench.expect(bench.net.add(nw.Elementwise("sum"), constant, bench.input(x)).output, values + x)


LAYERS = (
    convolution, deconvolution, pooling, fully_connected, lrn, softmax, ragged_softmax, recurrent, scale, activation, unary, elementwise,
    shuffle, sliced, matrix_multiply, concatenation, padding, reduction, top_k, gather, squeeze, constants,
)  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda f: f.__name__)
def test_layer_means_what_numpy_says(layer: Callable[[Bench, np.random.Generator], None]) -> None:
    filled(layer).check()


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=lambda f: f.__name__)
def test_engine_means_what_numpy_says(layer: Callable[[Bench, np.random.Generator], None]) -> None:
    filled(layer).check(1e-4, engine=True)


def test_implicit_batch_leaves_axis_0_alone() -> None:
    rng = np.random.default_rng(3)
    bench = Bench(implicit_batch=True)
    x = random(rng, 2, 3, 6, 6)
    w, b = random(rng, 4, 3, 3, 3), random(rng, 4)
    conv = bench.net.add(nw.Convolution(4, (3, 3), w, b), bench.input(x)).output
    assert conv.shape == (4, 4, 4)
    wanted = convolved(x, w, b, (1, 1), (1, 1), (4, 4), (0, 0), 1)
    bench.expect(conv, wanted)
    fc_w = random(rng, 5, 64)
    bench.expect(bench.net.add(nw.FullyConnected(5, fc_w), conv).output, (wanted.reshape(2, 64) @ fc_w.T).reshape(2, 5, 1, 1))
    bench.expect(bench.net.add(nw.Reduce("max", 1 << 0), conv).output, wanted.max(1))
    bench.expect(bench.net.add(nw.Shuffle((1, 2, 0), (16, 4)), conv).output, wanted.transpose(0, 2, 3, 1).reshape(2, 16, 4))
    constant = bench.net.add(nw.Constant(b.reshape(4, 1, 1))).output
    bench.expect(bench.net.add(nw.Elementwise("prod"), conv, constant).output, wanted * b.reshape(1, 4, 1, 1))
    values = bench.net.add(nw.Constant(random(rng, 2, 4, 4))).output
    assert bench.net.add(nw.Concatenation(), conv, values).output.shape == (6, 4, 4)
    bench.check()


def test_parameters_may_change_until_the_build() -> None:
    net = nw.Network()
    x = net.add_input("x", "f32", (1, 1, 8, 8))
    conv = net.add(nw.Convolution(1, (2, 2), np.ones(4)), x)
    assert conv.output.shape == (1, 1, 7, 7)
    conv.stride = (2, 2)
    assert conv.output.shape == (1, 1, 4, 4)
    net.declare(x, net.declared(x)[0], (1, 1, 6, 6))
    assert conv.output.shape == (1, 1, 3, 3)


def test_free_axes_take_their_range_at_the_build() -> None:
    net = nw.Network()
    x = net.add_input("x", "f32", (-1, 3, -1, 8))
    pool = net.add(nw.Pooling("max", (2, 2)), x).output
    assert pool.shape == (-1, 3, -1, 4)
    shape = net.add(nw.Shape(), pool).output
    flat = net.add(nw.Shuffle(reshape=(0, -1)), pool)
    assert flat.output.shape == (-1, -1)
    again = net.add(nw.Shuffle(), flat.output)
    again.set_input(1, shape)
    net.mark_output(again.output, "y")
    graph = net.to_graph({"x": ((1, 3, 4, 8), (2, 3, 8, 8), (4, 3, 16, 8))})
    data = np.random.default_rng(0).standard_normal((3, 3, 10, 8)).astype(np.float32)
    (got,) = run(graph, {"x": data}).values()
    np.testing.assert_array_equal(got, data.reshape(3, 3, 5, 2, 4, 2).max((3, 5)))


def test_errors_name_the_layer() -> None:
    net = nw.Network()
    x = net.add_input("x", "f32", (1, 2, 8, 8))
    layer = net.add(nw.Convolution(4, (3, 3), np.ones(5)), x, name="stem")
    with pytest.raises(ShapeError, match=r"kernel has the wrong number of elements\n  where: stem\n  got: 5 \(5,\)\n  expected: 72"):
        _ = layer.output.shape
