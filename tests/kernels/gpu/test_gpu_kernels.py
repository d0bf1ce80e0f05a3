"""Suite x GPU kernels: samples of every op on every Triton kernel that accepts them, run by Triton's interpreter and compared with the oracle."""

from __future__ import annotations

import re

import numpy as np
import pytest

from strop.ir.op import Sample
from strop.kernels.base import Kernel, Region
from strop.kernels.table import GPU_KERNELS
from strop.kernels.triton import channel_pad, conv_gemm, gemm, pointwise, softmax_rows
from strop.kernels.triton.conv_gemm import KERNEL as CONV
from strop.kernels.triton.emit import GpuEmitted
from strop.kernels.triton.product import Params
from strop.ops.conv import Conv
from strop.ops.data import Pad
from strop.ops.matmul import MatMul
from strop.ops.softmax import LogSoftmax, Softmax
from strop.target.detect import parse
from tests.kernels import regions
from tests.kernels.gpu.cases import cases
from tests.kernels.gpu.interpreter import A100, check

#: What the interpreter lacks: functions of the device library, and products of bf16.
_LIBDEVICE = re.compile(r"libdevice\.")


def _interpreted(kernel: Kernel, region: Region) -> bool:
    text = "\n".join(launch.body for params in kernel.space(region, A100)[:1] for launch in _emitted(kernel, region, params).launches)
    views = [o.view for o in region.operands if o is not None]
    return not _LIBDEVICE.search(text) and not ("tl.dot" in text and any(v.dtype.name == "bf16" for v in views))


def _emitted(kernel: Kernel, region: Region, params: object) -> GpuEmitted:
    emitted = kernel.emit(region, params, A100)
    assert isinstance(emitted, GpuEmitted)
    return emitted


@pytest.mark.parametrize("kernel", [k for k in GPU_KERNELS if k.name not in ("loops", "channel_pad")], ids=lambda k: k.name)
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


def test_channels_are_padded():
    rng = np.random.default_rng(5)
    region, arrays = regions.anchored(Sample(Pad((0, 0, 0, 0, 0, 1, 0, 0)), (rng.standard_normal((2, 3, 9, 7)).astype(np.float32),)), "last", rng, True)
    check(channel_pad.KERNEL, region, arrays)


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
