"""16-bit floats in the kernels that compute in f32: every f32 sample of an op made one of bf16 and of f16, in all layouts that a kernel accepts."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.kernels.c import (
    attention,
    conv_depthwise,
    conv_transpose,
    conv_winograd,
    elementwise,
    matmul,
    matmul_dot,
    norm,
    norm_channels,
    norm_lrn,
    pool,
    reduce,
    resize,
    softmax,
)
from strop.kernels.oracle import random_operands
from strop.kernels.table import refusal
from strop.target.detect import TARGETS, runs_here
from tests.kernels import regions
from tests.kernels.halves import TARGETS_HERE, Case, check_halves, narrowed
from tests.kernels.test_attention import CASES as ATTENTIONS
from tests.kernels.test_attention import attention as attention_case
from tests.kernels.test_conv_direct import conv_region
from tests.kernels.test_conv_transpose import WINDOWS

BEST = next(t for t in TARGETS.values() if runs_here(t))
#: Ops whose samples suit a kernel.
OPS = {
    attention.KERNEL: ("attention",),
    conv_depthwise.KERNEL: ("conv",),
    elementwise.KERNEL: ("elementwise",),
    matmul.KERNEL: ("matmul",),
    matmul_dot.KERNEL: ("matmul",),
    norm.KERNEL: ("layer_norm", "rms_norm", "group_norm"),
    norm_lrn.KERNEL: ("lrn",),
    norm_channels.KERNEL: ("instance_norm", "group_norm"),
    pool.KERNEL: ("max_pool", "average_pool"),
    reduce.KERNEL: ("reduce",),
    resize.KERNEL: ("resize",),
    softmax.KERNEL: ("softmax", "log_softmax"),
}
#: f16 differs in how elements are loaded and stored, which the quick tests see elsewhere.
KINDS = (dt.bf16, pytest.param(dt.f16, marks=pytest.mark.slow))
#: Targets for kernels that take long to compile.
TWO = [t for t in TARGETS_HERE if t.extras or t.isa == "avx2"]
#: Most problems of an op and kernel.
_MOST = 9


def cases(kernel, kind: dt.DType) -> list[Case]:
    rng = np.random.default_rng(2)
    found: list[Case] = []
    for name in OPS[kernel]:
        some: list[Case] = []
        for number, sample in enumerate(s for s in regions.samples(name) if all(a.dtype in (np.float32, np.bool_) for a in s.inputs)):
            layout = regions.LAYOUTS[number % 4]
            made = [regions.elementwise(sample, layout)] if kernel is elementwise.KERNEL else [
                regions.anchored(sample, layout, rng, number % 3 == 1, constants) for constants in (False, True)
            ]  # fmt: skip
            if name == "conv" and len(sample.inputs) == 3:
                made.append(regions.bias_in_epilogue(made[1]))
            out = dt.f32 if number % 5 == 3 else None
            halves = [narrowed(case, kind, out) for case in made if case[0].out.dtype is dt.f32]
            some += [case for case in halves if refusal(kernel, case[0], BEST) is None][:1]
        found += some[:: -(-len(some) // _MOST)] if some else []
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("kernel", OPS, ids=lambda k: k.name)
def test_rounded_once(kernel, kind):
    found = cases(kernel, kind)
    assert len(found) > 1
    check_halves(kernel, found, [t for t in TARGETS_HERE if kind is dt.bf16 or t.isa != "portable"])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_winograd_of_halves(kind):
    rng = np.random.default_rng(5)
    problems = [dict(n=2, c=24, h=13, w=14, o=35, k=3, pad=1), dict(n=1, c=16, h=12, w=12, o=20, k=3), dict(n=1, c=8, h=9, w=9, o=16, k=(1, 7), pad=(0, 3))]
    found = [narrowed(conv_region(rng, **problem), kind, dt.f32 if number == 1 else None) for number, problem in enumerate(problems)]
    check_halves(conv_winograd.KERNEL, found, TWO)


def test_attention_of_bf16():
    rng = np.random.default_rng(7)
    check_halves(attention.KERNEL, [narrowed(attention_case(rng, **case), dt.bf16) for case in ATTENTIONS.values()], TWO)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_transposed_convolutions_of_halves(kind):
    rng = np.random.default_rng(6)
    windows = [w for name, w in WINDOWS.items() if len(w.kernel) == 2 and name in ("4x4 stride 2", "unequal axes", "depthwise")]
    regions_made = [window.region(rng, (2, 5, 6)) for window in windows]
    found = [narrowed((region, random_operands(region, rng)), kind) for region in regions_made]
    check_halves(conv_transpose.KERNEL, found, TWO)
