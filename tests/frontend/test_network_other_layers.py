"""The layers of Network that versions of TensorRT after 5 have, against numpy, on random configurations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from strop.errors import GraphError, ShapeError, UnsupportedError
from strop.frontend import network as nw
from tests.frontend.network_bench import Array, Bench, filled, pick, random

# ---- element by element


def select(bench: Bench, rng: np.random.Generator) -> None:
    shapes = [tuple(n if rng.random() < 0.7 else 1 for n in (2, 3, 4)) for _ in range(3)]
    flag, a, b = random(rng, *shapes[0]) > 0, *(random(rng, *s) for s in shapes[1:])
    bench.expect(bench.net.add(nw.Select(), *map(bench.input, (flag, a, b))).output, np.where(flag, a, b), str(shapes))


def parametric_relu(bench: Bench, rng: np.random.Generator) -> None:
    x, slope = random(rng, 2, 3, 4), random(rng, *(n if rng.random() < 0.6 else 1 for n in (2, 3, 4)))
    bench.expect(bench.net.add(nw.ParametricRelu(), bench.input(x), bench.input(slope)).output, np.where(x > 0, x, slope * x))


def cast(bench: Bench, rng: np.random.Generator) -> None:
    kinds = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "i64": np.int64, "bool": np.bool_, "i8": np.int8, "u8": np.uint8}
    source, to = pick(rng, *kinds), pick(rng, *kinds)
    x = np.abs(np.rint(random(rng, 3, 4) * 5)).astype(kinds[source])
    bench.expect(bench.net.add(nw.Cast(to), bench.input(x)).output, x.astype(kinds[to]), f"{source} {to}")


def quantize(bench: Bench, rng: np.random.Generator) -> None:
    x, to, axis = random(rng, 2, 3, 4) * 40, pick(rng, "i8", "u8"), pick(rng, None, 0, 1, 2, -1)
    shape = () if axis is None else (x.shape[axis],)
    scale = np.exp2(rng.integers(-3, 2, shape)).astype(np.float32)  # exact quotients: ties are ties
    along = scale if axis is None else scale.reshape([-1 if k == axis % 3 else 1 for k in range(3)])
    low, high = (-128, 127) if to == "i8" else (0, 255)
    kind = np.int8 if to == "i8" else np.uint8
    wanted = np.clip(np.rint(x / along), low, high).astype(kind)
    layer = nw.Quantize(to, -1 if axis is None else axis)
    bench.expect(bench.net.add(layer, bench.input(x), bench.constant(scale)).output, wanted, f"{to} {axis}")
    back = nw.Dequantize(layer.axis)
    bench.expect(bench.net.add(back, bench.input(wanted), bench.constant(scale)).output, wanted * along, f"back {to} {axis}")


# ---- sampling


def taps(size: int, count: int, mode: str, coordinates: str, rounding: str, exclude: bool, a: float) -> Array:
    """[count, size]: the weights of the elements of an axis in those of the resized one (TensorRT, IResizeLayer)."""
    table = np.zeros((count, size))
    for i in range(count):
        match coordinates:
            case "align_corners":
                x = i * (size - 1) / (count - 1) if count > 1 else 0.0
            case "half_pixel":
                x = (i + 0.5) * size / count - 0.5
            case _:
                x = i * size / count
        if mode == "nearest":
            at = {"half_up": math.floor(x + 0.5), "half_down": math.ceil(x - 0.5), "floor": math.floor(x), "ceil": math.ceil(x)}[rounding]
            table[i, min(max(at, 0), size - 1)] = 1
            continue
        low = math.floor(x)
        if mode == "linear":
            near = {low: 1 - (x - low), low + 1: x - low}
        else:
            near = {}
            for at in range(low - 1, low + 3):
                d = abs(x - at)
                near[at] = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
        if exclude:
            near = {at: w for at, w in near.items() if 0 <= at < size}
            near = {at: w / sum(near.values()) for at, w in near.items()}
        for at, w in near.items():
            table[i, min(max(at, 0), size - 1)] += w
    return table


def resize(bench: Bench, rng: np.random.Generator) -> None:
    mode, coordinates, rounding = pick(rng, *nw.resize.MODES), pick(rng, *nw.resize.COORDINATES), pick(rng, *nw.resize.ROUNDING)
    x, by_scale = random(rng, 1, 2, pick(rng, 3, 4), pick(rng, 4, 5)), pick(rng, True, False)
    factor = pick(rng, 0.5, 2.0, 3.0) if by_scale else 1.0
    sizes = [int(n * factor) for n in x.shape[2:]] if by_scale else [pick(rng, 2, 4, 7), pick(rng, 3, 5, 9)]
    if by_scale and any(n * factor != s for n, s in zip(x.shape[2:], sizes)):
        by_scale = False
    exclude, a = mode == "cubic" and pick(rng, True, False), pick(rng, -0.75, -0.5)
    wanted = x.astype(float)
    for axis, size in zip((2, 3), sizes):
        table = taps(x.shape[axis], size, mode, coordinates, rounding, exclude, a)
        wanted = np.moveaxis(np.tensordot(wanted, table, (axis, 1)), -1, axis)
    layer = nw.Resize(None if by_scale else (1, 2, *sizes), (1, 1, factor, factor) if by_scale else None, mode, coordinates, rounding, False, exclude, a)
    bench.expect(bench.net.add(layer, bench.input(x)).output, wanted, f"{mode} {coordinates} {rounding} {x.shape} {sizes} {by_scale} {exclude}")


def around(at: float, mode: str) -> dict[int, float]:
    """The elements next to a position and their weights."""
    if mode == "nearest":
        return {round(at): 1.0}
    low, a = math.floor(at), -0.75
    if mode == "linear":
        return {low: 1 - (at - low), low + 1: at - low}
    far = {k: abs(at - k) for k in range(low - 1, low + 3)}
    return {k: (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4) for k, d in far.items()}


def placed(k: int, size: int, padding: str, align: bool) -> int | None:
    """Which element stands for a place that may lie outside."""
    if padding == "clamp" or 0 <= k < size:
        return min(max(k, 0), size - 1)
    while padding == "reflect" and not 0 <= k < size:  # about the outermost centers, or the edges half an element beyond them
        k = (-k if align else -1 - k) if k < 0 else (2 * size - 2 - k if align else 2 * size - 1 - k)
    return k if 0 <= k < size else None


def grid_sample(bench: Bench, rng: np.random.Generator) -> None:
    mode, padding, align = pick(rng, "nearest", "linear", "cubic"), pick(rng, "fill", "clamp", "reflect"), pick(rng, True, False)
    x, grid = random(rng, 2, 2, pick(rng, 3, 4), 5), rng.uniform(-1.3, 1.3, (2, 3, 4, 2)).astype(np.float32)
    wanted = np.zeros((2, 2, 3, 4))
    for b, i, j in itertools.product(range(2), range(3), range(4)):
        axes = []
        for g, size in zip(grid[b, i, j].tolist(), (5, x.shape[2])):
            taps = around((g + 1) / 2 * (size - 1) if align else ((g + 1) * size - 1) / 2, mode)
            axes.append([(placed(k, size, padding, align), w) for k, w in taps.items()])
        for (column, u), (row, v) in itertools.product(*axes):
            if column is not None and row is not None:
                wanted[b, :, i, j] += u * v * x[b, :, row, column]
    bench.expect(bench.net.add(nw.GridSample(mode, padding, align), bench.input(x), bench.input(grid)).output, wanted, f"{mode} {padding} {align}")


# ---- folding


def einsum(bench: Bench, rng: np.random.Generator) -> None:
    equation = pick(rng, "ij,jk->ik", "bij,bjk->bik", "ij->ji", "ij->i", "bij,kj->bik", "i,j->ij", "abc,cd,b->ad", "ij,ij->", "bhsd,bhtd->bhst", "ij,jk", "ij,j->")
    size = {c: pick(rng, 1, 2, 3, 5) for c in "abcdehijkst"}
    operands = [random(rng, *(size[c] for c in term)) for term in equation.partition("->")[0].split(",")]
    bench.expect(bench.net.add(nw.Einsum(equation), *map(bench.input, operands)).output, np.einsum(equation, *operands, dtype=float), equation)


def normalization(bench: Bench, rng: np.random.Generator) -> None:
    x, v2, epsilon = random(rng, 2, 6, 3, pick(rng, 2, 5)), pick(rng, True, False), pick(rng, 1e-5, 0.1)
    kind = pick(rng, "layer", "instance", "group", "all")
    axes, groups = {"layer": ((3,), 1), "instance": ((2, 3), 1), "group": ((2, 3), pick(rng, 2, 3)), "all": ((1, 2, 3), 1)}[kind]
    split = x.astype(float).reshape(2, groups, 6 // groups, *x.shape[2:]) if groups > 1 else x.astype(float)
    along = (2, 3, 4) if groups > 1 else axes
    normal = ((split - split.mean(along, keepdims=True)) / np.sqrt(split.var(along, keepdims=True) + epsilon)).reshape(x.shape)
    per_group = groups > 1 and not v2
    shape = (1, 1, 1, x.shape[3]) if kind == "layer" else (1, groups if per_group else 6, 1, 1)
    scale, bias = random(rng, *shape), random(rng, *shape)
    wide = [np.repeat(a, 6 // groups, 1) if per_group else a for a in (scale, bias)]
    layer = nw.Normalization(sum(1 << a for a in axes), epsilon, groups, v2)
    bench.expect(bench.net.add(layer, *map(bench.input, (x, scale, bias))).output, normal * wide[0] + wide[1], f"{kind} {groups} {v2}")


def cumulative(bench: Bench, rng: np.random.Generator) -> None:
    x, axis, exclusive, reverse = random(rng, 3, 4, 5), int(rng.integers(3)), pick(rng, True, False), pick(rng, True, False)
    turned = np.flip(x.astype(float), axis) if reverse else x.astype(float)
    wanted = turned.cumsum(axis) - (turned if exclusive else 0)
    layer = nw.Cumulative("sum", exclusive, reverse)
    bench.expect(bench.net.add(layer, bench.input(x), bench.constant(np.int32(axis))).output, np.flip(wanted, axis) if reverse else wanted, f"{axis} {exclusive} {reverse}")


# ---- picking and placing


def scatter(bench: Bench, rng: np.random.Generator) -> None:
    x, wanted = (x := random(rng, 4, 5, 3)), x.copy()
    if pick(rng, True, False):
        axis = int(rng.integers(3))
        index = np.argsort(random(rng, *x.shape), axis).astype(np.int32)
        index = index.take(range(2), axis)
        updates = random(rng, *index.shape)
        np.put_along_axis(wanted, index.astype(np.int64), updates, axis)
        layer = nw.Scatter("element", axis)
    else:
        places = rng.permutation(20)[:4]
        index = np.stack(np.unravel_index(places, (4, 5)), -1).astype(np.int32)
        updates = random(rng, 4, 3)
        wanted[index[:, 0], index[:, 1]] = updates
        layer = nw.Scatter("nd")
    bench.expect(bench.net.add(layer, *map(bench.input, (x, index, updates))).output, wanted, layer.mode)


def one_hot(bench: Bench, rng: np.random.Generator) -> None:
    depth, axis = pick(rng, 1, 3, 6), pick(rng, 0, 1, 2, -1)
    index, values = rng.integers(0, depth, (2, 3)).astype(np.int32), random(rng, 2)
    wanted = np.where(np.expand_dims(index, axis) == np.arange(depth).reshape([-1 if k == axis % 3 else 1 for k in range(3)]), values[1], values[0])
    bench.expect(bench.net.add(nw.OneHot(axis), bench.input(index), bench.input(values), bench.constant(np.int32(depth))).output, wanted, f"{depth} {axis}")


def reverse_sequence(bench: Bench, rng: np.random.Generator) -> None:
    batch_axis = pick(rng, 0, 1)
    x = random(rng, *(shape := pick(rng, (4, 3, 2), (3, 5))))
    lengths = rng.integers(0, shape[1 - batch_axis] + 1, shape[batch_axis]).astype(np.int32)
    rows, wanted = np.moveaxis(x, batch_axis, 0), np.moveaxis(x.copy(), batch_axis, 0)
    for b, n in enumerate(lengths):
        wanted[b, :n] = rows[b, :n][::-1]
    layer = nw.ReverseSequence(batch_axis, 1 - batch_axis)
    bench.expect(bench.net.add(layer, bench.input(x), bench.input(lengths)).output, np.moveaxis(wanted, 0, batch_axis), f"{batch_axis} {lengths}")


def fill(bench: Bench, rng: np.random.Generator) -> None:
    shape, start, dtype = tuple(pick(rng, 1, 2, 4) for _ in range(pick(rng, 1, 2, 3))), int(rng.integers(-5, 5)), pick(rng, "f32", "i32", "i64")
    delta = [int(d) for d in rng.integers(-3, 4, len(shape))]
    wanted = start + sum(g * d for g, d in zip(np.indices(shape), delta))
    layer = nw.Fill(shape, start, delta, dtype)
    tensor = bench.net.add(layer).output
    assert tensor.dtype.name == dtype
    bench.expect(bench.net.add(nw.Cast("f32"), tensor).output, wanted, f"{shape} {start} {delta}")


def non_zero(bench: Bench, rng: np.random.Generator) -> None:
    x = np.rint(random(rng, *(pick(rng, 1, 3, 4) for _ in range(pick(rng, 1, 2, 3)))))
    bench.expect(bench.net.add(nw.NonZero(pick(rng, "i32", "i64")), bench.input(x)).output, np.array(np.nonzero(x)), str(x.shape))


def nms(bench: Bench, rng: np.random.Generator) -> None:
    samples, count, classes, own, center = pick(rng, 1, 2), pick(rng, 1, 7, 12), pick(rng, 1, 3), pick(rng, True, False), pick(rng, True, False)
    most, overlap, least = pick(rng, 1, 3, 20), np.float32(pick(rng, 0.1, 0.5)), np.float32(pick(rng, 0.0, 0.4))
    place, size = rng.uniform(0, 3, (2, samples, count, classes if own else 1, 2)).astype(np.float32)
    size += np.float32(0.5)
    boxes = np.concatenate([place, size if center else place + size], -1)
    scores = rng.uniform(0, 1, (samples, count, classes)).astype(np.float32)
    low, high = (place - size / 2, place + size / 2) if center else (place, place + size)
    wanted = []
    for b, c in itertools.product(range(samples), range(classes)):
        kept: list[int] = []
        k = c if own else 0
        for n in np.argsort(-scores[b, :, c]):
            if scores[b, n, c] > least and len(kept) < most and all(shared(low[b, n, k], high[b, n, k], low[b, m, k], high[b, m, k]) <= overlap for m in kept):
                kept.append(int(n))
        wanted += [(b, c, n) for n in kept]
    given = [bench.input(boxes if own else boxes[:, :, 0]), bench.input(scores), bench.constant(np.int32(most)), bench.constant(overlap), bench.constant(least)]
    added = bench.net.add(nw.NMS("center_sizes" if center else "corner_pairs"), *given)
    bench.expect(added.outputs[0], np.array(wanted).reshape(-1, 3), f"{boxes.shape} {most} {overlap} {least} {center}")
    bench.expect(added.outputs[1], np.asarray(len(wanted)))


def shared(low: Array, high: Array, low2: Array, high2: Array) -> float:
    """Intersection over union of two boxes."""
    inner = np.prod(np.maximum(np.minimum(high, high2) - np.maximum(low, low2), 0))
    return float(inner / (np.prod(high - low) + np.prod(high2 - low2) - inner))


# ---- attention


def attention(bench: Bench, rng: np.random.Generator) -> None:
    batch, heads, own, s, t, d = pick(rng, 1, 2), 4, pick(rng, 1, 2, 4), pick(rng, 1, 3, 5), pick(rng, 1, 5, 6), pick(rng, 2, 8)
    q, k, v = random(rng, batch, heads, s, d), random(rng, batch, own, t, d), random(rng, batch, own, t, 3)
    norm, causal, masked = pick(rng, "softmax", "softmax", "none"), "none", None
    scores = np.einsum("bhsd,bhtd->bhst", q, np.repeat(k, heads // own, 1), dtype=float)
    if norm == "softmax":
        causal, masked = pick(rng, "none", "upper_left", *(("lower_right",) if t >= s else ())), pick(rng, None, "bool", "float")
        mask = random(rng, *(n if rng.random() < 0.5 else 1 for n in (batch, heads, s)), t)
        if masked:
            mask[..., 0] = 1  # some key is always seen
            scores = scores + (np.where(mask > 0, 0, -np.inf) if masked == "bool" else mask)
        shift = {"none": t, "upper_left": 0, "lower_right": t - s}[causal]
        scores = np.where(np.arange(t) > np.arange(s)[:, None] + shift, -np.inf, scores)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
    given = [*map(bench.input, (q, k, v))] + ([bench.input(mask > 0 if masked == "bool" else mask)] if masked else [])
    wanted = np.einsum("bhst,bhte->bhse", scores, np.repeat(v, heads // own, 1))
    bench.expect(bench.net.add(nw.Attention(norm, causal), *given).output, wanted, f"{norm} {causal} {masked} {q.shape} {k.shape}")


def rotary_embedding(bench: Bench, rng: np.random.Generator) -> None:
    b, s, d, interleaved, by_position = pick(rng, 1, 2), pick(rng, 1, 4), pick(rng, 4, 8), pick(rng, True, False), pick(rng, True, False)
    size = pick(rng, 0, 2, 4, d)
    half = (size or d) // 2
    x, angles = random(rng, b, 3, s, d), random(rng, *((9, half) if by_position else (b, s, half)))
    positions = rng.integers(0, 9, (b, s)).astype(np.int32)
    angle = (angles[positions] if by_position else angles)[:, None]
    wanted = x.astype(float)
    pairs = [(2 * i, 2 * i + 1) if interleaved else (i, i + half) for i in range(half)]
    for i, (p, r) in enumerate(pairs):
        z = (x[..., p] + 1j * x[..., r]) * np.exp(1j * angle[..., i])
        wanted[..., p], wanted[..., r] = z.real, z.imag
    given = [bench.input(x), bench.input(np.cos(angles)), bench.input(np.sin(angles))] + ([bench.input(positions)] if by_position else [])
    bench.expect(bench.net.add(nw.RotaryEmbedding(interleaved, size), *given).output, wanted, f"{x.shape} {size} {interleaved} {by_position}")


def kv_cache(bench: Bench, rng: np.random.Generator) -> None:
    b, h, t, s = pick(rng, 1, 3), pick(rng, 1, 2), pick(rng, 4, 7), pick(rng, 1, 2, 4)
    cache, update, start = random(rng, b, h, t, 3), random(rng, b, h, s, 3), rng.integers(0, t, b).astype(np.int32)
    wanted = cache.copy()
    for k, at in enumerate(start):
        wanted[k, :, at : at + s] = update[k, :, : t - at]
    bench.expect(bench.net.add(nw.KVCacheUpdate(), *map(bench.input, (cache, update, start))).output, wanted, f"{cache.shape} {s} {start}")


# ---- control


def loop(bench: Bench, rng: np.random.Generator) -> None:
    """A running sum over slices of x: counted, ended by its own value, or both, whichever is first."""
    x, axis, reverse = np.abs(random(rng, 5, 5)), pick(rng, 0, 1), pick(rng, True, False)
    count, ends = pick(rng, 0, 1, 4, 5), pick(rng, "count", "while", "both")
    limit = float(rng.uniform(0, 12))
    net = bench.net
    made = nw.Loop(net)
    state = made.recurrence(bench.constant(np.zeros(5, np.float32)))
    total = net.add(nw.Elementwise("sum"), state.output, made.iterator(bench.input(x), axis, reverse).output).output
    state.set_input(1, total)
    number = made.recurrence(bench.constant(np.float32(0)))
    number.set_input(1, net.add(nw.Elementwise("sum"), number.output, bench.constant(np.float32(1))).output)
    from_outside = pick(rng, True, False)
    if ends != "while":
        made.trip_limit(bench.input(np.asarray(count, np.int32)) if from_outside else bench.constant(np.int32(count)), "count")
    if ends != "count":
        below = net.add(nw.Elementwise("less"), net.add(nw.Reduce("sum", 1), state.output).output, bench.constant(np.float32(limit))).output
        early = net.add(nw.Elementwise("less"), number.output, bench.constant(np.float32(5))).output
        made.trip_limit(net.add(nw.Elementwise("and"), below, early).output, "while")
    kind, new = pick(rng, "concatenate", "reverse"), pick(rng, 0, 1)
    values = made.result(total, kind, new)
    values.set_input(1, bench.constant(np.int32(6)))
    slices = np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]
    at, sums = np.zeros(5), []
    while len(sums) < (count if ends != "while" else 5) and (ends == "count" or at.sum() < limit):
        at = at + slices[len(sums)]
        sums.append(at)
    ordered = sums[::-1] if kind == "reverse" else sums
    wanted = np.array([*ordered, *np.zeros((6 - len(sums), 5))])
    note = f"{ends} {count} {limit} {kind} {new} {reverse}"
    bench.expect(made.result(state.output).output, at, note)
    bench.expect(values.output, np.moveaxis(wanted, 0, new), note)
    bench.expect(made.result(number.output).output, np.asarray(float(len(sums))), note)


def conditional(bench: Bench, rng: np.random.Generator) -> None:
    x, flag, known = random(rng, 3, 4), pick(rng, True, False), pick(rng, True, False)
    made = nw.Conditional(bench.net)
    made.set_condition(bench.constant(np.asarray(flag)) if known else bench.input(np.asarray(flag)))
    inner = made.input(bench.input(x)).output
    yes, no = (bench.net.add(nw.Unary(op), inner).output for op in ("abs", "neg"))
    bench.expect(made.output(yes, no).output, np.abs(x) if flag else -x, f"{flag} {known}")


LAYERS = (
    select, parametric_relu, cast, quantize, resize, grid_sample, einsum, normalization, cumulative, scatter, one_hot, reverse_sequence, fill,
    non_zero, nms, attention, rotary_embedding, kv_cache, loop, conditional,
)  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda f: f.__name__)
def test_layer_means_what_numpy_says(layer: Callable[[Bench, np.random.Generator], None]) -> None:
    filled(layer).check()


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=lambda f: f.__name__)
def test_engine_means_what_numpy_says(layer: Callable[[Bench, np.random.Generator], None]) -> None:
    filled(layer).check(1e-4, engine=True)


# ---- what is refused


def looped(**limits: Any) -> tuple[nw.Network, nw.Loop, nw.Recurrence]:
    net = nw.Network()
    made = nw.Loop(net, "walk")
    state = made.recurrence(net.add_input("x", "f32", (3,)))
    for kind, tensor in limits.items():
        made.trip_limit(net.add(nw.Constant(tensor)).output, kind)
    return net, made, state


def test_loops_that_are_refused() -> None:
    with pytest.raises(GraphError, match="a network with an implicit batch takes no loops"):
        nw.Loop(nw.Network(implicit_batch=True))
    net, made, state = looped(count=np.int32(3))
    net.mark_output(made.result(state.output).output)
    with pytest.raises(GraphError, match="nothing says what a recurrence becomes"):
        net.to_graph()
    state.set_input(1, net.add(nw.Concatenation(0), state.output, state.output).output)
    with pytest.raises(UnsupportedError, match=r"a round changes the type of .*\n.*\n  got: f32\[3\] becomes f32\[6\]"):
        net.to_graph()
    net, made, state = looped()
    state.set_input(1, state.output)
    net.mark_output(made.result(state.output).output)
    with pytest.raises(UnsupportedError, match="a loop without a trip limit never ends"):
        net.to_graph()
    net, made, state = looped(count=np.int32(3))
    state.set_input(1, state.output)
    short = made.result(state.output, "concatenate")
    short.set_input(1, net.add(nw.Constant(np.int32(2))).output)
    net.mark_output(short.output)
    with pytest.raises(ShapeError, match="is shorter than there are rounds"):
        net.to_graph()
    net, made, state = looped()
    made.trip_limit(net.add_input("n", "i32", ()), "count")
    state.set_input(1, state.output)
    net.mark_output(made.result(state.output, "concatenate").output)
    with pytest.raises(UnsupportedError, match="nothing says how many values a loop collects"):
        net.to_graph()


def test_a_condition_may_not_read_an_iterator() -> None:
    net, made, state = looped()
    slices = made.iterator(net.add_input("y", "f32", (4, 3))).output
    state.set_input(1, net.add(nw.Elementwise("sum"), state.output, slices).output)
    zero = net.add(nw.Constant(np.float32(0))).output
    made.trip_limit(net.add(nw.Elementwise("less"), net.add(nw.Reduce("sum", 1), slices).output, zero).output, "while")
    net.mark_output(made.result(state.output).output)
    with pytest.raises(UnsupportedError, match="a condition of a loop that looks at more than its recurrences"):
        net.to_graph()


def test_loops_nest() -> None:
    """Powers: three rounds of an outer loop, in each of which an inner one doubles four times."""
    bench = Bench()
    net, x = bench.net, random(np.random.default_rng(0), 3)
    outer = nw.Loop(net)
    outer.trip_limit(bench.constant(np.int32(3)), "count")
    state = outer.recurrence(bench.input(x))
    inner = nw.Loop(net)
    inner.trip_limit(bench.constant(np.int32(4)), "count")
    own = inner.recurrence(state.output)
    own.set_input(1, net.add(nw.Elementwise("sum"), own.output, own.output).output)
    state.set_input(1, inner.result(own.output).output)
    bench.expect(outer.result(state.output).output, x * 2.0**12)
    bench.check(engine=True)


def test_assertions_are_looked_at_when_the_network_is_built() -> None:
    net = nw.Network()
    x = net.add_input("x", "f32", (3, 4))
    sizes = net.add(nw.Shape(), x).output
    net.mark_output(net.add(nw.Identity(), x).output)
    holds = net.add(nw.Elementwise("equal"), sizes, net.add(nw.Constant(np.array([3, 4]))).output).output
    net.add(nw.Assertion("three by four"), holds)
    net.to_graph()
    net.add(nw.Assertion("four by four"), net.add(nw.Elementwise("equal"), sizes, net.add(nw.Constant(np.array([4, 4]))).output).output)
    with pytest.raises(ShapeError, match="an assertion does not hold: four by four"):
        net.to_graph()
    net.layers.pop()
    net.add(nw.Assertion("positive"), net.add(nw.Elementwise("greater"), x, net.add(nw.Constant(np.zeros((1, 1), np.float32))).output).output)
    with pytest.raises(UnsupportedError, match="an assertion about data"):
        net.to_graph()


def branching(bench: Bench, x: Array, flag: bool, *, watched: bool = False) -> None:
    """A product in one branch; in the other a loop that doubles until 50 is reached, which zeros never do."""
    net, w = bench.net, random(np.random.default_rng(1), 400, 400)
    made = nw.Conditional(net)
    made.set_condition(bench.input(np.asarray(flag)))
    inner = made.input(bench.input(x)).output
    product = net.add(nw.MatrixMultiply(), inner, bench.constant(w)).output
    walk = nw.Loop(net)
    state = walk.recurrence(inner)
    below = net.add(nw.Elementwise("less"), net.add(nw.Reduce("max", 3), state.output).output, bench.constant(np.float32(50))).output
    walk.trip_limit(below, "while")
    state.set_input(1, net.add(nw.Elementwise("sum"), state.output, state.output).output)
    doubled = walk.result(state.output).output
    negated = net.add(nw.Unary("neg"), product).output
    rounds = 0 if x.max() == 0 else np.ceil(np.log2(50 / x.max()))
    bench.expect(made.output(product, doubled).output, x @ w if flag else x * 2.0**rounds, str(flag))
    bench.expect(made.output(negated, inner).output, -(x @ w) if flag else x, str(flag))
    if watched:
        bench.expect(product, x @ w)


@pytest.mark.parametrize("flag", [True, False])
def test_only_the_branch_that_is_taken_runs(flag: bool) -> None:
    x = np.abs(random(np.random.default_rng(0), 4, 400))
    bench = Bench()
    branching(bench, x, flag)
    assert [node.op.label for node in bench.net.to_graph().nodes].count("loop_begin") == 3
    bench.check(engine=True)
    bench = Bench()
    branching(bench, x, flag, watched=True)  # something outside reads what a branch computes: both run
    assert [node.op.label for node in bench.net.to_graph().nodes].count("loop_begin") == 1
    bench.check()


def test_a_loop_without_end_in_the_other_branch_does_not_run() -> None:
    bench = Bench()
    branching(bench, np.zeros((4, 400), np.float32), True)
    bench.check(engine=True)


def test_conditionals_that_are_refused() -> None:
    net = nw.Network()
    x, made = net.add_input("x", "f32", (3,)), nw.Conditional(net)
    net.mark_output(made.output(x, net.add(nw.Shuffle(reshape=(3, 1)), x).output).output)
    with pytest.raises(GraphError, match="the conditional has no condition"):
        net.to_graph()
    made.set_condition(net.add_input("f", "bool", ()))
    with pytest.raises(UnsupportedError, match="a computed condition decides over the type of a result"):
        net.to_graph()
    with pytest.raises(GraphError, match="has a condition already"):
        made.set_condition(x)
