"""Kernels that walk a result by rows and runs, and transposed convolutions by phases: odd sizes, every layout, parts of tiles; and that they are chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from strop.ir.op import Sample
from strop.kernels.table import candidates
from strop.kernels.triton import conv_transpose_phases, gather_runs, resize_taps
from strop.kernels.triton.emit import GpuEmitted
from strop.kernels.triton.places import Params
from strop.ops.conv import ConvTranspose
from strop.ops.data import Pad
from strop.ops.index import Gather, GatherElements
from strop.ops.integer import IntegerMatMul
from strop.ops.mixed import MixedConv, MixedMatMul
from strop.ops.resize import Resize
from strop.target.detect import parse
from tests.kernels import regions
from tests.kernels.gpu.interpreter import A100, check, run


def _normal(*shape, dtype=np.float32):
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


def _case(op, *arrays, layout="dense", epilogue=False, constants=False):
    return regions.anchored(Sample(op, arrays), layout, np.random.default_rng(4), epilogue, constants)


@pytest.mark.parametrize("params", [Params(16, 32, 4), Params(64, 16, 8)])
@pytest.mark.parametrize("layout", ["dense", "last", "slice"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices_are_gathered_along_every_axis(axis, layout, params):
    x = _normal(3, 7, 37)
    indices = np.random.default_rng(5).integers(-x.shape[axis], x.shape[axis], (2, 9)).astype(np.int64)
    region, arrays = _case(Gather(axis), x, indices, layout=layout, epilogue=True)
    check(gather_runs.KERNEL, region, arrays, params)


def test_an_index_is_loaded_once_for_a_run():
    region, _ = _case(Gather(0), _normal(50, 96, dtype=np.float16), np.zeros((12,), np.int64))
    text = gather_runs.KERNEL.emit(region, Params(4, 32, 1), A100).body
    (line,) = [line for line in text.splitlines() if "tl.load(x1" in line]
    assert "[None, :]" not in line, "it is loaded for every element"


def test_an_index_out_of_range_reads_nothing_outside():
    x, indices = _normal(6, 40), np.asarray([-600, 2, 600, -6, 5], np.int32)
    region, arrays = _case(Gather(0), x, indices)
    emitted = gather_runs.KERNEL.emit(region, Params(4, 32, 1), A100)
    assert isinstance(emitted, GpuEmitted)
    (found,) = run(emitted, region, arrays)
    np.testing.assert_array_equal(found, x[[0, 2, 5, 0, 5]])


def test_elements_have_indices_of_their_own():
    indices = np.random.default_rng(5).integers(-9, 9, (9, 33)).astype(np.int64)
    region, arrays = _case(GatherElements(0), _normal(9, 33), indices, layout="last", epilogue=True)
    check(gather_runs.KERNEL, region, arrays, Params(2, 16, 1))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("layout", ["dense", "last", "reversed"])
def test_axes_are_padded_and_cut(layout, mode):
    region, arrays = _case(Pad((0, 2, 3, -2, 0, 1, 4, 9), mode, 2.5), _normal(1, 18, 7, 12), layout=layout, epilogue=True)
    check(gather_runs.KERNEL, region, arrays, Params(64, 32, 8))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("layout", "params"), [("last", Params(32, 32, 4)), ("dense", Params(64, 16, 4)), ("slice", Params(1024, 1, 4))])
def test_images_of_odd_sizes_are_resized(layout, params, mode, dtype):
    region, arrays = _case(Resize((1, 20, 11, 17), (1.0, 1.0, 11 / 7, 17 / 9), mode), _normal(1, 20, 7, 9, dtype=dtype), layout=layout, epilogue=dtype == np.float32)
    check(resize_taps.KERNEL, region, arrays, params)


def test_many_taps_are_a_loop():
    region, arrays = _case(Resize((1, 18, 5, 6), (1.0, 1.0, 0.25, 0.3), "linear", antialias=True), _normal(1, 18, 20, 20), layout="last")
    assert "for tap0 in" in resize_taps.KERNEL.emit(region, Params(32, 32, 4), A100).body
    check(resize_taps.KERNEL, region, arrays, Params(32, 32, 4))


@pytest.mark.parametrize("epilogue", [False, True])
@pytest.mark.parametrize("layout", ["dense", "last"])
@pytest.mark.parametrize(("ins", "outs", "kernel", "stride", "pad"), [(24, 8, 2, 2, 0), (17, 9, 4, 2, 1), (20, 5, 3, 2, 1), (18, 1, 2, 2, 0), (16, 3, 5, 3, 2)])
def test_transposed_convolutions_are_taken_apart(ins, outs, kernel, stride, pad, layout, epilogue):
    op = ConvTranspose((stride,) * 2, (pad,) * 4, (1, 1), 1, (0, 0))
    region, arrays = _case(op, _normal(2, ins, 5, 4), _normal(ins, outs, kernel, kernel), layout=layout, epilogue=epilogue, constants=True)
    emitted = conv_transpose_phases.KERNEL.emit(region, conv_transpose_phases.KERNEL.space(region, A100)[0], A100)
    assert isinstance(emitted, GpuEmitted)
    alike = kernel == stride and (outs == 1 or (layout == "last" and not epilogue))
    assert len(emitted.launches) == (1 if alike else stride * stride)
    check(conv_transpose_phases.KERNEL, region, arrays)


def test_a_bias_is_repeated_for_columns_side_by_side():
    op = ConvTranspose((2, 2), (0,) * 4, (1, 1), 1, (0, 0))
    case = _case(op, _normal(1, 20, 5, 4), _normal(20, 6, 2, 2), _normal(6), layout="last", constants=True)
    region, arrays = regions.bias_in_epilogue(case)
    emitted = conv_transpose_phases.KERNEL.emit(region, conv_transpose_phases.KERNEL.space(region, A100)[0], A100)
    assert isinstance(emitted, GpuEmitted) and len(emitted.launches) == 1 and "e0_0" in emitted.names
    check(conv_transpose_phases.KERNEL, region, arrays)


def _late():
    arrays = (np.ones((128, 384), np.uint8), np.ones((384, 384), np.int8), np.asarray(7, np.uint8))
    region, given = _case(IntegerMatMul(), *arrays, constants=True)
    return replace(region, operands=(*region.operands[:2], replace(region.operand(2), const=None))), given


_CHOSEN = {
    "gather_runs": lambda: _case(Gather(0), _normal(3000, 384, dtype=np.float16), np.zeros((128,), np.int64)),
    "gather_runs of pads": lambda: _case(Pad((0, 0, 128, 0, 0, 128), "reflect"), _normal(1, 1, 21922)),
    "resize_taps": lambda: _case(Resize((1, 64, 80, 80), (1.0, 1.0, 2.0, 2.0), "linear"), _normal(1, 64, 40, 40, dtype=np.float16), layout="last"),
    "conv_transpose_phases": lambda: _case(
        ConvTranspose((2, 2), (0,) * 4, (1, 1), 1, (0, 0)), _normal(1, 24, 80, 80), _normal(24, 24, 2, 2), layout="last", constants=True
    ),
    "gemm of bytes whose zero point is found late": _late,
    "conv_gemm": lambda: _case(MixedConv(8, 0, (1, 1)), _normal(1, 96, 20, 20), np.ones((96, 96, 1, 1), np.int8), layout="last", constants=True),
    "gemm": lambda: _case(MixedMatMul(8, 0), _normal(16, 384), np.ones((384, 384), np.int8), constants=True),
}  # fmt: skip


@pytest.mark.parametrize("name", _CHOSEN)
@pytest.mark.parametrize("target", ["cuda:sm_80", "cuda:sm_87", "cuda:sm_90"])
def test_they_are_chosen_before_loops(target, name):
    region, _ = _CHOSEN[name]()
    found = [c.kernel.name for c in candidates(region, parse(target))]
    assert found[0] == name.split()[0] and "loops" in found
