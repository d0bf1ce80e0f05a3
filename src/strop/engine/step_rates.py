"""The least time of every step, and what it reaches of the multiply-adds that the cores can do in its precision.

Steps and multiply-adds are measured in turns, as a machine's clock wanders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from numpy.typing import ArrayLike

from strop.engine.describe import StepReport, describe
from strop.engine.engine import Engine
from strop.engine.roofline import MultiplyAdds
from strop.errors import StropError
from strop.runtime.context import Context
from strop.target.detect import host

#: Turns, and in each repetitions of the multiply-adds.
_TURNS, _REPEATS = 5, 2
#: Kinds of steps whose multiply-adds are counted.
_CONVS, _MATMULS = ("conv", "integer_conv", "mixed_conv"), ("matmul", "integer_matmul", "mixed_matmul")
#: Dtypes that a product's first factor may have, and the precision of the instructions that multiply it. Those of 16-bit floats other than bf16 are widened.
_PRECISIONS = {"f32": "fp32", "f16": "fp32", "bf16": "bf16", "u8": "int8", "i8": "int8"}


@dataclass(frozen=True)
class StepRate:
    """One step.

    Attributes:
        name: the layer it computes.
        nanoseconds: the least time it took.
        kernel: algorithm and parameters.
        operations: of its convolution or matrix product, epilogue not counted; a multiply-add counts 2. 0 for other steps.
        precision: whose multiply-adds ``of_peak`` is a share of: fp32, bf16 or int8; empty for other steps.
        of_peak: operations per second divided by the peak of the threads together. Above 1 where an algorithm needs fewer multiplications; None where no
            peak is known.
    """

    name: str
    nanoseconds: int
    kernel: str = ""
    operations: int = 0
    precision: str = ""
    of_peak: float | None = None

    @property
    def rate(self) -> float:
        """Operations per second."""
        return 1e9 * self.operations / self.nanoseconds if self.nanoseconds else 0.0


def step_rates(engine: Engine, context: Context, inputs: Mapping[str, ArrayLike], runs: int) -> tuple[tuple[StepRate, ...], dict[str, float]]:
    """The steps, and the peaks in operations per second by precision: none for a GPU, or without a compiler.

    Args:
        engine: what the context runs.
        context: idle; its threads are those that the peaks are measured on.
        inputs: arrays by name.
        runs: of the network, at least 1.
    """
    adds = _multiply_adds(engine, context.threads)
    turns = min(_TURNS, runs) if adds is not None else 1
    least: list[int] = []
    names: list[str] = []
    for turn in range(turns):
        if adds is not None:
            adds.measure(_REPEATS)
        times = context.profile(inputs, runs=max(1, runs * (turn + 1) // turns - runs * turn // turns))
        names = [t.name for t in times]
        least = [min(a, t.nanoseconds) for a, t in zip(least or [t.nanoseconds for t in times], times, strict=True)]
    peaks = {} if adds is None else adds.rates
    steps = describe(engine).steps
    known: list[StepReport | None] = [*steps] if len(steps) == len(names) else [None] * len(names)
    return tuple(_rate(name, ns, step, peaks) for name, ns, step in zip(names, least, known, strict=True)), peaks


def _multiply_adds(engine: Engine, threads: int) -> MultiplyAdds | None:
    """Those of the cores; None for a GPU, or without a compiler."""
    if str(engine.manifest.get("target")).startswith("cuda:"):
        return None
    try:
        return MultiplyAdds(host(), threads, None)
    except StropError:
        return None


def _rate(name: str, ns: int, step: StepReport | None, peaks: Mapping[str, float]) -> StepRate:
    if step is None:
        return StepRate(name, ns)
    operations = _operations(step)
    precision = _PRECISIONS.get((step.inputs[0] or "").partition("[")[0], "") if operations else ""
    peak = peaks.get(precision)
    share = None if peak is None or not ns else 1e9 * operations / ns / peak
    return StepRate(name, ns, step.kernel, operations, precision, share)


def _operations(step: StepReport) -> int:
    """Of a convolution or matrix product of fixed shapes; 0 for all else."""
    if step.kind not in (*_CONVS, *_MATMULS) or len(step.inputs) < 2:
        return 0
    weight, out = _shape(step.inputs[1]), _shape(step.outputs[0])
    if not weight or not out:
        return 0
    if step.kind in _CONVS:
        return 2 * prod(out) * prod(weight[1:])
    return 2 * prod(out) * prod(weight[-2:]) // out[-1]


def _shape(view: str | None) -> tuple[int, ...]:
    """The dims of ``f32[1,2]:(2,1)``; none where one of them is free."""
    dims = re.match(r"\w+\[([\d,]+)\]", view or "")
    return tuple(map(int, dims[1].split(","))) if dims else ()
