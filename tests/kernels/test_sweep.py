"""Suite x kernels: every sample of every op on every kernel of the table that accepts it, with the parameters it likes best."""

from __future__ import annotations

import numpy as np
import pytest

from strop.kernels.c import naive
from strop.kernels.c.dot_emitter import native
from strop.kernels.table import KERNELS, refusal
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.target.detect import TARGETS, host, runs_here
from strop.target.isa.table import ISAS, multiplies_pairs
from tests.kernels import regions
from tests.kernels.harness import check_all

HERE = [host(), *[t for t in TARGETS.values() if runs_here(t)][1:]]
BEST = HERE[0]
#: Kernels that no sample suits, and why.
UNSUITED = {
    **dict.fromkeys(("custom", "custom_library", "custom_callback"), "no built-in op is a custom layer; see test_custom.py"),
    **dict.fromkeys(("non_zero", "unique", "nms"), "it finds a size: see its own tests"),
}
#: Instructions without which a kernel is of no use.
FEATURES = {"conv_depthwise_dot": ("vdot4", "vquads"), "conv_int8_pipelined": ("vdot4",)}
#: Vector registers without which a kernel is of no use.
REGISTERS = {"conv_int8_pipelined": 32}
#: Kernels for x86-64 processors that multiply pairs, and not quads, of bytes.
PAIRS = ("conv_int8_pairs", "conv_int8_small")


def _naive_cases(name: str, step: int = 1) -> list[regions.Case]:
    """Each sample in one of the layouts, every other one with an epilogue."""
    rng = np.random.default_rng(11)
    return [
        regions.anchored(sample, regions.LAYOUTS[number % 4], rng, epilogue=number % 2 == 1)
        for number, sample in enumerate(regions.samples(name))
        if number % step == 0
    ]


def _accepted(kernel, name: str, target) -> list[regions.Case]:
    """Each sample in each layout, with operands as constants where the kernel wants them so; in one layout where there are many."""
    rng = np.random.default_rng(11)
    found = []
    for number, sample in enumerate(regions.samples(name)):
        scalar = isinstance(sample.op, (Elementwise, Cast))
        layouts = [regions.LAYOUTS[number % 4]] if scalar or target is not BEST else regions.LAYOUTS
        for k, layout in enumerate(layouts):
            epilogue = (number + k) % 2 == 1
            ways = [regions.anchored(sample, layout, rng, epilogue, constants) for constants in (False, True)]
            if sample.op.name in ("conv", "conv_transpose") and len(sample.inputs) == 3:
                ways += [regions.bias_in_epilogue(ways[1])]
            if isinstance(sample.op, (IntegerConv, IntegerMatMul)):
                ways += [regions.anchored(regions.halved(sample), layout, rng, epilogue, constants=True)]
            if scalar:
                ways.insert(0, regions.elementwise(sample, layout))
            found += [case for case in ways if refusal(kernel, case[0], target) is None][:1]
    return found


@pytest.mark.parametrize("name", regions.all_names())
def test_naive_does_every_op(name):
    cases = _naive_cases(name, 3 if name == "resize" else 1)
    refused = {region.name: refusal(naive.KERNEL, region, BEST) for region, _ in cases}
    assert not {k: v for k, v in refused.items() if v}, "naive must do whatever has a loop program"
    check_all(naive.KERNEL, cases, BEST)


@pytest.mark.parametrize("name", ["conv", "max_pool", "reduce", "gather", "cast", "top_k"])
@pytest.mark.parametrize("target", HERE[1:], ids=str)
def test_naive_on_other_targets(name, target):
    check_all(naive.KERNEL, _naive_cases(name, 5), target)


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.name != "naive"], ids=lambda k: k.name)
def test_every_kernel_on_every_sample_it_accepts(kernel, target):
    found = {name: _accepted(kernel, name, target) for name in regions.all_names()}
    cases = [c for some in found.values() for c in (some[::4] if target is not BEST and len(some) > 50 else some)]
    if kernel.name in UNSUITED:
        assert not cases, f"{kernel.name} is no longer unsuited"
        pytest.skip(UNSUITED[kernel.name])
    if not cases and kernel.name in FEATURES and not all(native(instruction, target) for instruction in FEATURES[kernel.name]):
        pytest.skip(f"{target} has no {' or '.join(FEATURES[kernel.name])}")
    if not cases and ISAS[target.isa].registers < REGISTERS.get(kernel.name, 0):
        pytest.skip(f"{target} has less than {REGISTERS[kernel.name]} vector registers")
    if not cases and kernel.name in PAIRS and not multiplies_pairs(target):
        pytest.skip(f"{target} multiplies quads of bytes, or no pairs")
    assert cases, f"no sample of any op is accepted by {kernel.name}"
    check_all(kernel, cases, target, every=False)
