"""Resampling on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.resize import KERNEL, Params
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check_all

HERE = [t for t in TARGETS.values() if runs_here(t)]
X = Input(0)
NHWC, NCHW = (0, 2, 3, 1), (0, 1, 2, 3)


def case(shape, scales, order=NHWC, slack=0, epilogue=False, **attributes):
    """A region; ``slack`` further elements of the innermost axis belong to a wider buffer on both sides."""
    rng = np.random.default_rng(sum(shape))

    def view(dims):
        wide = list(dims)
        wide[order[-1]] += slack
        return View(tuple(dims), View.dense(wide, dt.f32, order).strides, dt.f32)

    sizes = tuple(int(d * s) for d, s in zip(shape, scales, strict=True))
    op = Resize(sizes, tuple(map(float, scales)), **attributes)
    x, y = view(shape), view(sizes)
    operands, arrays, expr = [Operand(x)], [rng.standard_normal(shape).astype(np.float32)], X
    if epilogue:
        channel = tuple(d if k == 1 else 1 for k, d in enumerate(sizes))
        operands += [Operand(y), Operand(View.dense(channel, dt.f32).broadcast(sizes))]
        arrays += [rng.standard_normal(sizes).astype(np.float32), rng.standard_normal(channel).astype(np.float32)]
        expr = call("max", X * Input(2) + Input(1), -0.5)
    return Region(f"{op} {shape} {order} {slack} {epilogue}", op, tuple(operands), 1, expr, (y,)), arrays


CASES = [
    *[case((2, 37, 5, 6), (1, 1, 2, 3), mode=mode, epilogue=e) for mode in ("nearest", "linear", "cubic") for e in (False, True)],
    *[case((1, 5, 9, 8), (1, 1, 0.6, 0.5), mode=mode, slack=3) for mode in ("nearest", "linear", "cubic")],
    *[case((1, 18, 9, 8), (1, 1, 0.4, 0.5), mode=mode, antialias=True, epilogue=True) for mode in ("linear", "cubic")],
    *[case((1, 3, 6, 7), (1, 1, 2, 2), NCHW, mode=mode, epilogue=True) for mode in ("nearest", "linear")],
    *[case((1, 20, 4, 5), (1, 1, 2, 1.5), mode="linear", coordinates=c) for c in ("asymmetric", "align_corners", "half_pixel_symmetric")],
    *[case((1, 20, 4, 5), (1, 1, 1.7, 1.5), nearest=n) for n in ("floor", "ceil", "round_prefer_ceil")],
    case((2, 33, 4, 5), (1, 1, 1, 3), mode="cubic", exclude_outside=True, cubic_a=-0.5),
    case((2, 33, 4, 5), (1, 1, 3, 1), mode="linear"),
    case((2, 7, 12), (1, 1, 2.5), order=(0, 2, 1), mode="linear", epilogue=True),
    case((3, 5, 6, 4), (2, 1, 1, 2), mode="linear"),
    case((1, 70, 3, 1), (1, 1, 2, 4), mode="linear", coordinates="pytorch_half_pixel"),
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_modes_and_layouts(target):
    done = check_all(KERNEL, CASES, target, every=target is HERE[0])
    assert done > len(CASES) or target is not HERE[0]
    check_all(KERNEL, CASES[::3], target.with_cores(5), every=False)


def test_refusals():
    target = HERE[0]
    region, _ = case((1, 4, 5, 6), (1, 1, 2, 2))
    assert KERNEL.accepts(region, target) is None
    assert "not resize" in KERNEL.accepts(Region(**{**region.__dict__, "op": Reduce("sum", (1,))}), target)
    cropped = region.op.replace(coordinates="tf_crop_and_resize", roi=(0.0,) * 4 + (1.0,) * 4)
    assert "outside" in KERNEL.accepts(Region(**{**region.__dict__, "op": cropped}), target)
    assert "0 axes" in KERNEL.accepts(case((1, 4, 5, 6), (1, 1, 1, 1))[0], target)
    assert "3 axes" in KERNEL.accepts(case((1, 4, 5, 6), (1, 2, 2, 2))[0], target)
    assert "left alone" in KERNEL.accepts(case((5, 6), (2, 2), order=(0, 1))[0], target)
    assert "nothing" in KERNEL.accepts(case((0, 4, 5, 6), (1, 1, 2, 2))[0], target)


def test_c_text(request):
    target = TARGETS["x86-64"].with_cores(1)
    region, _ = case((1, 6, 4, 5), (1, 1, 2, 2), mode="linear")
    texts = [KERNEL.emit(region, Params(way, 1), target).body for way in ("direct", "rows")]
    golden.check("c/resize.c", "\n\n".join(texts) + "\n", request.config)
