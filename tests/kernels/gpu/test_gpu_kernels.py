"""Suite x GPU kernels: samples of every op on every Triton kernel that accepts them, run by Triton's interpreter and compared with the oracle."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Call, Cast, Const, Input
from strop.ir.op import REGISTRY, Sample
from strop.kernels.base import Kernel, Region
from strop.kernels.oracle import expected
from strop.kernels.table import GPU_KERNELS, refusal
from strop.kernels.triton import (
    channel_pad,
    conv_gemm,
    flash_attention,
    gemm,
    pointwise,
    recurrent_persistent,
    recurrent_steps,
    softmax_rows,
    top_k_rows,
)
from strop.kernels.triton.conv_gemm import KERNEL as CONV
from strop.kernels.triton.emit import GpuEmitted
from strop.kernels.triton.product import Params, StreamParams
from strop.ops.attention import Attention
from strop.ops.conv import Conv
from strop.ops.data import Pad
from strop.ops.index import TopK
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedConv, MixedMatMul
from strop.ops.quantize import Quantize
from strop.ops.recurrent import GRU, LSTM
from strop.ops.reduce import ArgReduce
from strop.ops.softmax import LogSoftmax, Softmax
from strop.target.base import Target
from strop.target.detect import parse
from tests.kernels import regions
from tests.kernels.gpu import together
from tests.kernels.gpu.cases import cases
from tests.kernels.gpu.interpreter import A100, check, run

#: What is not run here: functions of the device library but rint, and products of bf16, which the interpreter lacks.
_LIBDEVICE = re.compile(r"libdevice\.(?!rint)")


def _interpreted(kernel: Kernel, region: Region) -> bool:
    text = "\n".join(launch.body for params in kernel.space(region, A100)[:1] for launch in _emitted(kernel, region, params).launches)
    views = [o.view for o in region.operands if o is not None]
    return not _LIBDEVICE.search(text) and not ("tl.dot" in text and any(v.dtype.name == "bf16" for v in views))


def _emitted(kernel: Kernel, region: Region, params: object) -> GpuEmitted:
    return _emitted_for(kernel, region, params, A100)


def _emitted_for(kernel: Kernel, region: Region, params: object, target: Target) -> GpuEmitted:
    emitted = kernel.emit(region, params, target)
    assert isinstance(emitted, GpuEmitted)
    return emitted


@pytest.mark.parametrize("kernel", [k for k in GPU_KERNELS if k.name not in ("loops", "channel_pad", "recurrent_steps", "recurrent_persistent")], ids=lambda k: k.name)
def test_every_kernel_on_samples_that_it_accepts(kernel):
    found = [case for name in regions.all_names() for case in cases(kernel, name, A100, _interpreted)]
    assert found, f"no sample of any op is accepted by {kernel.name}"
    for region, arrays in found:
        check(kernel, region, arrays)


@pytest.mark.parametrize("name", ["concat", "conv_transpose", "cum_sum", "gather", "grid_sample", "pad", "resize", "scatter_nd", "top_k", "integer_matmul", "arg_reduce"])
def test_loops_does_what_no_other_kernel_does(name):
    kernel = next(k for k in GPU_KERNELS if k.name == "loops")
    found = cases(kernel, name, A100, _interpreted, most=3)
    assert found
    for region, arrays in found:
        check(kernel, region, arrays)


def _conv(shape, outs, kernel, stride=1, pad=0, dtype=np.float32, groups=1, layout="last", epilogue=False):
    rng = np.random.default_rng(3)
    op = Conv((stride,) * 2, (pad,) * 4, (1, 1), groups)
    x = rng.standard_normal(shape).astype(dtype)
    w = rng.standard_normal((outs, shape[1] // groups, *kernel)).astype(dtype)
    return regions.anchored(Sample(op, (x, w)), layout, rng, epilogue, constants=True)


@pytest.mark.parametrize("split", [1, 3, 9])
def test_programs_that_share_a_tile_add_up(split):
    region, arrays = _conv((2, 32, 7, 7), 24, (3, 3), pad=1, epilogue=True)
    check(CONV, region, arrays, Params(16, 32, 32, 4, 2, split))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "pad"), [((2, 4, 11, 13), (7, 7), 2, 3), ((2, 2, 8, 8), (3, 3), 1, 1), ((1, 4, 32, 32), (16, 16), 16, 0), ((1, 4, 9, 9), (3, 5), 1, 2)]
)
@pytest.mark.parametrize("bk", [16, 32, 64])
def test_a_row_of_a_window_is_one_run(shape, kernel, stride, pad, dtype, bk):
    region, arrays = _conv(shape, 24, kernel, stride, pad, dtype)
    emitted = _emitted(CONV, region, Params(16, 32, bk, 4, 2))
    assert "within" in emitted.launches[0].body
    check(CONV, region, arrays, Params(16, 32, bk, 4, 2))


def test_groups_are_products_of_their_own():
    region, arrays = _conv((2, 24, 6, 5), 12, (3, 3), pad=1, groups=3, epilogue=True)
    check(CONV, region, arrays, Params(16, 16, 16, 4, 2))


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("split", [1, 4])
def test_products_of_few_rows(rows, split):
    rng = np.random.default_rng(4)
    sample = Sample(MatMul(), (rng.standard_normal((rows, 128)).astype(np.float32), rng.standard_normal((128, 40)).astype(np.float32)))
    region, arrays = regions.anchored(sample, "dense", rng, constants=True)
    check(gemm.KERNEL, region, arrays, Params(16, 16, 32, 4, 2, split))


@pytest.mark.parametrize("op", [Softmax(-1), LogSoftmax(-1)])
def test_rows_of_a_vocabulary_are_held_by_sixteen_warps(op):
    rng = np.random.default_rng(7)
    region, arrays = regions.anchored(Sample(op, (rng.standard_normal((2, 32000)).astype(np.float32),)), "dense", rng, False)
    assert softmax_rows.KERNEL.takes(region, A100) is None
    assert [(p.rows, p.warps) for p in softmax_rows.KERNEL.space(region, A100)] == [(1, 16)]
    check(softmax_rows.KERNEL, region, arrays)


@pytest.mark.parametrize(
    "op", [TopK(-1, 1), TopK(-1, 5), TopK(-1, 4, largest=False), TopK(0, 2), ArgReduce("max", -1), ArgReduce("min", -1, last=True), ArgReduce("min", 0, keepdims=False)]
)
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int32])
@pytest.mark.parametrize("stretch", [32, 128, 512])
def test_the_best_of_stretches_are_the_best_of_rows(op, kind, stretch):
    """Many equal elements, zeros of both signs, infinities and NaN."""
    rng = np.random.default_rng(8)
    x = np.round(rng.standard_normal((3, 300)) * 2).astype(kind)
    if kind is not np.int32:
        x[0, 7::90], x[1, 3::50], x[1, 5], x[2, :9] = -0.0, -np.inf, np.inf, np.nan
    region, arrays = regions.anchored(Sample(op, (x,)), "dense", rng, False)
    check(top_k_rows.KERNEL, region, arrays, top_k_rows.Params(stretch, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_vectors_of_512_are_attended_to(dtype):
    rng = np.random.default_rng(9)
    q, k, v = (rng.standard_normal((2, rows, 512)).astype(dtype) for rows in (4, 25, 25))
    mask = np.where(np.arange(25) < np.array([[25], [9]]), 0, -np.inf)[:, None].astype(dtype)
    region, arrays = regions.anchored(Sample(Attention(0.05), (q, k, v, mask)), "dense", rng, True)
    for target in (A100, parse("cuda:sm_90")):
        for params in flash_attention.KERNEL.space(region, target):
            check(flash_attention.KERNEL, region, arrays, params, target)


@pytest.mark.parametrize("pads", [(0, 0, 0, 0, 0, 1, 0, 0), (0, 0, 3, 2, 0, 1, 1, 4), (0, 0, 0, 1, 0, 5, 0, 0)])
def test_channels_and_places_around_are_padded(pads):
    rng = np.random.default_rng(5)
    region, arrays = regions.anchored(Sample(Pad(pads), (rng.standard_normal((2, 3, 9, 7)).astype(np.float32),)), "last", rng, True)
    check(channel_pad.KERNEL, region, arrays)


def test_all_keys_are_one_block_of_attention():
    rng = np.random.default_rng(8)
    q, k, v = (rng.standard_normal((1, 2, n, 32)).astype(np.float16) for n in (70, 150, 150))
    region, arrays = regions.anchored(Sample(Attention(32**-0.5), (q, k, v)), "dense", rng, False)
    params = flash_attention.Params(64, 256, 4, 2)
    assert params in flash_attention.KERNEL.space(region, A100)
    check(flash_attention.KERNEL, region, arrays, params)


@pytest.mark.parametrize(("dtype", "coarse"), [(dt.f16, True), (dt.f32, False)])
def test_gelu_in_16_bits_needs_no_exact_erf(dtype, coarse):
    x = np.concatenate([np.linspace(-7, 7, 3000), [-1e4, 1e4, 0.0]]).astype(dtype.numpy)
    half, one, wide = (Const(c, dt.f32) for c in (0.5, 1.0, 2**-0.5))
    value = Cast(dt.f32, Input(0))
    gelu = Cast(dtype, Call("mul", (Call("mul", (half, value)), Call("add", (one, Call("erf", (Call("mul", (value, wide)),)))))))
    view = regions.view(x.shape, dtype, "dense")
    region = Region("gelu", None, (regions.Operand(view),), 0, gelu, (view,))
    emitted = _emitted(pointwise.KERNEL, region, pointwise.KERNEL.space(region, A100)[0])
    assert ("tl.erf" in emitted.launches[0].body) is not coarse
    (found,) = run(emitted, region, [x])
    wanted = [0.5 * v * (1 + math.erf(v * 2**-0.5)) for v in x.astype(float)]
    np.testing.assert_allclose(found.astype(float), wanted, rtol=1e-3 if coarse else 1e-6, atol=4e-6)


@pytest.mark.parametrize("shape", [(2, 40, 5, 36), (1, 64, 33)])
def test_transposes_go_through_tiles(shape):
    rng = np.random.default_rng(6)
    from_rows = regions.view(shape, regions.dt.f32, "dense")
    to_channels = regions.view(shape, regions.dt.f32, "last")
    region = Region("turn", None, (regions.Operand(from_rows),), 0, regions.Input(0), (to_channels,))
    assert "tl.program_id(1)" in _emitted(pointwise.KERNEL, region, pointwise.KERNEL.space(region, A100)[0]).launches[0].body
    check(pointwise.KERNEL, region, [rng.standard_normal(shape).astype(np.float32)])


def test_tiles_fit_into_shared_memory():
    region, _ = _conv((8, 64, 28, 28), 256, (3, 3), pad=1, dtype=np.float16)
    for name, most in (("cuda:sm_80", 163), ("cuda:sm_87", 163), ("cuda:sm_90", 227)):
        target = parse(name)
        sizes = [p.stages * (p.bm + p.bn) * p.bk * 2 for p in CONV.space(region, target)]
        assert sizes and max(sizes) <= most * 1024


def test_tf32_is_asked_for():
    region, _ = _conv((1, 32, 8, 8), 32, (1, 1))
    params = Params(16, 32, 32, 4, 2)
    exact, fast = (conv_gemm.KERNEL.emit(region, params, parse(name)).body for name in ("cuda:sm_90", "cuda:sm_90+tf32"))
    assert 'input_precision="tf32x3"' in exact and 'input_precision="tf32"' in fast


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize(("groups", "stride", "split"), [(1, 1, 1), (1, 2, 3), (2, 1, 1)])
def test_zero_points_count_only_inside_of_windows(kind, groups, stride, split):
    rng = np.random.default_rng(7)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    x = rng.integers(low, high + 1, (2, 64, 6, 5)).astype(kind)
    w = rng.integers(-127, 128, (24, 64 // groups, 3, 3)).astype(np.int8)
    op = IntegerConv((stride,) * 2, (1, 1, 2, 1), (1, 2), groups)
    region, arrays = regions.anchored(Sample(op, (x, w, np.asarray(low + 77, kind))), "last", rng, constants=True)
    check(CONV, region, arrays, Params(16, 16, 32, 4, 2, split))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("zero", [4, 5])
@pytest.mark.parametrize("kind", [dt.i8, dt.u8])
def test_quantizing_rounds_halves_to_even_and_saturates(kind, zero, known):
    values = np.concatenate([np.arange(-600, 600) / 4, [3e38, -3e38, 2.0**22, -(2.0**22) - 0.5, np.inf, -np.inf]]).astype(np.float32)
    arrays = [values, np.ones((), np.float32), np.asarray(zero, kind.numpy)]
    views = [regions.view(a.shape, t, "dense") for a, t in zip(arrays, (dt.f32, dt.f32, kind), strict=True)]
    operands = tuple(
        regions.Operand(v.broadcast(values.shape), a.reshape(-1) if known and k else None) for k, (v, a) in enumerate(zip(views, arrays, strict=True))
    )
    region = Region("quantize", None, operands, 0, Quantize(kind).expr([v.type for v in views]), (regions.view(values.shape, kind, "dense"),))
    assert "libdevice" not in _emitted(pointwise.KERNEL, region, pointwise.KERNEL.space(region, A100)[0]).launches[0].body
    check(pointwise.KERNEL, region, arrays)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_recurrent_layers_of_every_attribute(name, few, whole):
    """All directions, activations, clips, states, lengths and peepholes; sizes that fill tiles in part."""
    rng, kind = np.random.default_rng(7), REGISTRY[name]
    hidden = 18
    for number, op in enumerate(kind.variants()):
        given = set(kind.names) if number % 3 != 1 else {"x", "r"}
        dtype = regions.dt.f16 if (number + few + whole) % 2 else regions.dt.f32
        sample = kind._sample(rng, op.replace(projected=True), (2, 3, 4, hidden), given, dtype)
        region, arrays = regions.anchored(sample, regions.LAYOUTS[number % 4], rng, constants=number % 2 == 0)
        params = recurrent_steps.Params(1 if few else 16, 32 if whole else 8 if few else 16, 32, 4, 1, whole)
        check(recurrent_steps.KERNEL, region, arrays, params)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_a_single_step_is_one_launch(name):
    """Not where a GRU resets before its product: that needs what other programs have made."""
    rng, kind = np.random.default_rng(8), REGISTRY[name]
    for number, op in enumerate(kind.variants()):
        dtype = regions.dt.f16 if number % 2 else regions.dt.f32
        sample = kind._sample(rng, op.replace(projected=True), (1, 2, 4, 18), set(kind.names), dtype)
        region, arrays = regions.anchored(sample, regions.LAYOUTS[number % 4], rng)
        params = recurrent_steps.Params(1 if number % 3 else 16, 16, 32, 4, 1)
        emitted = _emitted(recurrent_steps.KERNEL, region, params)
        two = name == "gru" and not op.linear_before_reset
        assert (len(emitted.launches), emitted.locks) == ((3, 1) if two else (1, 0))
        check(recurrent_steps.KERNEL, region, arrays, params)


@pytest.mark.parametrize("way", [(1, 16, 32, 4), (16, 16, 64, 4, True), (16, 16, 16, 4)], ids=["sums", "split", "tiles"])
@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_weights_are_kept_for_all_steps(name, way):
    """As above; programs wait for each other."""
    rng, kind = np.random.default_rng(7), REGISTRY[name]
    for number, op in enumerate(kind.variants()):
        given = set(kind.names) if number % 3 != 1 else {"x", "r"}
        dtype, samples = regions.dt.f16 if (number + len(way)) % 2 else regions.dt.f32, 17 if number == 1 and way[0] > 1 else 1
        sample = kind._sample(rng, op.replace(projected=True), (2, samples, 4, (18, 32)[number % 2]), given, dtype)
        region, arrays = regions.anchored(sample, regions.LAYOUTS[number % 4], rng, constants=number % 2 == 0)
        check(recurrent_persistent.KERNEL, region, arrays, recurrent_persistent.Params(*way))


def test_a_program_that_waits_for_ever_is_found(monkeypatch):
    """Programs that are not counted in time: the tests above would find it."""
    monkeypatch.setattr(recurrent_persistent._Walk, "handed", lambda self, w: None)
    monkeypatch.setattr(together, "_MOST", 50)
    rng = np.random.default_rng(9)
    region, arrays = regions.anchored(LSTM._sample(rng, LSTM.default(projected=True), (2, 1, 4, 32), {"x", "r"}), "dense", rng)
    with pytest.raises(Exception, match="waits for ever"):
        check(recurrent_persistent.KERNEL, region, arrays, recurrent_persistent.Params(1, 16, 32, 4))


def test_programs_that_wait_are_resident_on_the_smallest_card():
    """Of H20, A30 and Orin Nano, whatever the layer: as many as registers and shared memory allow at once."""
    for name, cards in (("cuda:sm_90", 78), ("cuda:sm_80", 56), ("cuda:sm_87", 4)):
        target, found = parse(name), 0
        for kind, hidden, samples in ((LSTM, 64, 1), (LSTM, 512, 1), (LSTM, 512, 256), (LSTM, 1024, 64), (GRU, 256, 64), (LSTM, 2048, 1)):
            arrays = (np.zeros((8, samples, 2 * kind.gates * hidden), np.float16), np.zeros((2, kind.gates * hidden, hidden), np.float16))
            region, _ = regions.anchored(Sample(kind.default("bidirectional", projected=True), arrays), "dense", np.random.default_rng(0))
            space = recurrent_persistent.KERNEL.space(region, target)
            assert (refusal(recurrent_persistent.KERNEL, region, target) is None) == bool(space)
            for params in space:
                (launch,) = _emitted_for(recurrent_persistent.KERNEL, region, params, target).launches
                assert launch.cooperative and np.prod(launch.grid) <= cards * (2048 // (256 * params.warps))
            found += len(space)
        assert found


def test_a_recurrence_up_to_1024_units_and_256_samples_has_parameters():
    for hidden, samples in ((1, 1), (128, 1), (512, 64), (1024, 256)):
        arrays = (np.zeros((3, samples, 8 * hidden), np.float16), np.zeros((2, 4 * hidden, hidden), np.float16))
        region, _ = regions.anchored(Sample(LSTM.default("bidirectional", projected=True), arrays), "dense", np.random.default_rng(0))
        assert refusal(recurrent_steps.KERNEL, region, A100) is None
        found = recurrent_steps.KERNEL.space(region, A100)
        assert found and all(p.whole is False or p.bn >= hidden for p in found)



def _check_exact(kernel, region, arrays, params):
    """Weights of f32 with values of f16: results are as exact as those of f32, over the stored values."""
    stored = [arrays[0].astype(np.float16), *arrays[1:]]
    x = region.operand(0)
    narrow = replace(region, operands=(replace(x, view=replace(x.view, dtype=dt.f16)), *region.operands[1:]))
    assert kernel.takes(narrow, A100) is None
    wanted = expected(region, [stored[0].astype(np.float32), *stored[1:]])
    for found, one in zip(run(_emitted(kernel, narrow, params), narrow, stored), wanted, strict=True):
        np.testing.assert_allclose(found, one, rtol=0, atol=2e-6 * np.abs(one).max())


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "groups", "split"),
    [((2, 32, 7, 7), (3, 3), 1, 1, 1), ((2, 32, 7, 7), (3, 3), 1, 1, 3), ((1, 48, 5, 6), (1, 1), 1, 1, 1), ((2, 4, 12, 12), (7, 7), 2, 1, 1), ((1, 3, 9, 9), (3, 3), 1, 1, 1), ((1, 36, 6, 6), (3, 3), 1, 3, 1)],
)
def test_weights_of_f32_meet_values_of_f16(shape, kernel, stride, groups, split):
    region, arrays = _conv(shape, 24, kernel, stride, kernel[0] // 2, groups=groups)
    _check_exact(CONV, region, arrays, Params(16, 16, 16, 4, 2, split))


@pytest.mark.parametrize("split", [1, 4])
def test_products_with_weights_of_f32_and_values_of_f16(split):
    rng = np.random.default_rng(4)
    sample = Sample(MatMul(), (rng.standard_normal((20, 128)).astype(np.float32), rng.standard_normal((128, 40)).astype(np.float32)))
    region, arrays = regions.anchored(sample, "dense", rng, constants=True)
    _check_exact(gemm.KERNEL, region, arrays, Params(16, 16, 32, 4, 2, split))


@pytest.mark.parametrize("stream", [3, 7, 13])
def test_programs_walk_equal_shares_of_all_rounds(stream):
    """Tiles that one program begins and another ends, that many have a part in, and programs without work."""
    rng = np.random.default_rng(4)
    region, arrays = _conv((2, 32, 7, 7), 24, (3, 3), pad=1, epilogue=True)
    check(CONV, region, arrays, StreamParams(16, 16, 32, 4, 2, 1, stream))
    region, arrays = _conv((2, 24, 6, 5), 12, (3, 3), pad=1, groups=3, epilogue=True)
    check(CONV, region, arrays, StreamParams(16, 16, 16, 4, 2, 1, stream))
    sample = Sample(MatMul(), (rng.standard_normal((3, 70, 128)).astype(np.float32), rng.standard_normal((3, 128, 40)).astype(np.float32)))
    check(gemm.KERNEL, *regions.anchored(sample, "dense", rng), StreamParams(16, 16, 32, 4, 2, 1, stream))
    sample = Sample(IntegerMatMul(), (rng.integers(0, 256, (100, 128)).astype(np.uint8), rng.integers(-127, 128, (128, 40)).astype(np.int8), np.asarray(100, np.uint8)))
    check(gemm.KERNEL, *regions.anchored(sample, "dense", rng, constants=True), StreamParams(16, 16, 32, 4, 2, 1, stream))


def test_shares_are_offered_where_tiles_leave_a_wave_partly_empty():
    target = parse("cuda:sm_90")

    def shares(rows: int, columns: int, terms: int) -> list[StreamParams]:
        arrays = (np.zeros((rows, terms), np.float16), np.zeros((terms, columns), np.float16))
        region, _ = regions.anchored(Sample(MatMul(), arrays), "dense", np.random.default_rng(0), constants=True)
        return [p for p in gemm.KERNEL.space(region, target) if isinstance(p, StreamParams) and (p.bm, p.bn, p.bk) == (128, 256, 64)]

    (found, *_) = shares(200 * 128, 256, 1024)
    assert found.stream == target.cores
    assert not shares(2 * target.cores * 128, 256, 1024), "all waves are full"
    assert not shares(200 * 128, 256, 64), "there is nothing to share"
    assert not shares(20 * 128, 256, 1024), "programs share tiles evenly"


@pytest.mark.parametrize(("bits", "group", "zero"), [(8, 0, False), (8, 32, True), (4, 24, True), (4, 128, False)])
@pytest.mark.parametrize(("turned", "split"), [(False, 1), (True, 5)])
def test_weights_that_are_stored_as_integers_meet_floats(bits, group, zero, turned, split):
    rng = np.random.default_rng(6)
    w = rng.integers(-8, 8, (40, 160) if turned else (160, 40)).astype(np.int8)
    groups = [rng.standard_normal((-(-160 // group), 40)).astype(np.float32) for _ in range(1 + zero)] if group else []
    region, arrays = regions.anchored(Sample(MixedMatMul(bits, group, turned), (rng.standard_normal((2, 9, 160)).astype(np.float32), w, *groups)), "dense", rng, True, True)
    check(gemm.KERNEL, region, arrays, Params(16, 16, 32, 4, 2, split))


@pytest.mark.parametrize(("group", "zero"), [(0, False), (16, True), (24, True)])
@pytest.mark.parametrize(("stride", "split"), [(1, 1), (2, 3)])
def test_convolutions_with_weights_that_are_stored_as_integers(group, zero, stride, split):
    rng = np.random.default_rng(6)
    groups = [rng.standard_normal((-(-96 // group), 20)).astype(np.float32) for _ in range(1 + zero)] if group else []
    arrays = (rng.standard_normal((2, 96, 5, 7)).astype(np.float32), rng.integers(-8, 8, (20, 96, 1, 1)).astype(np.int8), *groups)
    region, arrays = regions.anchored(Sample(MixedConv(4, group, (stride, stride)), arrays), "last", rng, True, True)
    check(CONV, region, arrays, Params(16, 16, 32, 4, 2, split))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("split", [1, 2])
def test_a_zero_point_may_be_found_late(kind, split):
    rng = np.random.default_rng(7)
    low = np.iinfo(kind).min
    x, w = rng.integers(low, low + 256, (33, 128)).astype(kind), rng.integers(-127, 128, (128, 40)).astype(np.int8)
    region, arrays = regions.anchored(Sample(IntegerMatMul(), (x, w, np.asarray(low + 77, kind))), "dense", rng, constants=True)
    late = replace(region, operands=(*region.operands[:2], replace(region.operand(2), const=None)))
    assert refusal(gemm.KERNEL, late, A100) is None
    check(gemm.KERNEL, late, arrays, Params(16, 16, 32, 4, 2, split))


@pytest.mark.parametrize("kinds", [(np.uint8, np.uint8), (np.int8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
@pytest.mark.parametrize("zeros", [(), (7,), (7, -3)])
@pytest.mark.parametrize(("batch", "terms", "params"), [((), 128, Params(16, 16, 32, 4, 2, 2)), ((3,), 50, Params(16, 16, 32, 4, 2))])
def test_factors_and_zero_points_that_only_a_run_knows(kinds, zeros, batch, terms, params):
    rng = np.random.default_rng(7)
    factors = [rng.integers(np.iinfo(k).min, np.iinfo(k).max + 1, (*batch, *shape)).astype(k) for k, shape in zip(kinds, ((33, terms), (terms, 40)), strict=True)]
    points = [np.asarray(np.iinfo(k).min + 120 + z, k) for k, z in zip(kinds, zeros, strict=False)]
    for constants in (False, True):
        region, arrays = regions.anchored(Sample(IntegerMatMul(), (*factors, *points)), "dense", rng, constants=constants)
        assert refusal(gemm.KERNEL, region, A100) is None
        check(gemm.KERNEL, region, arrays, params)
