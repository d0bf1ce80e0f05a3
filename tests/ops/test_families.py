"""What single ops promise beyond their samples, against loops and formulas written out here."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from strop.errors import InputError, OptionError, ShapeError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.op import Op, Type
from strop.ops import conv as conv_module
from strop.ops.attention import Attention
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.cumulative import CumSum
from strop.ops.data import Concat, Expand, Identity, Pad, Reshape, Slice, Split, Tile, Transpose
from strop.ops.elementwise import FUNCTIONS, Cast, Elementwise, make
from strop.ops.index import Gather, GatherElements, GatherND, OneHot, TopK, Trilu
from strop.ops.matmul import MatMul
from strop.ops.norm import LRN, BatchNorm, GroupNorm, LayerNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import ArgReduce, Reduce
from strop.ops.resize import Resize
from strop.ops.roi import MaxRoiPool
from strop.ops.scatter import ScatterElements, ScatterND
from strop.ops.softmax import LogSoftmax, Softmax
from tests.ops import loop_interpreter
from tests.ops.test_samples import types_of

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def apply(op: Op, *arrays: Array) -> Array:
    (result,) = op.reference(*arrays)
    return result


def loops_of(op: Op, *arrays: Array) -> Array:
    """Result 0 of the loop program."""
    types = types_of(arrays)
    program = op.loops(types, op.infer(types))
    assert program is not None
    return loop_interpreter.run(program, arrays)["out0"]


# ---- elementwise


def test_expressions_are_cached_and_bound() -> None:
    assert make("clip", lo=0.0, hi=6.0).expr() is make("clip", hi=6.0, lo=0.0).expr()
    assert ex.show(make("clip", lo=0.0, hi=6.0).expr()) == "min(max($0, 0.0), 6.0)"
    assert ex.show(make("clip", hi=6.0).expr()) == "min($0, 6.0)"
    assert ex.show(make("clip").expr()) == "$0"


def test_params_are_completed_and_ordered() -> None:
    assert Elementwise("leaky_relu") == make("leaky_relu", alpha=0.01)
    assert Elementwise("selu", (("gamma", 2.0),)).params[1] == ("gamma", 2.0)
    assert make("selu", gamma=2.0).param["gamma"] == 2.0


def test_unknown_functions_and_params_are_named() -> None:
    with pytest.raises(UnsupportedError, match="frobnicate"):
        make("frobnicate")
    with pytest.raises(OptionError, match="slope"):
        make("leaky_relu", slope=1.0)


@pytest.mark.parametrize(
    "fn", ["sigmoid", "silu", "softplus", "log_sigmoid", "mish", "elu", "gelu"]
)
def test_activations_survive_large_operands(fn: str) -> None:
    x = np.asarray([-1e4, -200, -90, 0, 90, 200, 1e4], np.float32)
    y = apply(make(fn), x)
    assert np.isfinite(y).all()
    wide = apply(make(fn), x.astype(np.float64))
    np.testing.assert_allclose(y, wide, rtol=1e-5, atol=1e-6)


def test_softplus_of_small_operands_is_relatively_exact() -> None:
    x = np.asarray([-80, -40, -20], np.float32)
    np.testing.assert_allclose(apply(make("softplus"), x), np.exp(x.astype(np.float64)), rtol=1e-5)


def test_low_precision_is_rounded_once() -> None:
    x = RNG.uniform(-4, 4, 999).astype(dt.bf16.numpy)
    exact = apply(make("gelu"), x.astype(np.float64))
    ours = apply(make("gelu"), x).astype(np.float64)
    step = 2.0**-8  # half a unit in the last place of bf16, relative
    assert (np.abs(ours - exact) <= step * np.abs(exact) + 1e-6).all()


def test_integer_division_and_remainders() -> None:
    a, b = np.asarray([7, -7, 7, -7], np.int32), np.asarray([2, 2, -2, -2], np.int32)
    np.testing.assert_array_equal(apply(make("div"), a, b), [3, -3, -3, 3])
    np.testing.assert_array_equal(apply(make("mod"), a, b), [1, 1, -1, -1])
    np.testing.assert_array_equal(apply(make("fmod"), a, b), [1, -1, 1, -1])


def test_rounding_is_half_to_even() -> None:
    x = np.asarray([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(apply(make("round"), x), [-2, -2, -0.0, 0, 2, 2])


def test_where_takes_a_condition() -> None:
    op = make("where")
    kinds = [Type(dt.boolean, (2, 1)), Type(dt.i64, (3,)), Type(dt.i64, ())]
    assert op.infer(kinds) == (Type(dt.i64, (2, 3)),)
    with pytest.raises(ShapeError, match="where"):
        op.infer([kinds[1], kinds[1], kinds[1]])


def test_commutative_functions_commute() -> None:
    found = [f for f in FUNCTIONS.values() if f.commutative]
    assert {f.name for f in found} >= {"add", "mul", "min", "max", "eq"}
    for function in found:
        kind = {"int": np.int32, "bool": np.bool_}.get(function.kinds[0], np.float32)
        a, b = (RNG.integers(0, 2, 20).astype(kind) for _ in range(2))
        np.testing.assert_array_equal(
            apply(make(function.name), a, b), apply(make(function.name), b, a)
        )
        assert make(function.name).commutative
    assert not make("sub").commutative


def test_cast_truncates() -> None:
    x = np.asarray([-1.9, -0.5, 0.5, 1.9], np.float32)
    np.testing.assert_array_equal(apply(Cast(dt.i32), x), [-1, 0, 0, 1])
    np.testing.assert_array_equal(apply(Cast(dt.boolean), x), [True] * 4)


# ---- convolution and pools


def naive_conv(x: Array, w: Array, op: Conv) -> Array:
    """Convolution by its definition, channels first."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *((op.pads[k], op.pads[rank + k]) for k in range(rank))])
    kernel = w.shape[2:]
    out = [
        (x.shape[2 + k] - op.dilations[k] * (kernel[k] - 1) - 1) // op.strides[k] + 1
        for k in range(rank)
    ]
    result = np.zeros((x.shape[0], w.shape[0], *out))
    per_group = w.shape[0] // op.groups
    for o, place in itertools.product(range(w.shape[0]), np.ndindex(*out)):
        first = o // per_group * w.shape[1]
        for tap in np.ndindex(*kernel):
            at = tuple(
                p * s + t * d
                for p, s, t, d in zip(place, op.strides, tap, op.dilations, strict=True)
            )
            part = x[(slice(None), slice(first, first + w.shape[1]), *at)]
            result[(slice(None), o, *place)] += part @ w[(o, slice(None), *tap)]
    return result


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution_by_its_definition(rank: int, groups: int) -> None:
    op = Conv((2, 1, 1)[:rank], (1, 0, 2)[:rank] * 2, (1, 2, 1)[:rank], groups)
    x, w = normal(2, 4, *(6, 5, 4)[:rank]), normal(8, 4 // groups, *(3, 2, 2)[:rank])
    np.testing.assert_allclose(apply(op, x, w), naive_conv(x, w, op), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_convolution_is_the_adjoint(groups: int) -> None:
    """<conv(x), y> = <x, conv_transpose(y)> with the same window."""
    window = {"strides": (2, 3), "pads": (1, 2, 0, 1), "dilations": (2, 1)}
    x, w = normal(2, 6, 9, 11), normal(9, 6 // groups, 3, 4)
    forward = apply(Conv(**window, groups=groups), x, w)  # type: ignore[arg-type]
    y = normal(*forward.shape)
    rest = tuple(
        (
            size
            + window["pads"][k]
            + window["pads"][2 + k]
            - window["dilations"][k] * (kernel - 1)
            - 1
        )
        % window["strides"][k]
        for k, (size, kernel) in enumerate(((9, 3), (11, 4)))
    )
    back = ConvTranspose(**window, groups=groups, output_padding=rest)  # type: ignore[arg-type]
    x_back = apply(back, y, w)
    assert x_back.shape == x.shape
    np.testing.assert_allclose((forward * y).sum(), (x * x_back).sum(), rtol=1e-4)


def test_convolution_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1))
    x, w, b = normal(2, 3, 13, 9), normal(5, 3, 3, 3), normal(5)
    whole = apply(op, x, w, b)
    monkeypatch.setattr(conv_module, "_CHUNK", 1500)
    np.testing.assert_array_equal(apply(op, x, w, b), whole)


def test_layouts_agree() -> None:
    first = Conv((2, 1), (1, 1, 0, 1), (1, 1), 2)
    x, w, b = normal(2, 4, 7, 6), normal(6, 2, 3, 3), normal(6)
    last = first.replace(layout="NHWC")
    np.testing.assert_array_equal(
        apply(last, x.transpose(0, 2, 3, 1), w, b).transpose(0, 3, 1, 2), apply(first, x, w, b)
    )


def naive_pool(x: Array, op: MaxPool | AveragePool, out: tuple[int, ...]) -> Array:
    """Pools by their definition over the positions of each window that count."""
    rank = len(op.kernel)
    result = np.zeros((*x.shape[:2], *out))
    for place in np.ndindex(*out):
        values, count = [], 0
        for tap in np.ndindex(*op.kernel):
            at = [p * s + t * d - b for p, s, t, d, b in zip(
                place, op.strides, tap, op.dilations, op.pads, strict=False)]  # fmt: skip
            bounds = [(x.shape[2 + k], op.pads[k], op.pads[rank + k]) for k in range(rank)]
            inside = all(0 <= a < n for a, (n, _, _) in zip(at, bounds, strict=True))
            padded = all(-b <= a < n + e for a, (n, b, e) in zip(at, bounds, strict=True))
            if inside:
                values.append(x[(slice(None), slice(None), *at)])
            include = isinstance(op, AveragePool) and op.count_include_pad
            count += padded if include else inside
        where = (slice(None), slice(None), *place)
        result[where] = np.max(values, 0) if isinstance(op, MaxPool) else np.sum(values, 0) / count
    return result


@pytest.mark.parametrize("seed", range(20))
def test_pools_by_their_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = 1 + seed % 3
    kernel = tuple(map(int, rng.integers(1, 4, rank)))
    strides = tuple(map(int, rng.integers(1, 4, rank)))
    dilations = tuple(map(int, rng.integers(1, 3, rank)))
    pads = tuple(int(rng.integers(0, k)) for k in kernel * 2)
    x = rng.standard_normal((1, 2, *rng.integers(5, 9, rank))).astype(np.float32)
    for op in (
        MaxPool(kernel, strides, pads, dilations, bool(seed % 2)),
        AveragePool(kernel, strides, pads, dilations, bool(seed % 2)),
        AveragePool(kernel, strides, pads, dilations, bool(seed % 2), count_include_pad=True),
    ):
        got = apply(op, x)
        np.testing.assert_allclose(got, naive_pool(x, op, got.shape[2:]), rtol=1e-5, atol=1e-6)


def test_ceil_mode_drops_windows_that_start_in_padding() -> None:
    op = MaxPool((2,), (3,), (1, 1), (1,), ceil_mode=True)
    (out,) = op.infer([Type(dt.f32, (1, 1, 5))])  # starts 0, 3, 6 of 1 + 5 + 1: 6 is padding
    assert out.shape == (1, 1, 2)
    (out,) = op.infer([Type(dt.f32, (1, 1, 6))])
    assert out.shape == (1, 1, 3)


def test_lrn_by_its_definition() -> None:
    for size in (1, 2, 3, 4, 5):
        x = normal(2, 6, 3)
        op = LRN(size, 0.3, 0.6, 1.5)
        for c in range(6):
            low, high = max(0, c - (size - 1) // 2), min(6, c + math.ceil((size - 1) / 2) + 1)
            total = (x[:, low:high].astype(np.float64) ** 2).sum(1)
            want = x[:, c] / (1.5 + 0.3 / size * total) ** 0.6
            np.testing.assert_allclose(apply(op, x)[:, c], want, rtol=1e-5)


def test_softmax_of_huge_operands() -> None:
    x = np.asarray([[1e30, 0, -1e30], [3e38, 3e38, -3e38]], np.float32)
    np.testing.assert_array_equal(apply(Softmax(1), x), [[1, 0, 0], [0.5, 0.5, 0]])
    assert not np.isnan(apply(LogSoftmax(1), x)).any()


def test_attention_is_softmax_of_scores() -> None:
    q, k, v = normal(2, 4, 8), normal(2, 6, 8), normal(2, 6, 5)
    scores = np.matmul(q, k.swapaxes(1, 2)) * np.float32(0.25)
    want = np.matmul(apply(Softmax(-1), scores), v)
    np.testing.assert_allclose(apply(Attention(0.25), q, k, v), want, rtol=1e-5, atol=1e-6)


# ---- data and indices


@pytest.mark.parametrize("seed", range(40))
def test_slices_are_numpy_slices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = normal(*(int(n) for n in rng.integers(1, 7, 3)))
    starts, stops = rng.integers(-9, 10, (2, 2)).tolist()
    steps = [int(s) for s in rng.choice([-3, -2, -1, 1, 2, 3], 2)]
    op = Slice.of(x.shape, starts, stops, (2, -3), steps)
    (inferred,) = op.infer(types_of([x]))
    a, b = (slice(*t) for t in zip(starts, stops, steps, strict=True))
    want = x[b, :, a]
    assert inferred.shape == want.shape
    np.testing.assert_array_equal(apply(op, x), want)
    np.testing.assert_array_equal(loops_of(op, x), want)


def test_negative_pads_cut_before_padding() -> None:
    x = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(apply(Pad((-1, 2)), x), [1, 2, 3, 4, 0, 0])
    np.testing.assert_array_equal(apply(Pad((-1, 2), "reflect"), x), [1, 2, 3, 4, 3, 2])
    np.testing.assert_array_equal(apply(Pad((2, -2), "wrap"), x), [1, 2, 0, 1, 2])


def test_scatter_keeps_the_last_of_repeated_indices() -> None:
    x = np.zeros(3, np.float32)
    where = np.asarray([[1], [1], [-2]], np.int64)
    values = np.asarray([5, 6, 7], np.float32)
    for op, index in ((ScatterND(), where), (ScatterElements(0), where[:, 0])):
        np.testing.assert_array_equal(apply(op, x, index, values), [0, 7, 0])
        np.testing.assert_array_equal(loops_of(op, x, index, values), [0, 7, 0])


def test_bad_indices_are_errors_in_numpy_and_harmless_in_loops() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    bad = np.asarray([3, -4], np.int64)
    with pytest.raises(InputError, match="out of range"):
        Gather(0).reference(x, bad)
    np.testing.assert_array_equal(loops_of(Gather(0), x, bad), x[[2, 0]])
    with pytest.raises(InputError, match="out of range"):
        ScatterND().reference(x, bad[:, None], x[:2])
    np.testing.assert_array_equal(loops_of(ScatterND(), x, bad[:, None], x[:2]), x)


def test_top_k_orders_ties_by_index() -> None:
    x = np.asarray([2, 1, 2, 1, 2], np.int32)
    values, indices = TopK(0, 4).reference(x)
    assert values.tolist() == [2, 2, 2, 1] and indices.tolist() == [0, 2, 4, 1]
    values, indices = TopK(0, 3, largest=False).reference(x)
    assert values.tolist() == [1, 1, 2] and indices.tolist() == [1, 3, 0]


def test_identity_is_no_copy() -> None:
    x = normal(3)
    assert apply(Identity(), x) is x


def test_mean_of_integers_does_not_wrap() -> None:
    x = np.full((1, 300), 100, np.int8)
    assert apply(Reduce("mean", (1,)), x).item() == 100
    assert loops_of(Reduce("mean", (1,)), x).item() == 100


def test_resize_doubles_like_a_repeat() -> None:
    x = normal(1, 1, 3, 4)
    op = Resize((1, 1, 6, 8), (1.0, 1.0, 2.0, 2.0), "nearest", "asymmetric", "floor")
    np.testing.assert_array_equal(apply(op, x), x.repeat(2, 2).repeat(2, 3))


# ---- cost


def test_costs_count_a_multiply_add_as_two() -> None:
    x, w, b = (Type(dt.f32, s) for s in ((1, 3, 224, 224), (64, 3, 7, 7), (64,)))
    op = Conv((2, 2), (3, 3, 3, 3), (1, 1))
    cost = op.cost([x, w], op.infer([x, w]))
    assert cost.flops == 2 * 64 * 112 * 112 * 147
    assert cost.bytes == 4 * (3 * 224 * 224 + 64 * 147 + 64 * 112 * 112)
    assert op.cost([x, w, b], op.infer([x, w, b])).flops == cost.flops + 64 * 112 * 112
    a, c = Type(dt.f32, (5, 7, 16)), Type(dt.f32, (16, 9))
    assert MatMul().cost([a, c], MatMul().infer([a, c])).flops == 2 * 5 * 7 * 9 * 16


# ---- refusals

F, G = Type(dt.f32, (2, 3, 8, 8)), Type(dt.f32, (4, 3, 3, 3))
V, I = Type(dt.f32, (6,)), Type(dt.i64, (2,))
PLAIN = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
REFUSED: list[tuple[Op, list[Type], str]] = [
    (make("add"), [F, V], "broadcast"),
    (make("add"), [V, Type(dt.i32, (6,))], "different dtypes"),
    (make("add"), [Type(dt.boolean, (6,))] * 2, "does not take bool"),
    (make("exp"), [I], "does not take i64"),
    (Conv(**PLAIN), [F, V], "ranks"),
    (Conv(**PLAIN, groups=2), [F, G], "channels"),
    (Conv(**PLAIN, groups=3), [F, Type(dt.f32, (4, 1, 3, 3))], "do not divide"),
    (Conv(**PLAIN), [F, G, V], "bias"),
    (Conv(**PLAIN), [F, Type(dt.f32, (4, 3, 9, 9))], "larger than its padded axis"),
    (Conv(**{**PLAIN, "pads": (0, 0)}), [F, G], "pads does not fit"),
    (Conv(**{**PLAIN, "strides": (0, 1)}), [F, G], "strides out of range"),
    (Conv(**PLAIN), [Type(dt.i64, (2, 3, 8, 8)), Type(dt.i64, (4, 3, 3, 3))], "floating"),
    (ConvTranspose(**PLAIN, groups=1, output_padding=(0, 0)), [F, G], "channels"),
    (MatMul(), [F, G], "inner sizes"),
    (MatMul(), [Type(dt.f32, ()), V], "scalar"),
    (MatMul(transpose_a=True), [V, V], "rank-1"),
    (MaxPool((2,), (1,), (0, 0), (1,)), [V], "rank"),
    (Reduce("sum", (4,)), [F], "axis out of range"),
    (Reduce("sum", (1, -3)), [F], "twice"),
    (Reduce("l2", (0,)), [I], "floating"),
    (Reduce("max", (0,)), [Type(dt.f32, (0,))], "empty"),
    (ArgReduce("max", 0), [Type(dt.f32, ())], "axis"),
    (BatchNorm(), [F, V, V, V, V], "per-channel"),
    (LayerNorm(2), [F, V], "cannot be broadcast"),
    (GroupNorm(2), [F, *[Type(dt.f32, (3,))] * 2], "do not divide"),
    (LRN(0), [F], "size"),
    (Softmax(4), [F], "axis out of range"),
    (Attention(1.0), [F, F, G], "leading axes"),
    (Resize((1, 2), (1.0, 1.0)), [F], "rank"),
    (Resize((1, 1, 1, 1), (1.0, 1.0, 1.0, 0.0)), [F], "scale"),
    (Reshape((5,)), [V], "cannot become"),
    (Reshape((-1,)), [V], "negative"),
    (Transpose((0, 0)), [Type(dt.f32, (2, 2))], "permutation"),
    (Concat(0), [F, G, V], "differ"),
    (Slice((0,), (9,), (0,), (1,)), [V], "leaves"),
    (Split(0, (2, 3)), [V], "add up"),
    (Pad((1, 1)), [F], "pads"),
    (Pad((6, 0), "reflect"), [V], "too short"),
    (Pad((-4, -4)), [V], "cuts off"),
    (Tile((2,)), [F], "repeats"),
    (Expand((5,)), [V], "broadcast"),
    (Trilu(), [V], "rank"),
    (Gather(0), [V, V], "indices"),
    (Gather(0), [Type(dt.f32, (0, 2)), I], "empty"),
    (GatherElements(0), [F, I], "rank"),
    (GatherND(), [V, I], "last axis"),
    (ScatterND(), [V, I, V], "last axis"),
    (ScatterND(), [V, Type(dt.i64, (2, 1)), V], "updates"),
    (ScatterElements(0), [V, I, V], "updates"),
    (OneHot(0), [I, Type(dt.f32, (2,))], "depth"),
    (TopK(0, 9), [V], "does not fit"),
    (CumSum(0), [Type(dt.f32, ())], "axis"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_what_does_not_fit_is_refused(op: Op, inputs: list[Type], message: str) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        op.infer(inputs)
    assert caught.value.got is not None


@pytest.mark.parametrize(
    "op",
    [
        Conv(**PLAIN, layout="CHWN"),
        Reduce("median", (0,)),
        ArgReduce("mean", 0),
        Resize((2, 3, 8, 8), (1.0,) * 4, "sinc"),
        Resize((2, 3, 8, 8), (1.0,) * 4, coordinates="polar"),
        Pad((0,) * 8, "mirror"),
    ],
    ids=str,
)
def test_unknown_attribute_values_are_named(op: Op) -> None:
    with pytest.raises(UnsupportedError, match="unknown") as caught:
        op.infer([F, G] if isinstance(op, Conv) else [F])
    assert caught.value.expected is not None


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30])
def test_regions_whose_corners_are_no_places_hold_nothing(odd: float) -> None:
    x = np.abs(normal(2, 3, 6, 5)) + 1
    regions = np.array([[0, 1, 1, 4, 4], [0, odd, 1, 4, 4], [1, 0, odd, 3, 4], [0, odd, odd, odd, odd]], np.float32)
    op = MaxRoiPool((2, 3))
    with np.errstate(all="ignore"):
        found, looped = apply(op, x, regions), loops_of(op, x, regions)
    assert (found[0] >= 1).all()
    assert not found[3].any()
    np.testing.assert_array_equal(found, looped)
