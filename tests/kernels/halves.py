"""Problems of f32 made ones of 16-bit floats, and kernels checked on them: results are those of f32 arithmetic on the same numbers, rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.kernels.base import Kernel, Operand, Region, View
from strop.kernels.oracle import expected
from strop.target.base import Target
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import compiled, run

Case = tuple[Region, Sequence[Array | None]]

#: Every target with and without the features that matter for 16-bit floats.
TARGETS_HERE = [
    t for base in TARGETS.values() for t in (base, *(replace(base, extras=(f,)) for f in base.optional if "bf16" in f)) if runs_here(t)
]
#: Half the distance of neighbouring numbers, relative to them, and what sums in another order add, relative to the largest result.
_HALF_UNIT = {"bf16": 2.0**-8, "f16": 2.0**-11, "f32": 1e-5}
_ORDER = 2e-5


def _typed(view: View, kind: DType) -> View:
    return replace(view, dtype=kind) if view.dtype is dt.f32 else view


def narrowed(case: Case, kind: DType, out: DType | None = None) -> Case:
    """The problem with f32 rounded to ``kind`` everywhere; the result in ``out``, if it is another type."""
    region, arrays = case

    def operand(given: Operand | None) -> Operand | None:
        if given is None:
            return None
        const = given.const if given.const is None or given.view.dtype is not dt.f32 else given.const.astype(kind.numpy)
        return Operand(_typed(given.view, kind), const, given.name)

    made = replace(region, operands=tuple(map(operand, region.operands)), outs=tuple(_typed(v, out or kind) for v in region.outs))
    return made, [None if a is None else a.astype(kind.numpy) if a.dtype == np.float32 else a for a in arrays]


def widened(case: Case) -> Case:
    """The problem on the same numbers as f32."""
    region, arrays = case
    kinds = (dt.bf16, dt.f16)

    def view(given: View) -> View:
        return replace(given, dtype=dt.f32) if given.dtype in kinds else given

    def operand(given: Operand | None) -> Operand | None:
        if given is None:
            return None
        const = given.const.astype(np.float32) if given.const is not None and given.view.dtype in kinds else given.const
        return Operand(view(given.view), const, given.name)

    made = replace(region, operands=tuple(map(operand, region.operands)), outs=tuple(map(view, region.outs)))
    return made, [a if a is None or dt.from_numpy(a.dtype) not in kinds else a.astype(np.float32) for a in arrays]


def check_halves(kernel: Kernel[Any], cases: Sequence[Case], targets: Sequence[Target] = tuple(TARGETS_HERE), every: bool = False) -> None:
    """The kernel on every problem, on every target, with the first and the last of its parameter sets, or all."""
    wanted = [expected(*widened(case)) for case in cases]
    for target in targets:
        work = []
        for number, (region, arrays) in enumerate(cases):
            assert kernel.accepts(region, target) is None, (region.signature(), kernel.accepts(region, target))
            space = kernel.space(region, target)
            for params in space if every else dict.fromkeys((space[0], space[-1])):
                assert kernel.cost(region, params, target) > 0
                work.append((number, region, arrays, params, kernel.emit(region, params, target)))
        functions = compiled([emitted for *_, emitted in work], target)
        for (number, region, arrays, params, emitted), function in zip(work, functions, strict=True):
            for got, want in zip(run(function, emitted, region, arrays, splits=2), wanted[number], strict=True):
                unit = _HALF_UNIT[region.out.dtype.name]
                scale = float(np.abs(want).max(initial=0.0))
                with np.errstate(all="ignore"):
                    off = np.abs(got.astype(np.float64) - want) - unit * np.abs(want) - _ORDER * scale
                worst = float(off.max(initial=0.0))
                assert not worst > 0 and not np.isnan(got.astype(np.float32)).any(), (
                    f"{kernel.name} {params} on {region.signature()} ({target} {target.extras}): off by {worst:g} of {scale:g}"
                )
